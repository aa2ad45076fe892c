"""The bodies of requests, as OpenAI's API reference has them (platform.openai.com/docs/api-reference).

Fields that are for whoever runs OpenAI's own service (``user``, ``metadata``, ...) are taken and change nothing here.
What would change the answer and cannot be done is refused, and so is a field that is not known, because a client that
sends it expects something of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llmos_server import tools
from llmos_server.bodies import MOST, Body, Finite, Name, Text
from llmos_server.tools import Offer

TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=64, fail_fast=True)] | str | None


# --- parts of a conversation -------------------------------------------------------------------------------------


class TextPart(Body):
    """A part of a message that is text."""

    type: Literal["text", "input_text", "output_text"]
    text: Text


class Function(Body):
    """What a model called, in a message of its own."""

    name: Name
    arguments: Text


class ToolCall(Body):
    """A call of a tool."""

    id: Name
    type: Literal["function"] = "function"
    function: Function


class Message(Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=MOST, fail_fast=True)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST, fail_fast=True)] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message has content, or calls tools")
        return self

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def plain(self) -> dict[str, str]:
        """Return the message as models take it: instructions are a system's, results are told by the user."""
        made = [(call.function.name, tools.plain(call.function.arguments)) for call in self.tool_calls or ()]
        role = {"developer": "system", "tool": "user"}.get(self.role, self.role)
        return {"role": role, "content": tools.said(self.text, made)}


class ToolFunction(Body):
    """What a tool is called, what it does, and what it takes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None


class Tool(Body):
    """Something that the model may call."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(Body):
    """A tool by its name."""

    name: Name


class NamedTool(Body):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """A form of the answer."""

    name: Name
    description: Text = ""
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    strict: bool | None = None


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON of a form."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


# --- bodies ------------------------------------------------------------------------------------------------------


class Sampling(Body):
    """What both kinds of completion take."""

    model: Name
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop = None
    seed: Seed | None = None
    presence_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Annotated[Finite, Field(ge=-100, le=100)]] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31)] | None = None
    """Not OpenAI's; vLLM's and others' name."""
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """The same."""
    repetition_penalty: Annotated[Finite, Field(gt=0, le=10)] | None = None
    """The same."""
    min_tokens: Annotated[int, Field(ge=0, le=2**24)] | None = None
    """The same."""
    ignore_eos: bool | None = None
    """The same: whoever measures wants answers of a known length."""

    @model_validator(mode="after")
    def _tells_when_it_streams(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only where stream is true")
        return self

    def options(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        names = (
            "temperature", "top_p", "top_k", "min_p", "stop", "presence_penalty", "frequency_penalty", "max_tokens",
            "repetition_penalty", "min_tokens",
        )  # fmt: skip
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.seed is not None:
            found["seed"] = self.seed % 2**64
        if self.ignore_eos:
            found["ignore_eos"] = True
        if self.logit_bias:
            found["logit_bias"] = {int(token): value for token, value in self.logit_bias.items()}
        return found


class ChatBody(Sampling):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: PlainFormat | SchemaFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    """Chats are never kept; `/v1/responses` keeps what it answers."""
    service_tier: Literal["auto", "default"] | None = None
    reasoning_effort: Literal["none"] | None = None
    """How long to think is not for the models here; a client that asks for it expects to get it."""
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: only where logprobs is true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens mean the same: give one")
        names = {tool.function.name for tool in self.tools or ()}
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: there is no tool {self.tool_choice.function.name!r} among tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: a tool is required, and there are no tools")
        return self

    def options(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        found = super().options()
        if self.max_completion_tokens is not None:
            found["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            found["logprobs"] = self.top_logprobs or 0
        if isinstance(self.response_format, SchemaFormat):
            found["schema"] = self.response_format.json_schema.schema_
        elif self.response_format is not None and self.response_format.type == "json_object":
            found["schema"] = {"type": "object"}
        offers, demanded = self.offers(), self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)
        if demanded or (offers and "schema" in found):
            found["schema"] = tools.form(offers, None if demanded else found["schema"])
        return found

    def offers(self) -> list[Offer]:
        """Return the tools that the model may call."""
        given = [] if self.tool_choice == "none" else [tool.function for tool in self.tools or ()]
        if isinstance(self.tool_choice, NamedTool):
            given = [function for function in given if function.name == self.tool_choice.function.name]
        return [Offer(function.name, function.description, function.parameters) for function in given]


class CompletionBody(Sampling):
    """``POST /v1/completions``."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=128, fail_fast=True)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None

    def options(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        return super().options() | ({} if self.logprobs is None else {"logprobs": self.logprobs})


class EmbeddingBody(Body):
    """``POST /v1/embeddings``."""

    model: Name
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=2048, fail_fast=True)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None = None
    user: str | None = None
