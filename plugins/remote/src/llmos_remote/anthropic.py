"""The backend ``anthropic``: Anthropic's models, by the Messages API (platform.claude.com/docs/en/api/messages).

Answers are always streamed from the far end.  What the API does not take of every model (``temperature``, ``top_p``,
``top_k``) is refused unless the model's option ``extra`` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmos_kernel.api import Task, Usage
from llmos_kernel.contracts import Backend
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_remote.answers import string, tokens
from llmos_remote.backend import RemoteBackend
from llmos_remote.dialect import Answered, Dialect, Say
from llmos_remote.failures import FarEnd
from llmos_remote.options import Options
from llmos_remote.requests import conversation, count, parameters, prompt, stops

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from llmos_remote.wire import Wire

api = 1
"""The version of the backends' contract that this module is written for."""
_KNOWN = (
    "max_tokens", "stop", "schema", "tools", "tool_choice", "thinking", "output_config", "metadata", "service_tier",
    "cache_control",
)  # fmt: skip
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
"""Reasons for an end that llmos has words for; others are told as they are."""


@hookimpl
def llmos_backend(config: Mapping[str, Any]) -> Backend:
    """Return the backend; *config* gives defaults for the options of models (see `Options`)."""
    return AnthropicBackend(config)


class AnthropicBackend(RemoteBackend):
    """Models behind Anthropic's API, or behind one like it."""

    name, module, distribution = "anthropic", "anthropic", "anthropic"
    default_url, variables = "https://api.anthropic.com", ("ANTHROPIC_API_KEY",)
    kinds = frozenset(("generate", "chat"))

    def dialect(self, options: Options, far: FarEnd, *, official: bool) -> Dialect:
        """Return the dialect; imports ``anthropic``."""
        return AnthropicDialect(options, far)


class AnthropicDialect(Dialect):
    """Requests and answers of the Messages API."""

    def __init__(self, options: Options, far: FarEnd) -> None:
        import anthropic  # noqa: PLC0415 - more than a second, which only who loads such a model pays

        self._sdk, self._options, self._far = anthropic, options, far
        self.failures = (anthropic.AnthropicError,)

    def connect(self, wire: Wire) -> AsyncAnthropic:
        """Return Anthropic's client; it asks once, because asking again is the executor's."""
        return self._sdk.AsyncAnthropic(
            api_key=self._far.key or "none", base_url=self._far.place.url, max_retries=0, timeout=wire.timeout,
            http_client=wire,
        )  # fmt: skip

    def read(self, task: Task) -> Mapping[str, Any]:
        """Return the arguments of the client's method for *task*."""
        if task.kind not in AnthropicBackend.kinds:
            raise InvalidArgument.of("kind", task.kind, f"one of {', '.join(sorted(AnthropicBackend.kinds))}")
        params = parameters(task, (*_KNOWN, *self._options.extra), self._far.place.host)
        extra = {name: params.pop(name) for name in self._options.extra if name in params}
        most = count(params, "max_tokens", 1, 2**40) or self._options.max_tokens
        asked = {**params, "model": self._far.name, "max_tokens": most, "stream": True, **_said(task)}
        if words := stops(params):
            asked["stop_sequences"] = words
        asked.pop("stop", None)
        if "schema" in asked:
            if "output_config" in asked:
                message = "schema and output_config both say what form the answer has: give one"
                raise InvalidArgument(message, field="schema", value=params["schema"], expected="only one of the two")
            asked["output_config"] = {"format": {"type": "json_schema", "schema": asked.pop("schema")}}
        return {**asked, **({"extra_body": extra} if extra else {})}

    async def ask(self, client: AsyncAnthropic, kind: str, request: Mapping[str, Any], say: Say) -> Answered:
        """Send *request* once."""
        heard = _Heard()
        create: Any = client.messages.create
        async with await create(**request) as events:
            async for event in events:
                await say(heard.take(event))
        if not heard.ended:
            raise self._far.unavailable("ended its answer in the middle, without saying why")
        return heard.answered()


def _said(task: Task) -> dict[str, Any]:
    """Return the messages, and apart from them what the API wants to have apart: the system's."""
    if task.kind == "generate":
        return {"messages": [{"role": "user", "content": prompt(task)}]}
    said = conversation(task)
    for number, message in enumerate(said):
        if message["role"] == "tool" or "tool_calls" in message:
            expected = "blocks of Anthropic's form (tool_use, tool_result) as content"
            raise InvalidArgument.of(f"input[{number}]", message, expected)
    system = [message["content"] for message in said if message["role"] in {"system", "developer"}]
    if wrong := [one for one in system if not isinstance(one, str)]:
        raise InvalidArgument.of("input", wrong[0], "a text as the system's message")
    rest = [message for message in said if message["role"] not in {"system", "developer"}]
    return {"messages": rest, **({"system": "\n\n".join(system)} if system else {})}


class _Heard:
    """What a streamed answer said until now.  A stranger's: anything may be missing, or of another type."""

    def __init__(self) -> None:
        self.ended = False
        self._finish, self._usage = "", Usage()
        self._facts: dict[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, event: Any) -> str:  # noqa: ANN401 - read, not checked
        """Return the text that *event* brings."""
        if event.type == "message_start":
            self._facts = {"id": string(event.message.id), "model": string(event.message.model)}
            self._count(event.message.usage)
        elif event.type == "content_block_start" and event.content_block.type == "tool_use":
            call = {"id": string(event.content_block.id), "name": string(event.content_block.name), "arguments": ""}
            self._calls[int(event.index)] = call
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            return string(event.delta.text)
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
            self._calls[int(event.index)]["arguments"] += string(event.delta.partial_json)
        elif event.type == "message_delta":
            self._finish = string(event.delta.stop_reason)
            self._count(event.usage)
        elif event.type == "message_stop":
            self.ended = bool(self._finish)
        return ""

    def _count(self, found: Any) -> None:  # noqa: ANN401
        """Note usage: the prompt's tokens are told in three parts, and later events tell only what changed."""
        cached = tokens(getattr(found, "cache_read_input_tokens", None))
        written = tokens(getattr(found, "cache_creation_input_tokens", None))
        prompt = tokens(getattr(found, "input_tokens", None)) + cached + written
        generated = tokens(getattr(found, "output_tokens", None))
        old = self._usage
        self._usage = Usage(prompt or old.prompt, cached or old.cached, generated or old.generated)

    def answered(self) -> Answered:
        """Return the rest of the answer."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        facts = {**self._facts, **({"tool_calls": calls} if calls else {})}
        return Answered(finish=_FINISH.get(self._finish, self._finish), usage=self._usage, facts=facts)
