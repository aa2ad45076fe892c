"""The bodies of requests, as Ollama's API reference has them (docs.ollama.com/api).

Options that say how a machine computes (``num_thread``, ``num_gpu``, ...) are taken and change nothing here: whoever
runs the server has decided.  What would change the answer and cannot be done is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from llmos_server import tools
from llmos_server.bodies import MOST, Body, Finite, Name, Text
from llmos_server.tools import Offer

Count = Annotated[int, Field(ge=0, le=2**31)]


class ModelOptions(Body):
    """How the model answers."""

    temperature: Annotated[Finite, Field(ge=0, le=100)] | None = None
    top_k: Count | None = None
    top_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Finite, Field(gt=0, le=10)] | None = None
    presence_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=64, fail_fast=True)] | str | None = None
    num_predict: Annotated[int, Field(ge=-2, le=2**31)] | None = None
    """Most tokens; below 0 is as many as fit."""
    num_ctx: Count | None = None
    """A context of at least so many tokens."""
    typical_p: Annotated[Finite, Field(ge=1, le=1)] | None = None
    tfs_z: Annotated[Finite, Field(ge=1, le=1)] | None = None
    mirostat: Annotated[int, Field(ge=0, le=0)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=-1)] | None = None
    """A penalty looks at all that was said: that is -1."""
    num_keep: Count | None = None
    """A context is never shifted, so all of it is kept."""
    numa: bool | None = None
    num_batch: Count | None = None
    num_gpu: Annotated[int, Field(ge=-1, le=2**31)] | None = None
    main_gpu: Count | None = None
    num_thread: Count | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ModelOptions:
        if self.num_predict == 0:
            raise ValueError("num_predict: at least 1, or -1 for as many as fit")
        return self

    def plain(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        names = ("temperature", "top_k", "top_p", "min_p", "stop", "presence_penalty", "frequency_penalty")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.repeat_penalty is not None:
            found["repetition_penalty"] = self.repeat_penalty
        if self.seed is not None:
            found["seed"] = self.seed % 2**64
        if self.num_predict is not None and self.num_predict > 0:
            found["max_tokens"] = self.num_predict
        return found


class Named(Body):
    """What all bodies that name a model share."""

    model: Name
    keep_alive: Annotated[str, Field(max_length=64)] | Annotated[Finite, Field(ge=-(2**31), le=2**31)] | None = None
    """A model stays loaded until its room is needed; 0, without a prompt, unloads it."""
    options: ModelOptions = Field(default_factory=ModelOptions)


class Asking(Named):
    """What both kinds of question share."""

    format: Literal["", "json"] | dict[str, Any] | None = None
    stream: bool | None = None
    think: Literal[False] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer comes in pieces, as it does unless it is asked not to."""
        return self.stream is not False

    def plain(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        found = self.options.plain()
        if self.format == "json":
            found["schema"] = {"type": "object"}
        elif self.format:
            found["schema"] = self.format
        if self.logprobs:
            found["logprobs"] = self.top_logprobs or 0
        return found


class GenerateBody(Asking):
    """``POST /api/generate``."""

    prompt: Text = ""
    system: Text = ""
    raw: bool | None = None
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    images: Annotated[list[str], Field(max_length=0, fail_fast=True)] | None = None
    context: Annotated[list[int], Field(max_length=0, fail_fast=True)] | None = None


class CalledFunction(Body):
    """What a model called."""

    index: Count | None = None
    name: Name
    arguments: dict[str, Any]


class ToolCall(Body):
    """A call of a tool."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    thinking: Text | None = None
    images: Annotated[list[str], Field(max_length=0, fail_fast=True)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST, fail_fast=True)] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def plain(self) -> dict[str, str]:
        """Return the message as models take it; results of tools are told by the user."""
        made = [(call.function.name, call.function.arguments) for call in self.tool_calls or ()]
        return {"role": "user" if self.role == "tool" else self.role, "content": tools.said(self.content or "", made)}


class ToolFunction(Body):
    """What a tool is called, what it does, and what it takes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: Text = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(Body):
    """Something that the model may call."""

    type: Literal["function"] = "function"
    function: ToolFunction


class ChatBody(Asking):
    """``POST /api/chat``."""

    messages: Annotated[list[ChatMessage], Field(max_length=4096, fail_fast=True)] = Field(default_factory=list)
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None

    def offers(self) -> list[Offer]:
        """Return the tools that the model may call."""
        given = [tool.function for tool in self.tools or ()]
        return [Offer(function.name, function.description, function.parameters) for function in given]

    def plain(self) -> dict[str, Any]:
        """Return what the SDK's models take."""
        found = super().plain()
        if "schema" in found and (offers := self.offers()):
            found["schema"] = tools.form(offers, found["schema"])
        return found


class EmbedBody(Named):
    """``POST /api/embed``."""

    input: Text | Annotated[list[Text], Field(max_length=2048, fail_fast=True)]
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=1, le=2**20)] | None = None


class EmbeddingsBody(Named):
    """``POST /api/embeddings``, the older form."""

    prompt: Text


class ShowBody(Body):
    """``POST /api/show``."""

    model: Name
    verbose: bool | None = None
