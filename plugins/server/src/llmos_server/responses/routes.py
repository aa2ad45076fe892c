"""``/v1/responses``: conversations whose earlier turns are kept, for a while and in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from llmos import Piece, Text
from llmos_kernel.errors import KernelError
from llmos_server import tools
from llmos_server.document.openai import ForgottenResponse, ResponseAnswer
from llmos_server.document.parts import told
from llmos_server.failures import Refusal
from llmos_server.openai.answers import event
from llmos_server.responses.answers import Facts, Form
from llmos_server.responses.kept import Kept
from llmos_server.responses.requests import ResponseBody
from llmos_server.speech import Ended, Speech
from llmos_server.state import seat_of, shared
from llmos_server.streams import EVENTS, Pieces
from llmos_server.tools import Call, Ear

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/responses", summary="Answer, and remember what was said", responses=told(ResponseAnswer, stream=EVENTS)
)
async def respond(body: ResponseBody, request: Request) -> Response:
    """Answer a text or a conversation, whole or as a stream of typed events."""
    seat = seat_of(request)
    earlier = _earlier(seat.responses, body)
    model = await seat.models.get(body.model)
    said = [*earlier, *body.said()]
    instructed = [{"role": "system", "content": body.instructions}, *said] if body.instructions else said
    heard = tools.told(instructed, body.offers())
    options = body.options() | shared(request)
    form = Form(body, model.name)
    if body.stream:
        return Pieces(_events(await Speech.chat(model, heard, options), form, seat.responses, said), EVENTS)
    text = await model.chat(heard, **options)
    response = form.whole(text)
    _keep(seat.responses, response, said, text)
    return JSONResponse(response)


@router.get("/v1/responses/{id}", summary="Look a response up", responses=told(ResponseAnswer))
async def response(id: str, request: Request) -> Response:
    """Return a response that is still kept."""
    turn = seat_of(request).responses.find(id)
    if turn is None:
        raise _unknown(id)
    return JSONResponse(turn.response)


@router.delete("/v1/responses/{id}", summary="Forget a response", responses=told(ForgottenResponse))
async def forget(id: str, request: Request) -> Response:
    """Forget a response."""
    if not seat_of(request).responses.forget(id):
        raise _unknown(id)
    return JSONResponse({"id": id, "object": "response", "deleted": True})


def _unknown(id: str) -> Refusal:
    return Refusal(404, f"there is no response {id!r:.100}: it was not stored, or was forgotten since", param="id")


def _earlier(kept: Kept, body: ResponseBody) -> list[dict[str, str]]:
    if body.previous_response_id is None:
        return []
    turn = kept.find(body.previous_response_id)
    if turn is None:
        message = (
            f"previous_response_id: there is no response {body.previous_response_id!r:.100}: it was not stored, or was "
            "forgotten since, because only the latest ones are kept; send the conversation as input"
        )
        raise Refusal(400, message, param="previous_response_id", code="previous_response_not_found")
    return list(turn.said)


def _keep(kept: Kept, response: Facts, said: list[dict[str, str]], text: Text) -> None:
    if response["store"]:
        kept.keep(response, [*said, {"role": "assistant", "content": str(text)}])


# --- streams -----------------------------------------------------------------------------------------------------


class _Teller:
    """Numbers the events of one stream."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._number = 0
        self._open = False

    def event(self, kind: str, **facts: object) -> bytes:
        number, self._number = self._number, self._number + 1
        return f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": number, **facts})

    def opening(self) -> bytes:
        begun = self.form.state("in_progress")
        return self.event("response.created", response=begun) + self.event("response.in_progress", response=begun)

    def piece(self, piece: Piece) -> bytes:
        told = self.form.logprobs(piece.logprobs)
        return self._opened() + self._part("response.output_text.delta", delta=str(piece), logprobs=told)

    def ending(self, text: Text, call: Call | None) -> bytes:
        whole = self.form.whole(text)
        done = self._called(call) if call else self._told(text, whole["output"][0])
        return done + self.event(f"response.{whole['status']}", response=whole)

    def _opened(self) -> bytes:
        """Return what comes before the first piece."""
        if self._open:
            return b""
        self._open = True
        item = self.form.message(None, "in_progress")
        added = self.event("response.output_item.added", output_index=0, item=item)
        return added + self._part("response.content_part.added", part=self.form.part(None))

    def _told(self, text: Text, item: Facts) -> bytes:
        part = self.form.part(text)
        return b"".join((
            self._opened(),
            self._part("response.output_text.done", text=str(text), logprobs=part["logprobs"]),
            self._part("response.content_part.done", part=part),
            self.event("response.output_item.done", output_index=0, item=item),
        ))  # fmt: skip

    def _called(self, call: Call) -> bytes:
        begun, done = self.form.called(call, "in_progress"), self.form.called(call)
        where = {"item_id": done["id"], "output_index": 0}
        return b"".join((
            self.event("response.output_item.added", output_index=0, item=begun),
            self.event("response.function_call_arguments.delta", **where, delta=call.json),
            self.event("response.function_call_arguments.done", **where, name=call.name, arguments=call.json),
            self.event("response.output_item.done", output_index=0, item=done),
        ))  # fmt: skip

    def _part(self, kind: str, **facts: object) -> bytes:
        return self.event(kind, item_id=self.form.item, output_index=0, content_index=0, **facts)


async def _events(speech: Speech, form: Form, kept: Kept, said: list[dict[str, str]]) -> AsyncGenerator[bytes]:
    """Yield the events.  Closed when the reader has gone, which cancels the task."""
    teller, ear = _Teller(form), Ear(form.body.offers())
    try:
        yield teller.opening()
        async for told in speech.events():
            held, call = ear.end(told.text) if isinstance(told, Ended) else (ear.hear(told), None)
            yield b"".join(map(teller.piece, held))
            if isinstance(told, Ended):
                _keep(kept, form.whole(told.text), said, told.text)
                yield teller.ending(told.text, call)
    except KernelError as error:
        refusal = Refusal.of(error)
        code = refusal.code or "server_error"
        failed = form.state("failed", error={"code": code, "message": refusal.message})
        yield teller.event("response.failed", response=failed)
    finally:
        speech.close()
