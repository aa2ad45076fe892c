"""``/api/generate`` and ``/api/chat``: JSON lines, with durations in nanoseconds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import AsyncModel, Text
from llmos_kernel.errors import KernelError
from llmos_server import tools
from llmos_server.document.ollama import ChatMessageAnswer, GenerateAnswer
from llmos_server.document.parts import told
from llmos_server.failures import OLLAMA, Refusal
from llmos_server.ollama.anytype import AnyType
from llmos_server.ollama.requests import Asking, ChatBody, GenerateBody, Named
from llmos_server.openai.answers import chat_logprobs
from llmos_server.speech import Ended, Speech
from llmos_server.state import demand_operator, seat_of, shared
from llmos_server.streams import LINES, Pieces
from llmos_server.tools import Call, Ear, Offer

router = APIRouter(tags=["Ollama"], route_class=AnyType)
Facts = dict[str, Any]


@attrs.frozen
class Talk:
    """One question, and the form in which its answer is put: a text of its own, or a message."""

    asked: str
    """The model's name, as it was asked for."""
    put: Callable[[str, Call | None], Facts]
    offers: Sequence[Offer] = ()
    logprobs: bool = False
    began: int = attrs.field(factory=time.perf_counter_ns)
    loaded: list[int] = attrs.field(factory=list)
    """When the model was there."""

    async def model(self, request: Request, body: Named) -> AsyncModel:
        """Return the model, loaded."""
        model = await seat_of(request).models.get(body.model)
        self.loaded.append(time.perf_counter_ns())
        if body.options.num_ctx:
            info = await model.info()
            if 0 < (info.longest_context or info.context) < body.options.num_ctx:
                message = f"options.num_ctx: the context of {model.name} has {info.longest_context or info.context}"
                raise Refusal(400, message, param="options.num_ctx")
        return model

    def piece(self, text: str, logprobs: Sequence[Mapping[str, Any]] | None) -> Facts:
        """Return a piece of the answer."""
        return self._head() | self.put(text, None) | self._told(logprobs) | {"done": False}

    def whole(self, text: Text, said: str, call: Call | None, *, told: bool) -> Facts:
        """Return the end of the answer, with what it used; *said* is what was not sent yet."""
        used, now = text.usage, time.perf_counter_ns()
        return self._head() | self.put(said, call) | self._told(text.logprobs if told else None) | {
            "done": True, "done_reason": text.finish, "total_duration": now - self.began,
            "load_duration": self.loaded[0] - self.began,
            "prompt_eval_count": used.prompt, "prompt_eval_duration": round(used.prefill * 1e9),
            "eval_count": used.generated, "eval_duration": round(used.decode * 1e9),
        }  # fmt: skip

    def done(self, why: str) -> Facts:
        """Return the answer to a question that says nothing: the model was loaded, or unloaded."""
        return self._head() | self.put("", None) | {"done": True, "done_reason": why}

    def _head(self) -> Facts:
        return {"model": self.asked, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}

    def _told(self, logprobs: Sequence[Mapping[str, Any]] | None) -> Facts:
        return {"logprobs": chat_logprobs(logprobs)["content"]} if self.logprobs and logprobs else {}


@router.post("/api/generate", summary="Answer a prompt", responses=told(GenerateAnswer, stream=LINES))
async def generate(body: GenerateBody, request: Request) -> Response:
    """Answer a prompt, as lines unless ``stream`` is false.

    With ``raw``, or by a model that does not chat, it is continued instead.
    """
    talk = Talk(body.model, lambda text, call: {"response": text}, logprobs=bool(body.logprobs))
    if not body.prompt:
        return await _loaded(talk, body, request)
    model = await talk.model(request, body)
    options = body.plain() | shared(request)
    if body.raw or "chat" not in (await model.info()).kinds:
        if body.system:
            raise Refusal(400, "system: only where the model chats, and raw is not true", param="system")
        if body.streams:
            return _lines(talk, await Speech.text(model, body.prompt, options))
        return _whole(talk, await model.generate_text(body.prompt, **options))
    said = [{"role": "system", "content": body.system}] if body.system else []
    return await _chatted(talk, model, [*said, {"role": "user", "content": body.prompt}], options, body)


@router.post("/api/chat", summary="Answer a conversation", responses=told(ChatMessageAnswer, stream=LINES))
async def chat(body: ChatBody, request: Request) -> Response:
    """Answer a conversation, as lines unless ``stream`` is false."""
    talk = Talk(body.model, _message, body.offers(), bool(body.logprobs))
    if not body.messages:
        return await _loaded(talk, body, request)
    model = await talk.model(request, body)
    said = tools.told([message.plain() for message in body.messages], talk.offers)
    return await _chatted(talk, model, said, body.plain() | shared(request), body)


async def _chatted(
    talk: Talk, model: AsyncModel, said: list[dict[str, str]], options: Mapping[str, Any], body: Asking
) -> Response:
    if body.streams:
        return _lines(talk, await Speech.chat(model, said, options))
    return _whole(talk, await model.chat(said, **options))


async def _loaded(talk: Talk, body: Asking, request: Request) -> Response:
    """Load the model; or unload it, where it is not to be kept alive."""
    if body.keep_alive in (0, "0", "0s"):
        demand_operator(request, "unloading a model")
        await seat_of(request).models.unload(body.model)
        return JSONResponse(talk.done("unload"))
    await talk.model(request, body)
    return JSONResponse(talk.done("load"))


def _message(text: str, call: Call | None) -> Facts:
    made = [] if call is None else [{"function": {"name": call.name, "arguments": dict(call.arguments)}}]
    return {"message": {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}}


def _whole(talk: Talk, text: Text) -> Response:
    call = tools.called(text, talk.offers)
    return JSONResponse(talk.whole(text, "" if call else str(text), call, told=True))


def _lines(talk: Talk, speech: Speech) -> Response:
    return Pieces(_pieces(talk, speech), LINES)


async def _pieces(talk: Talk, speech: Speech) -> AsyncGenerator[bytes]:
    """Yield the lines.  Closed when the reader has gone, which cancels the task."""
    ear = Ear(talk.offers)
    try:
        async for event in speech.events():
            held, call = ear.end(event.text) if isinstance(event, Ended) else (ear.hear(event), None)
            yield b"".join(_line(talk.piece(piece, piece.logprobs)) for piece in held)
            if isinstance(event, Ended):
                yield _line(talk.whole(event.text, "", call, told=False))
    except KernelError as error:
        yield _line(Refusal.of(error).body(OLLAMA))
    finally:
        speech.close()


def _line(facts: Facts) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode("ascii") + b"\n"
