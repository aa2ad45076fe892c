"""A response as JSON: while it is made, and at its end."""

from __future__ import annotations

import time
from typing import Any

import attrs

from llmos import Text
from llmos_server import tools
from llmos_server.openai.answers import chat_logprobs, new_id
from llmos_server.responses.requests import ResponseBody
from llmos_server.tools import Call

Facts = dict[str, Any]


@attrs.frozen
class Form:
    """What all states of one response share."""

    body: ResponseBody
    model: str
    id: str = attrs.field(factory=lambda: new_id("resp_"))
    item: str = attrs.field(factory=lambda: new_id("msg_"))
    created: int = attrs.field(factory=lambda: int(time.time()))

    def state(self, status: str, output: list[Facts] | None = None, **more: Any) -> Facts:  # noqa: ANN401 - JSON
        """Return the response in that state."""
        body = self.body
        given = body.model_dump(mode="json", by_alias=True, include={"tools", "tool_choice", "text"})
        if given["text"].get("verbosity") is None:
            del given["text"]["verbosity"]
        return {
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "background": False,
            "error": None, "incomplete_details": None, "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens, "model": self.model, "output": output or [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id, "reasoning": {"effort": None, "summary": None},
            "store": body.store, "temperature": body.temperature, "top_p": body.top_p,
            "top_logprobs": body.top_logprobs or 0, "truncation": "disabled", "usage": None, "user": body.user,
            "metadata": body.metadata or {}, **given, **more,
        }  # fmt: skip

    def whole(self, text: Text) -> Facts:
        """Return the response that *text* is."""
        call = tools.called(text, self.body.offers())
        cut = text.finish == "length"
        status = "incomplete" if cut else "completed"
        output = [self.called(call) if call else self.message(text, status)]
        details = {"reason": "max_output_tokens"} if cut else None
        return self.state(status, output, usage=_usage(text), incomplete_details=details)

    def message(self, text: Text | None, status: str) -> Facts:
        """Return the message with *text*, which may not have begun."""
        content = [] if text is None else [self.part(text)]
        return {"id": self.item, "type": "message", "status": status, "role": "assistant", "content": content}

    def part(self, text: Text | None) -> Facts:
        """Return the part of the message that is *text*."""
        told = self.logprobs(text.logprobs) if text is not None else []
        return {"type": "output_text", "text": str(text or ""), "annotations": [], "logprobs": told}

    def logprobs(self, entries: Any) -> list[Facts]:  # noqa: ANN401 - the engine's
        """Return log probabilities, where they were asked for."""
        return list(chat_logprobs(entries)["content"]) if self.body.tells_logprobs and entries else []

    def called(self, call: Call, status: str = "completed") -> Facts:
        """Return the call of a tool; its arguments are not there before it is complete."""
        made = call.json if status == "completed" else ""
        kind = {"id": self.item.replace("msg_", "fc_"), "type": "function_call", "status": status}
        return kind | {"call_id": self.item.replace("msg_", "call_"), "name": call.name, "arguments": made}


def _usage(text: Text) -> Facts:
    used = text.usage
    return {
        "input_tokens": used.prompt, "input_tokens_details": {"cached_tokens": used.cached},
        "output_tokens": used.generated, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt + used.generated,
    }  # fmt: skip
