"""Conversations: what was said, turn by turn, and a place in the model's cache where it is kept between turns.

A turn that ends well, or that its reader leaves, counts with what was read of its answer; one that fails leaves no
trace.  Both forms share `_Floor` and `_Turn`; only the waiting differs.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from llmos._models import ModelInfo, control_message
from llmos._requests import Messages, Options, Request, opening, prompt, text_request
from llmos._stream import AsyncStream, Progress, Stream
from llmos._targets import AUTO, Target, Tries
from llmos._text import Text
from llmos_kernel import Handle
from llmos_kernel.api import Auto, Context
from llmos_kernel.api import Model as ModelRequest
from llmos_kernel.errors import HandleRevoked, InvalidArgument, KernelError

if TYPE_CHECKING:
    from llmos._running import AsyncRunner, Runner
    from llmos_kernel import TaskHandle


class _Floor:
    """What was said, who speaks now, and the right to speak: one turn after the other."""

    def __init__(self, model: str, said: list[dict[str, Any]], dropped: deque[Handle]) -> None:
        self.handle: Handle | Auto | None = None
        """The context, the model where no context was asked for, or what a router is asked for each turn."""
        self.closed = False
        self._model, self._said, self._dropped = model, said, dropped
        self._turn: weakref.ref[_Turn] | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        # The collector may run anywhere, even where the kernel's lock is held: the runner closes the handle later.
        if isinstance(self.handle, Handle) and not self.closed:
            self._dropped.append(self.handle)

    def keep(self, handle: Handle | Auto) -> None:
        """Let turns run on *handle*, unless there is one already or the floor is closed: then give it back."""
        if not self.closed and self.handle is None:
            self.handle = handle
        elif isinstance(handle, Handle):
            handle.close()

    def target(self) -> Target:
        """Return what turns run on; raise `HandleRevoked` where it was closed before it was there."""
        if self.handle is None:
            raise HandleRevoked("the conversation is closed")
        return Target(self._model, self.handle)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said until now."""
        return [dict(message) for message in self._said]

    def clear(self) -> None:
        """Forget all but what the model was told first."""
        with self._lock:
            self._check()
            self._said = [message for message in self._said[:1] if message["role"] == "system"]

    def close(self) -> None:
        """Stop the turn that goes on, and give the handle back."""
        with self._lock:
            self.closed = True
            turn = self._turn() if self._turn is not None else None
        if turn is not None:
            turn.close()
        if isinstance(self.handle, Handle):
            self.handle.close()

    def claim(self, turn: _Turn) -> list[dict[str, Any]]:
        """Let *turn* be the one that goes on, and return what is said with it; raise if none could begin."""
        with self._lock:
            self._check()
            self._turn = weakref.ref(turn)
            return [*self.messages, {"role": "user", "content": turn.asked}]

    def over(self, turn: _Turn, answer: str | None) -> None:
        """Note the end of *turn*, unless that is known; None for an *answer* that does not count."""
        with self._lock:
            if self._turn is None or self._turn() is not turn:
                return
            self._turn = None
            if answer is not None:
                self._said += [{"role": "user", "content": turn.asked}, {"role": "assistant", "content": answer}]

    def _check(self) -> None:
        if self.closed:
            raise HandleRevoked("the conversation is closed")
        if self._turn is not None and self._turn() is not None:
            expected = "one turn after the other: read the last answer to its end, or close it"
            message = f"a conversation is {expected}"
            raise InvalidArgument(message, field="text", value="another turn", expected=expected)


class _Turn(Progress):
    """A question and the answer to it, which may be under way."""

    asked: str
    """What the user said."""
    _floor: _Floor

    def close(self) -> None:
        """Cancel the task unless it has ended; what was read counts as the answer."""
        answer = self.text_so_far if self._text is None else str(self._text)
        self._floor.over(self, None if self._error is not None else answer)
        super().close()

    def forget(self) -> None:
        """Cancel the task unless it has ended; the question counts as not asked."""
        self._floor.over(self, None)
        super().close()

    def _leave(self, error: object) -> None:
        """Close it; an *error* of the kernel is a turn that failed."""
        if isinstance(error, KernelError):
            self.forget()
        else:
            self.close()


class _SyncTurn(_Turn, Stream):
    """A turn, for threads."""

    def __init__(self, floor: _Floor, runner: Runner, asked: str, request: Request) -> None:
        self._floor, self.asked = floor, asked
        said = floor.claim(self)
        try:
            super().__init__(runner, _filled(request, floor.target(), said))
        except BaseException:
            floor.over(self, None)
            raise

    def __exit__(self, *exc: object) -> None:
        self._leave(exc[1])


class _AsyncTurn(_Turn, AsyncStream):
    """A turn, for asyncio.  *opened* waits for the handle that it runs on."""

    def __init__(
        self, floor: _Floor, runner: AsyncRunner, asked: str, request: Request,
        opened: Callable[[], Awaitable[Target]],
    ) -> None:  # fmt: skip
        self._floor, self.asked, self._opened = floor, asked, opened
        super().__init__(runner, request)

    async def __aexit__(self, *exc: object) -> None:
        self._leave(exc[1])

    async def _begin(self) -> TaskHandle:
        if self._handle is not None:
            return self._handle
        said = self._floor.claim(self)
        try:
            self._tries = Tries(_filled(self._tries.request, await self._opened(), said))
            return await super()._begin()
        except BaseException:
            self._floor.over(self, None)
            raise


