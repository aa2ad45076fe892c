"""Tools: what the model is told of them, and what it calls.

A call is made by the form of the answer: where one is required, the answer is JSON of a schema that has one alternative
per tool, so that it is always a call of a tool that there is, with arguments of the right form.  Where the model may
choose, it may answer with text or with such JSON; it is told of the tools in a message, and what it says is read as a
call only if it is one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from llmos_server.openai.requests import ChatBody, Message, NamedTool, Tool

TELLING = """\
You may call a tool. To call one, answer with nothing but JSON of this form:
{"name": the tool's name, "arguments": an object with its parameters}
Tools:"""


def offered(body: ChatBody) -> Sequence[Tool]:
    """Return the tools that the model may call."""
    if body.tool_choice == "none":
        return ()
    if isinstance(body.tool_choice, NamedTool):
        return [tool for tool in body.tools or () if tool.function.name == body.tool_choice.function.name]
    return body.tools or ()


def is_demanded(body: ChatBody) -> bool:
    """Return whether the answer must be a call."""
    return body.tool_choice == "required" or isinstance(body.tool_choice, NamedTool)


def form(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of *tools*."""
    return {"anyOf": [_call_form(tool) for tool in tools]}


def _call_form(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object", "required": ["name", "arguments"], "additionalProperties": False,
        "properties": {"name": {"const": tool.function.name},
                       "arguments": tool.function.parameters or {"type": "object"}},
    }  # fmt: skip


def told(messages: Sequence[Message], tools: Sequence[Tool]) -> list[dict[str, str]]:
    """Return the conversation as the SDK takes it, with what the model is told of *tools* first."""
    found = [{"role": _role(message), "content": _said(message)} for message in messages]
    if tools:
        lines = [json.dumps(tool.function.model_dump(exclude={"strict"}), ensure_ascii=False) for tool in tools]
        telling = "\n".join([TELLING, *lines])
        if found[0]["role"] == "system":
            found[0] = {"role": "system", "content": f"{found[0]['content']}\n\n{telling}"}
        else:
            found.insert(0, {"role": "system", "content": telling})
    return found


def calls(text: str, tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return the call that *text* is, or nothing."""
    if not tools or not text.lstrip().startswith("{"):
        return []
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return []
    names = {tool.function.name for tool in tools}
    if not isinstance(said, dict) or said.get("name") not in names or not isinstance(said.get("arguments"), dict):
        return []
    arguments = json.dumps(said["arguments"], ensure_ascii=False)
    function = {"name": said["name"], "arguments": arguments}
    return [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}]


def _role(message: Message) -> str:
    """Return the role as chat templates know it: instructions are a system's, results are told by the user."""
    return {"developer": "system", "tool": "user"}.get(message.role, message.role)


def _said(message: Message) -> str:
    if message.tool_calls:
        said = [
            {"name": call.function.name, "arguments": _plain(call.function.arguments)} for call in message.tool_calls
        ]
        return "\n".join([*([message.text] if message.text else []), *(json.dumps(one) for one in said)])
    return message.text


def _plain(arguments: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
