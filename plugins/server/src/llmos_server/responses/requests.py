"""The body of a request, as OpenAI's reference of the Responses API has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llmos_server import tools
from llmos_server.bodies import MOST, Body, Finite, Name, Text
from llmos_server.tools import Offer

Ended = Literal["completed", "incomplete", "in_progress"] | None
LOGPROBS = "message.output_text.logprobs"


class Part(Body):
    """A part of a message that is text; what an answer of ours said of it besides is taken back as it was."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Annotated[list[dict[str, Any]], Field(max_length=0, fail_fast=True)] | None = None
    logprobs: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None


class Item(Body):
    """A part of a conversation.  Clients send back what they got, with fields that newer ones of them have as null."""

    @model_validator(mode="before")
    @classmethod
    def _says(cls, value: object) -> object:
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


class MessageItem(Item):
    """Something that was said."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=MOST, fail_fast=True)]
    id: str | None = None
    status: Ended = None

    def plain(self) -> dict[str, str]:
        """Return it as models take it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": _joined(self.content)}


class CallItem(Item):
    """A tool that the model called."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Text
    id: str | None = None
    status: Ended = None

    def plain(self) -> dict[str, str]:
        """Return it as models take it."""
        return {"role": "assistant", "content": tools.said("", [(self.name, tools.plain(self.arguments))])}


class ResultItem(Item):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Text | Annotated[list[Part], Field(max_length=MOST, fail_fast=True)]
    id: str | None = None
    status: Ended = None

    def plain(self) -> dict[str, str]:
        """Return it as models take it: results are told by the user."""
        return {"role": "user", "content": _joined(self.output)}


class Function(Body):
    """Something that the model may call."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(Body):
    """The one tool that is to be called."""

    type: Literal["function"]
    name: Name


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON of a form."""

    type: Literal["json_schema"]
    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class TextForm(Body):
    """The form of the answer."""

    format: PlainFormat | SchemaFormat = PlainFormat(type="text")
    verbosity: Literal["medium"] | None = None


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_obfuscation: Literal[False] | None = None


class ResponseBody(Body):
    """``POST /v1/responses``."""

    model: Name
    input: (
        Text
        | Annotated[list[MessageItem | CallItem | ResultItem], Field(min_length=1, max_length=4096, fail_fast=True)]
    )
    instructions: Text | None = None
    previous_response_id: Name | None = None
    store: bool = True
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=16, fail_fast=True)] | None = (
        None
    )
    text: TextForm = Field(default_factory=TextForm)
    tools: Annotated[list[Function], Field(max_length=128, fail_fast=True)] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", "required"] | NamedFunction = "auto"
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> ResponseBody:
        names = {tool.name for tool in self.tools}
        if isinstance(self.tool_choice, NamedFunction) and self.tool_choice.name not in names:
            raise ValueError(f"tool_choice: there is no tool {self.tool_choice.name!r} among tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: a tool is required, and there are no tools")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only where stream is true")
        return self

    @property
    def tells_logprobs(self) -> bool:
        """Whether the answer has log probabilities."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    def said(self) -> list[dict[str, str]]:
        """Return what the request adds to the conversation, without the instructions."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        return [item.plain() for item in self.input]

    def offers(self) -> list[Offer]:
        """Return the tools that the model may call."""
        given = [] if self.tool_choice == "none" else self.tools
        if isinstance(self.tool_choice, NamedFunction):
            given = [tool for tool in given if tool.name == self.tool_choice.name]
        return [Offer(tool.name, tool.description or "", tool.parameters or {}) for tool in given]

    def options(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.tells_logprobs:
            found["logprobs"] = self.top_logprobs or 0
        if isinstance(self.text.format, SchemaFormat):
            found["schema"] = self.text.format.schema_
        elif self.text.format.type == "json_object":
            found["schema"] = {"type": "object"}
        offers, demanded = self.offers(), self.tool_choice not in ("none", "auto")
        if demanded or (offers and "schema" in found):
            found["schema"] = tools.form(offers, None if demanded else found["schema"])
        return found


def _joined(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