class _Talk:
    """What both kinds of conversation share."""

    def __init__(
        self, model: str | Auto, system: str | None, earlier: Messages, tokens: int | None, dropped: deque[Handle]
    ) -> None:
        """A router chooses anew for each turn, so *model* may be `Auto` only without a context."""
        if isinstance(model, Auto) and tokens != 0:
            expected = "0, or a model's name: a context stays on the model where it is"
            raise InvalidArgument("a router keeps no contexts: tokens=0 converses without one", field="tokens",
                value=tokens, expected=expected)  # fmt: skip
        self._model, self._tokens = model, tokens
        self._floor = _Floor(AUTO if isinstance(model, Auto) else model, opening(system, earlier), dropped)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said until now, as `Model.chat` takes it."""
        return self._floor.messages

    def clear(self) -> None:
        """Forget what was said, but not what the model was told first; raises as `say` does while a turn goes on."""
        self._floor.clear()

    def close(self) -> None:
        """Stop the turn that goes on and give the context back.  What was said stays in `messages`."""
        self._floor.close()

    def _longest(self, info: Any) -> int:  # noqa: ANN401 - the answer of the control port
        """Return how many tokens the context takes where nobody said so: as many as the model."""
        facts = ModelInfo.from_plain(info)
        if not facts.keeps_contexts:
            message = f"model {self._model!r} keeps no contexts: tokens=0 converses without one"
            raise InvalidArgument(message, field="tokens", value=None, expected="0, or a model that keeps contexts")
        return facts.longest_context


class Conversation(_Talk):
    """A conversation.  Made by `Model.conversation`; closing it gives its context back."""

    def __init__(
        self, runner: Runner, model: str | Auto, system: str | None, earlier: Messages, tokens: int | None,
        timeout: float | None,
    ) -> None:  # fmt: skip
        super().__init__(model, system, earlier, tokens, runner.dropped)
        self._runner = runner
        self._floor.handle = self._open(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def say(self, text: str, **options: Unpack[Options]) -> Text:
        """Return the answer to *text*.

        Raises `InvalidArgument` where what was said is longer than the context, or while another turn goes on, and
        `HandleRevoked` after `close`.
        """
        turn = self._turn(text, options, stream=False)
        try:
            return turn.result()
        except BaseException:
            turn.forget()
            raise

    def stream(self, text: str, **options: Unpack[Options]) -> Stream:
        """Answer *text*, piece by piece; what was read of a stream that is closed early counts as the answer."""
        return self._turn(text, options, stream=True)

    def _turn(self, text: str, options: Options, *, stream: bool) -> _SyncTurn:
        return _SyncTurn(self._floor, self._runner, prompt(text), _blank(options, stream=stream))

    def _open(self, timeout: float | None) -> Handle | Auto:
        """Return a right of the conversation's own to run the model, with a context unless none was asked for."""
        if isinstance(self._model, Auto):
            return self._model
        model = self._runner.process.alloc(ModelRequest(self._model), timeout=timeout)
        if self._tokens == 0:
            return model
        with model:
            tokens = self._tokens
            if tokens is None:
                tokens = self._longest(self._runner.ask(control_message("InspectModel", self._model), timeout))
            return self._runner.process.alloc(Context(model, tokens), timeout=timeout)


class AsyncConversation(_Talk):
    """`Conversation` for asyncio; ``async with``, or the first turn, opens its context."""

    def __init__(
        self, runner: AsyncRunner, model: str | Auto, system: str | None, earlier: Messages, tokens: int | None,
        timeout: float | None,
    ) -> None:  # fmt: skip
        super().__init__(model, system, earlier, tokens, runner.dropped)
        self._runner, self._timeout = runner, timeout

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def say(self, text: str, **options: Unpack[Options]) -> Text:
        """Return the answer to *text*; raises as `Conversation.say` does."""
        turn = self._turn(text, options, stream=False)
        try:
            return await turn.result()
        except BaseException:
            turn.forget()
            raise

    def stream(self, text: str, **options: Unpack[Options]) -> AsyncStream:
        """Answer *text*, piece by piece; what was read of a stream that is closed early counts as the answer."""
        return self._turn(text, options, stream=True)

    def _turn(self, text: str, options: Options, *, stream: bool) -> _AsyncTurn:
        request = _blank(options, stream=stream)
        return _AsyncTurn(self._floor, self._runner, prompt(text), request, self._opened)

    async def _opened(self) -> Target:
        """Return what turns run on, opened when it is first needed."""
        if self._floor.handle is None:
            self._floor.keep(await self._open())
        return self._floor.target()

    async def _open(self) -> Handle | Auto:
        if isinstance(self._model, Auto):
            return self._model
        process, timeout = self._runner.process, self._timeout
        model = await process.alloc(ModelRequest(self._model), timeout=timeout)
        if self._tokens == 0:
            return model
        with model:
            tokens = self._tokens
            if tokens is None:
                tokens = self._longest(await self._runner.ask(control_message("InspectModel", self._model), timeout))
            return await process.alloc(Context(model, tokens), timeout=timeout)


def _blank(options: Options, *, stream: bool) -> Request:
    """Return the request of a turn, in which target and input are missing."""
    return text_request("chat", None, options, stream=stream)


def _filled(request: Request, target: Target, said: list[dict[str, Any]]) -> Request:
    return attrs.evolve(request, task=attrs.evolve(request.task, input=said)).aimed((target,))
