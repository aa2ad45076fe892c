"""The client for asyncio: the same names, the same errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from llmos._conversation import AsyncConversation
from llmos._default import lease_kernel
from llmos._elsewhere import named_spec
from llmos._models import (
    ModelInfo, ModelRequests, any_model, auto_info, check_fallbacks, control_message, note_alias,
    warn_of_fallback,
)  # fmt: skip
from llmos._requests import Messages, Options, Request, call_request, repeated
from llmos._running import AsyncRunner
from llmos._stream import AsyncStream
from llmos._streams import AsyncStreams
from llmos._targets import AUTO, Target
from llmos._task_runs import Answer, run_one_async
from llmos._text import Text
from llmos._trace import Trace
from llmos_kernel.api import Auto, Credentials
from llmos_kernel.api import Model as ModelRequest
from llmos_kernel.errors import ModelUnavailable, NotFound, PermissionDenied, PluginError, ResourceError

if TYPE_CHECKING:
    from llmos._settings import Settings
    from llmos._supervisor import Supervisor
    from llmos._task_file import TaskFile
    from llmos_kernel import Handle, Kernel, KernelConfig, ModelSpec, TaskHandle
    from llmos_kernel.aio import AsyncProcess


class AsyncClient:
    """`Client` for asyncio: ``async with AsyncClient() as client``."""

    def __init__(
        self, address: str | None = None, *, kernel: Kernel | None = None,
        config: KernelConfig | Settings | None = None, plugins: Iterable[object] = (),
        credentials: Credentials | None = None, token: str | None = None, supervisor: Supervisor | None = None,
    ) -> None:  # fmt: skip
        self._lease = lease_kernel(address, kernel, config, plugins, token, supervisor)
        try:
            self._process = self._lease.kernel.attach(credentials)
        except BaseException:
            self._lease.release()
            raise
        self._runner = AsyncRunner(self._process.aio)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def process(self) -> AsyncProcess:
        """The seat itself, for the four system calls."""
        return self._runner.process

    @property
    def timeout(self) -> float:
        """Seconds after which a call without a timeout gives up, as the kernel was told."""
        return self._lease.timeout

    async def close(self) -> None:
        """Cancel what runs, give everything back, and let go of the kernel.  Closing twice is not an error."""
        import asyncio  # noqa: PLC0415 - 110 ms; who is here has imported it

        self._process.close()
        await asyncio.to_thread(self._lease.release)  # stopping a kernel waits for its threads

    async def load_model(
        self, name: str | os.PathLike[str] | Auto, *, fallbacks: Sequence[str | Auto] | None = None,
        timeout: float | None = None,
    ) -> AsyncModel:  # fmt: skip
        """Return the model called *name*, an alias included, or the one in the model folder at the path *name*.

        With ``llmos-remote``, well-known names of models elsewhere will do where there is a key, and ``BACKEND:NAME``.
        For `Auto`, or the word ``auto``, a router chooses a model for each task.  A task that fails before anything was
        read of it, by the model's fault, is tried on the *fallbacks*, one after the other (by default those that the
        settings name); they are loaded when they are needed.
        """
        if isinstance(name, Auto) or name == AUTO:
            rest = await self._others(AUTO, fallbacks)
            return AsyncModel(self._runner, AUTO, (Target(AUTO, any_model(name), self._lease.fleet), *rest))
        spec = await self._named(name)
        if spec is not None:
            name = spec.name
            if all(model.name != name for model in await self.models()):
                await self.control("AddModel", spec)
        info = await self._info(str(name))
        others = await self._others(info.name, fallbacks)
        try:
            what: Handle | str = await self.process.alloc(ModelRequest(str(name)), timeout=timeout)
        except (ResourceError, PluginError) as error:
            if not others:
                raise
            warn_of_fallback(str(name), error)
            what = str(name)
        note_alias(str(name), info)
        return AsyncModel(self._runner, info.name, (Target(info.name, what, self._lease.fleet), *others))

    async def _named(self, name: str | os.PathLike[str]) -> ModelSpec | None:
        """Return what *name* names besides the models that are offered."""
        try:
            return named_spec(name, self._lease.kernel)
        except ModelUnavailable:  # a model's own name may look like a path, as those of Hugging Face do
            if not (isinstance(name, str) and await self._offers(name)):
                raise
            return None

    async def _offers(self, name: str) -> bool:
        try:
            await self._info(name)
        except NotFound:
            return False
        return True

    async def _info(self, name: str) -> ModelInfo:
        try:
            return ModelInfo.from_plain(await self.control("InspectModel", name))
        except PermissionDenied:  # who may run a model need not be allowed to look into it
            return ModelInfo(name=name)

    async def _others(self, name: str, fallbacks: Sequence[str | Auto] | None) -> tuple[Target, ...]:
        """Return what is tried after *name*, by the names of the models themselves."""
        given = self._lease.serving.fallbacks.get(name, ()) if fallbacks is None else check_fallbacks(fallbacks)
        names = [None if any_model(one) else (await self._info(str(one))).name for one in given]
        pairs, fleet = zip(names, given, strict=True), self._lease.fleet
        return tuple(Target(name or AUTO, name or any_model(one), fleet) for name, one in pairs)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the models that can be loaded."""
        return tuple(map(ModelInfo.from_plain, await self.control("ListModels")))

    async def control(self, message: str, *args: Any, timeout: float | None = None, **fields: Any) -> Any:  # noqa: ANN401
        """Send a control message by its name and return the answer: ``await client.control("CancelTask", 7)``."""
        return await self._runner.ask(control_message(message, *args, **fields), timeout)

    async def run(self, task: TaskFile, input: object, *, model: str | Auto | None = None) -> Answer:
        """Run *task* on *input*, a text or a mapping of its fields, on its model, or on the one that is given.

        Raises `InvalidArgument` for an input that is not as the task says, and what the last try failed with.
        """
        async with await self.load_model(model or task.chosen, fallbacks=task.fallbacks or None) as loaded:
            return await loaded.run(task, input)

    async def submit(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TaskHandle:  # noqa: ANN401
        """Run ``fn(*args, **kwargs)``, a coroutine function too, on the kernel; `result` waits for what it returns."""
        return await self._runner.schedule(call_request(fn, args, kwargs))

    async def result(self, task: TaskHandle, timeout: float | None = None) -> Any:  # noqa: ANN401
        """Return a submitted task's value or raise its error; the task goes on when *timeout* ends the wait."""
        return (await self._runner.wait(task, timeout)).value

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run ``fn(*args, **kwargs)`` on the kernel and return what it returns."""
        return (await self._runner.run(call_request(fn, args, kwargs))).value


class AsyncModel(ModelRequests):
    """A model that may be run.  Made by `AsyncClient.load_model`."""

    def __init__(self, runner: AsyncRunner, name: str, targets: tuple[Target, ...]) -> None:
        super().__init__(name, targets)
        self._runner = runner

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def info(self) -> ModelInfo:
        """Return what the kernel knows of the model."""
        if isinstance(want := self._served_by, Auto):
            return auto_info(want)
        return ModelInfo.from_plain(await self._runner.ask(control_message("InspectModel", self.name)))

    @overload
    async def generate_text(self, prompt: str, *, n: None = None, **options: Unpack[Options]) -> Text: ...
    @overload
    async def generate_text(self, prompt: str, *, n: int, **options: Unpack[Options]) -> list[Text]: ...
    async def generate_text(
        self, prompt: str, *, n: int | None = None, **options: Unpack[Options]
    ) -> Text | list[Text]:
        """Continue *prompt*.  With *n*, return a list of so many answers, made side by side."""
        return await self._answer(self._generate(prompt, options), n)

    @overload
    def stream(self, prompt: str, *, n: None = None, **options: Unpack[Options]) -> AsyncStream: ...
    @overload
    def stream(self, prompt: str, *, n: int, **options: Unpack[Options]) -> AsyncStreams: ...
    def stream(self, prompt: str, *, n: int | None = None, **options: Unpack[Options]) -> AsyncStream | AsyncStreams:
        """Continue *prompt*, piece by piece: ``async for piece in model.stream(...)``.

        With *n*, so many answers are made side by side, and `Piece.answer` says whose each piece is.
        """
        return self._pieces(self._generate(prompt, options, stream=True), n)

    @overload
    async def chat(
        self, messages: str | Messages, *, system: str | None = None, n: None = None, **options: Unpack[Options]
    ) -> Text: ...
    @overload
    async def chat(
        self, messages: str | Messages, *, system: str | None = None, n: int, **options: Unpack[Options]
    ) -> list[Text]: ...
    async def chat(
        self, messages: str | Messages, *, system: str | None = None, n: int | None = None, **options: Unpack[Options]
    ) -> Text | list[Text]:
        """Answer a conversation: a string, or ``[{"role": ..., "content": ...}, ...]``."""
        return await self._answer(self._chat(messages, system, options), n)

    @overload
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: None = None, **options: Unpack[Options]
    ) -> AsyncStream: ...
    @overload
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: int, **options: Unpack[Options]
    ) -> AsyncStreams: ...
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: int | None = None, **options: Unpack[Options]
    ) -> AsyncStream | AsyncStreams:
        """Answer a conversation, piece by piece; *n* is that of `stream`."""
        return self._pieces(self._chat(messages, system, options, stream=True), n)

    def conversation(
        self, *, system: str | None = None, messages: Messages = (), tokens: int | None = None,
        timeout: float | None = None,
    ) -> AsyncConversation:  # fmt: skip
        """Begin a conversation, whose cache is kept between turns in a context of *tokens*.

        The context is charged to this client's budget until the conversation is closed.  By default it is as long as
        the model's own; 0 is none, for models that keep none or that a router chooses.
        *system* is what the model is told first, *messages*
        what was said earlier.  ``async with``, or the first turn, raises `InvalidArgument` for a model that keeps no
        contexts or shorter ones, and `BudgetExceeded`.
        """
        return AsyncConversation(self._runner, self._served_by, system, messages, tokens, timeout)

    @overload
    async def embed(
        self, text: str, *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> list[float]: ...
    @overload
    async def embed(
        self, text: list[str] | tuple[str, ...], *, truncate: bool = False, timeout: float | None = None,
        trace: Trace = "",
    ) -> list[list[float]]: ...  # fmt: skip
    async def embed(
        self, text: str | Sequence[str], *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> list[float] | list[list[float]]:
        """Return the vector of *text*, or one per text of a list.

        A text beyond the model's context is refused, or with *truncate* its beginning is used.  *trace* is that of
        `Options`.
        """
        requests = self._encode("embed", text, truncate, timeout, trace)
        vectors = [list(done.value) for done in await self._runner.run_all(requests)]
        return vectors[0] if isinstance(text, str) else vectors

    @overload
    async def classify(
        self, text: str, *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> dict[str, float]: ...
    @overload
    async def classify(
        self, text: list[Any] | tuple[Any, ...], *, truncate: bool = False, timeout: float | None = None,
        trace: Trace = "",
    ) -> list[dict[str, float]]: ...  # fmt: skip
    async def classify(
        self, text: str | Sequence[Any], *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> dict[str, float] | list[dict[str, float]]:
        """Return the probability of each label, the likeliest first: of *text*, or of each of a list.

        An item of a list may be two texts, for models that read a pair.  *truncate* and *trace* are those of `embed`.
        """
        requests = self._encode("classify", text, truncate, timeout, trace)
        scores = [dict(done.value) for done in await self._runner.run_all(requests)]
        return scores[0] if isinstance(text, str) else scores

    async def run(self, task: TaskFile, input: object) -> Answer:
        """Run *task* on *input* as `AsyncClient.run` does."""
        return await run_one_async(self._runner, task, input, self._targets)

    async def tokenize(self, text: str, *, timeout: float | None = None, trace: Trace = "") -> list[int]:
        """Return the tokens of *text*."""
        return list((await self._runner.run(self._tokenize(text, timeout, trace))).value)

    async def detokenize(self, tokens: Sequence[int], *, timeout: float | None = None, trace: Trace = "") -> str:
        """Return the text of *tokens*."""
        return (await self._runner.run(self._detokenize(tokens, timeout, trace))).text

    async def _answer(self, request: Request, n: int | None) -> Text | list[Text]:
        if n is None:
            return (await self._runner.texts([request]))[0]
        return await self._runner.texts(repeated(request, n))

    def _pieces(self, request: Request, n: int | None) -> AsyncStream | AsyncStreams:
        if n is None:
            return self._runner.stream(request)
        return AsyncStreams(self._runner, repeated(request, n))
