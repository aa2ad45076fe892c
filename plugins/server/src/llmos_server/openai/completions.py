"""``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import attrs
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import AsyncModel, AsyncStream, AsyncStreams, Piece, Text
from llmos_kernel.errors import KernelError
from llmos_server.failures import Refusal
from llmos_server.openai import answers, tools
from llmos_server.openai.requests import ChatBody, CompletionBody, Sampling, Tool
from llmos_server.state import seat_of, state_of
from llmos_server.streams import EVENTS, Pieces

router = APIRouter(tags=["OpenAI"])
Choice = dict[str, Any]


@router.post("/v1/chat/completions", summary="Answer a conversation")
async def chat(body: ChatBody, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of server-sent events."""
    state = state_of(request)
    model = await seat_of(request).models.get(body.model)
    offered = tools.offered(body)
    options = body.options() | state.limits()
    if tools.is_demanded(body):
        options["schema"] = tools.form(offered)
    said = tools.told(body.messages, offered)
    form = answers.Form(model.name, chat=True)
    if body.stream:
        spoken = _chat_stream(model, said, options, body.n or 1)
        return await _streamed(spoken, body, _ChatPieces(form, offered, bool(body.logprobs)))
    texts = await model.chat(said, n=body.n or 1, **options)
    choices = [_chat_choice(index, text, offered, bool(body.logprobs)) for index, text in enumerate(texts)]
    return JSONResponse(form.whole(choices, texts))


@router.post("/v1/completions", summary="Continue a text")
async def complete(body: CompletionBody, request: Request) -> Response:
    """Continue one text or several, whole or as a stream of server-sent events."""
    state = state_of(request)
    model = await seat_of(request).models.get(body.model)
    options = body.options() | state.limits()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    form = answers.Form(model.name, chat=False)
    if body.stream:
        if len(prompts) > 1:
            raise Refusal(400, "prompt: a stream continues one text, not several", param="prompt")
        spoken = _text_stream(model, prompts[0], options, body.n or 1)
        echo = prompts[0] if body.echo else ""
        return await _streamed(spoken, body, _TextPieces(form, echo, body.logprobs is not None))
    texts = [text for prompt in prompts for text in await model.generate_text(prompt, n=body.n or 1, **options)]
    echoed = [prompt if body.echo else "" for prompt in prompts for _ in range(body.n or 1)]
    choices = [
        _text_choice(index, text, echo, body.logprobs is not None)
        for index, (text, echo) in enumerate(zip(texts, echoed, strict=True))
    ]
    return JSONResponse(form.whole(choices, texts))


def _chat_choice(index: int, text: Text, offered: Sequence[Tool], logprobs: bool) -> Choice:
    called = tools.calls(text, offered)
    message: dict[str, Any] = {"role": "assistant", "content": None if called else str(text), "refusal": None}
    if called:
        message["tool_calls"] = called
    told = answers.chat_logprobs(text.logprobs) if logprobs else None
    finish = "tool_calls" if called else text.finish
    return {"index": index, "message": message, "logprobs": told, "finish_reason": finish}


def _text_choice(index: int, text: Text, echo: str, logprobs: bool) -> Choice:
    told = answers.completion_logprobs(text.logprobs, len(echo)) if logprobs else None
    return {"index": index, "text": f"{echo}{text}", "logprobs": told, "finish_reason": text.finish}


# --- streams -----------------------------------------------------------------------------------------------------


class Spoken:
    """One stream or several side by side, read alike."""

    def __init__(self, stream: AsyncStream | AsyncStreams) -> None:
        self.stream = stream

    @property
    def texts(self) -> list[Text | None]:
        """The answers that are whole."""
        if isinstance(self.stream, AsyncStreams):
            return self.stream.texts
        return [self.stream.whole]


def _chat_stream(model: AsyncModel, said: list[dict[str, str]], options: Mapping[str, Any], n: int) -> Spoken:
    return Spoken(model.chat_stream(said, **options) if n == 1 else model.chat_stream(said, n=n, **options))


def _text_stream(model: AsyncModel, prompt: str, options: Mapping[str, Any], n: int) -> Spoken:
    return Spoken(model.stream(prompt, **options) if n == 1 else model.stream(prompt, n=n, **options))


