"""``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import attrs
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import Piece, Text
from llmos_kernel.errors import KernelError
from llmos_server import tools
from llmos_server.document.openai import ChatCompletion, TextCompletion
from llmos_server.document.parts import told
from llmos_server.failures import Refusal
from llmos_server.openai import answers
from llmos_server.openai.requests import ChatBody, CompletionBody, Sampling
from llmos_server.speech import Ended, Speech
from llmos_server.state import seat_of, shared
from llmos_server.streams import EVENTS, Pieces
from llmos_server.tools import Call, Ear, Offer

router = APIRouter(tags=["OpenAI"])
Choice = dict[str, Any]


@router.post("/v1/chat/completions", summary="Answer a conversation", responses=told(ChatCompletion, stream=EVENTS))
async def chat(body: ChatBody, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of server-sent events."""
    model = await seat_of(request).models.get(body.model)
    options = body.options() | shared(request)
    offers = body.offers()
    said = tools.told([message.plain() for message in body.messages], offers)
    form = answers.Form(model.name, chat=True)
    if body.stream:
        speech = await Speech.chat(model, said, options, body.n or 1)
        return _streamed(speech, body, _ChatPieces(form, offers, bool(body.logprobs)))
    texts = await model.chat(said, n=body.n or 1, **options)
    choices = [_chat_choice(index, text, offers, bool(body.logprobs)) for index, text in enumerate(texts)]
    return JSONResponse(form.whole(choices, texts))


@router.post("/v1/completions", summary="Continue a text", responses=told(TextCompletion, stream=EVENTS))
async def complete(body: CompletionBody, request: Request) -> Response:
    """Continue one text or several, whole or as a stream of server-sent events."""
    model = await seat_of(request).models.get(body.model)
    options = body.options() | shared(request)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    form = answers.Form(model.name, chat=False)
    if body.stream:
        if len(prompts) > 1:
            raise Refusal(400, "prompt: a stream continues one text, not several", param="prompt")
        speech = await Speech.text(model, prompts[0], options, body.n or 1)
        echo = prompts[0] if body.echo else ""
        return _streamed(speech, body, _TextPieces(form, echo, body.logprobs is not None))
    texts = [text for prompt in prompts for text in await model.generate_text(prompt, n=body.n or 1, **options)]
    echoed = [prompt if body.echo else "" for prompt in prompts for _ in range(body.n or 1)]
    choices = [
        _text_choice(index, text, echo, body.logprobs is not None)
        for index, (text, echo) in enumerate(zip(texts, echoed, strict=True))
    ]
    return JSONResponse(form.whole(choices, texts))


def _chat_choice(index: int, text: Text, offers: Sequence[Offer], logprobs: bool) -> Choice:
    call = tools.called(text, offers)
    message: dict[str, Any] = {"role": "assistant", "content": None if call else str(text), "refusal": None}
    if call:
        message["tool_calls"] = [_tool_call(call)]
    told = answers.chat_logprobs(text.logprobs) if logprobs else None
    finish = "tool_calls" if call else text.finish
    return {"index": index, "message": message, "logprobs": told, "finish_reason": finish}


def _tool_call(call: Call) -> dict[str, Any]:
    return {"id": answers.new_id("call_"), "type": "function",
            "function": {"name": call.name, "arguments": call.json}}  # fmt: skip


def _text_choice(index: int, text: Text, echo: str, logprobs: bool) -> Choice:
    told = answers.completion_logprobs(text.logprobs, len(echo)) if logprobs else None
    return {"index": index, "text": f"{echo}{text}", "logprobs": told, "finish_reason": text.finish}


# --- streams -----------------------------------------------------------------------------------------------------


@attrs.define
class _ChatPieces:
    """Turns pieces of a chat's answers into chunks."""

    form: answers.Form
    offers: Sequence[Offer]
    logprobs: bool
    _ears: dict[int, Ear] = attrs.field(factory=dict, init=False)

    def opening(self, count: int) -> bytes:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self.form.chunk([self._choice(index, delta)]) for index in range(count))

    def piece(self, piece: Piece) -> bytes:
        return b"".join(map(self._said, self._ear(piece.answer).hear(piece)))

    def ending(self, index: int, text: Text) -> bytes:
        held, call = self._ear(index).end(text)
        rest = b"".join(map(self._said, held))
        if call is not None:
            delta = {"tool_calls": [{"index": 0, **_tool_call(call)}]}
            rest += self.form.chunk([self._choice(index, delta)])
        return rest + self.form.chunk([self._choice(index, {}, None, "tool_calls" if call else text.finish)])

    def _ear(self, answer: int) -> Ear:
        return self._ears.setdefault(answer, Ear(self.offers))

    def _said(self, piece: Piece) -> bytes:
        told = answers.chat_logprobs(piece.logprobs) if self.logprobs and piece.logprobs else None
        return self.form.chunk([self._choice(piece.answer, {"content": str(piece)}, told)])

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


def _streamed(speech: Speech, body: Sampling, pieces: _ChatPieces | _TextPieces) -> Response:
    """Return the response that streams the answers; what went wrong before the first piece had its status."""
    usage = body.stream_options is not None and body.stream_options.include_usage
    return Pieces(_events(speech, pieces, usage=usage), EVENTS)


async def _events(speech: Speech, pieces: _ChatPieces | _TextPieces, *, usage: bool) -> AsyncGenerator[bytes]:
    """Yield the events, those at once that come together.  Closed when the reader has gone, which cancels the tasks."""
    ready = pieces.opening(len(speech.texts))
    try:
        async for event in speech.events():
            if isinstance(event, Ended):
                ready += pieces.ending(event.answer, event.text)
            else:
                yield ready + pieces.piece(event)
                ready = b""
        if usage:
            texts = [text for text in speech.texts if text is not None]
            ready += pieces.form.chunk([], usage=answers.usage(texts))
        yield ready + answers.DONE
    except KernelError as error:
        yield ready + answers.event(Refusal.of(error).body())
    finally:
        speech.close()