@attrs.define
class _ChatPieces:
    """Turns pieces of a chat's answers into chunks."""

    form: answers.Form
    offered: Sequence[Tool]
    logprobs: bool

    def opening(self, count: int) -> bytes:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self.form.chunk([self._choice(index, delta)]) for index in range(count))

    def piece(self, piece: Piece) -> bytes:
        if self.offered:  # whether it is a call is known at its end
            return b""
        told = answers.chat_logprobs(piece.logprobs) if self.logprobs and piece.logprobs else None
        return self.form.chunk([self._choice(piece.answer, {"content": str(piece)}, told)])

    def ending(self, index: int, text: Text) -> bytes:
        called = tools.calls(text, self.offered)
        rest = b""
        if called:
            delta = {"tool_calls": [{"index": 0, **called[0]}]}
            rest = self.form.chunk([self._choice(index, delta)])
        elif self.offered and text:
            rest = self.form.chunk([self._choice(index, {"content": str(text)})])
        return rest + self.form.chunk([self._choice(index, {}, None, "tool_calls" if called else text.finish)])

    @staticmethod
    def _choice(index: int, delta: object, logprobs: object = None, finish: str | None = None) -> Choice:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


@attrs.define
class _TextPieces:
    """Turns pieces of continued texts into chunks."""

    form: answers.Form
    echo: str
    logprobs: bool
    _lengths: dict[int, int] = attrs.field(factory=dict, init=False)

    def opening(self, count: int) -> bytes:
        if not self.echo:
            return b""
        return b"".join(self.form.chunk([self._choice(index, self.echo)]) for index in range(count))

    def piece(self, piece: Piece) -> bytes:
        offset = self._lengths.get(piece.answer, len(self.echo))
        self._lengths[piece.answer] = offset + len(piece)
        told = answers.completion_logprobs(piece.logprobs, offset) if self.logprobs and piece.logprobs else None
        return self.form.chunk([self._choice(piece.answer, str(piece), told)])

    def ending(self, index: int, text: Text) -> bytes:
        return self.form.chunk([self._choice(index, "", None, text.finish)])

    @staticmethod
    def _choice(index: int, text: str, logprobs: object = None, finish: str | None = None) -> Choice:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


async def _streamed(spoken: Spoken, body: Sampling, pieces: _ChatPieces | _TextPieces) -> Response:
    """Return the response that streams the answers.

    The first piece is waited for: what goes wrong until then, in the prompt for instance, still has a status.
    """
    stack = AsyncExitStack()
    try:
        await stack.enter_async_context(spoken.stream)
        first = await anext(spoken.stream, None)
    except BaseException:
        await stack.aclose()
        raise
    usage = body.stream_options is not None and body.stream_options.include_usage
    return Pieces(_events(stack, spoken, first, pieces, usage=usage), EVENTS)


async def _events(
    stack: AsyncExitStack, spoken: Spoken, first: Piece | None, pieces: _ChatPieces | _TextPieces, *, usage: bool
) -> AsyncGenerator[bytes]:
    """Yield the events.  Closed when the reader has gone, which cancels the tasks."""
    async with stack:
        told: set[int] = set()
        yield pieces.opening(len(spoken.texts))
        try:
            piece = first
            while piece is not None:
                yield pieces.piece(piece)
                for index, text in _ended(spoken, told):
                    yield pieces.ending(index, text)
                piece = await anext(spoken.stream, None)
        except KernelError as error:
            yield answers.event(Refusal.of(error).body())
            return
        for index, text in _ended(spoken, told):
            yield pieces.ending(index, text)
        if usage:
            texts = [text for text in spoken.texts if text is not None]
            yield pieces.form.chunk([], usage=answers.usage(texts))
        yield answers.DONE


def _ended(spoken: Spoken, told: set[int]) -> list[tuple[int, Text]]:
    """Return the answers that have ended since the last time."""
    found = [(index, text) for index, text in enumerate(spoken.texts) if text is not None and index not in told]
    told.update(index for index, _ in found)
    return found
