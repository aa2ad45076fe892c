"""The backend ``openai``: OpenAI, and everything that speaks its protocol.

The protocol is the API reference's (platform.openai.com/docs/api-reference): chat completions and completions as
server-sent events, and embeddings.  Answers are always streamed from the far end, also for tasks that do not stream,
so that what came is not lost where the rest does not.
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
    from openai import AsyncOpenAI

    from llmos_remote.wire import Wire

api = 1
"""The version of the backends' contract that this module is written for."""
URL = "https://api.openai.com/v1"
LENGTHS = ("max_tokens", "max_completion_tokens")
_SAMPLING = (
    "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "stop",
    "logprobs",
)  # fmt: skip
"""Parameters of llmos that the protocol can say."""
_PASSED = {
    "chat": (
        "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity", "metadata",
        "service_tier", "store", "user", "safety_identifier", "prompt_cache_key", "prediction",
    ),
    "completions": ("suffix", "user"),
    "embed": ("dimensions", "user"),
}  # fmt: skip
"""Parameters of the protocol alone, by route: they are passed as they are."""


@hookimpl
def llmos_backend(config: Mapping[str, Any]) -> Backend:
    """Return the backend; *config* gives defaults for the options of models (see `Options`)."""
    return OpenAIBackend(config)


class OpenAIBackend(RemoteBackend):
    """Models behind OpenAI's API, or behind one like it."""

    name, module, distribution = "openai", "openai", "openai"
    default_url, variables = URL, ("OPENAI_API_KEY",)
    ambient = ("openai-organization", "openai-project")
    kinds = frozenset(("generate", "chat", "embed"))

    def dialect(self, options: Options, far: FarEnd, *, official: bool) -> Dialect:
        """Return the dialect; imports ``openai``."""
        theirs = official or far.place.host.endswith(".openai.azure.com")
        return OpenAIDialect(options, far, options.length or LENGTHS[theirs])


class OpenAIDialect(Dialect):
    """Requests and answers of OpenAI's protocol; *length* is what it calls the most tokens of an answer."""

    def __init__(self, options: Options, far: FarEnd, length: str) -> None:
        import openai  # noqa: PLC0415 - half a second, which only who loads such a model pays

        self._sdk, self._options, self._far, self._length = openai, options, far, length
        self.failures = (openai.OpenAIError,)

    def connect(self, wire: Wire) -> AsyncOpenAI:
        """Return OpenAI's client; it asks once, because asking again is the executor's."""
        return self._sdk.AsyncOpenAI(
            api_key=self._far.key or "none", base_url=self._far.place.url, max_retries=0, timeout=wire.timeout,
            http_client=wire,
        )  # fmt: skip

    def read(self, task: Task) -> Mapping[str, Any]:
        """Return the arguments of the client's method for *task*."""
        route = self._route(task.kind)
        known = (*_PASSED[route], *self._options.extra, *(() if route == "embed" else _SAMPLING))
        known = (*known, "schema") if route == "chat" else known
        params = parameters(task, known, self._far.place.host)
        extra = {name: params.pop(name) for name in self._options.extra if name in params}
        head = {"model": self._far.name, **({"extra_body": extra} if extra else {})}
        if route == "embed":
            return {**head, "input": prompt(task), "encoding_format": "float", **params}
        asked = {**head, **self._sampled(params, route), "stream": True}
        if self._options.usage:
            asked["stream_options"] = {"include_usage": True}
        if route == "completions":
            return {**asked, "prompt": prompt(task)}
        said = conversation(task) if task.kind == "chat" else [{"role": "user", "content": prompt(task)}]
        return {**asked, "messages": said}

    def _route(self, kind: str) -> str:
        if kind not in OpenAIBackend.kinds:
            raise InvalidArgument.of("kind", kind, f"one of {', '.join(sorted(OpenAIBackend.kinds))}")
        return self._options.text if kind == "generate" else kind

    def _sampled(self, params: dict[str, Any], route: str) -> dict[str, Any]:
        """Return *params* in the protocol's names."""
        most, alternatives = count(params, "max_tokens", 1, 2**40), count(params, "logprobs", 0, 20)
        if words := stops(params):
            params["stop"] = words
        if most is not None and route == "chat":
            params[self._length] = params.pop("max_tokens")
        if alternatives is not None and route == "chat":
            params["logprobs"], params["top_logprobs"] = True, alternatives
        if "schema" in params:
            if "response_format" in params:
                message = "schema and response_format both say what form the answer has: give one"
                raise InvalidArgument(message, field="schema", value=params["schema"], expected="only one of the two")
            form = {"name": "answer", "schema": params.pop("schema"), "strict": True}
            params["response_format"] = {"type": "json_schema", "json_schema": form}
        return params

    async def ask(self, client: AsyncOpenAI, kind: str, request: Mapping[str, Any], say: Say) -> Answered:
        """Send *request* once."""
        route = self._route(kind)
        if route == "embed":
            return self._embedded(await client.embeddings.create(**request))
        create: Any = client.completions.create if route == "completions" else client.chat.completions.create
        heard = _Heard(route)
        async with await create(**request) as events:
            async for event in events:
                text, logprobs = heard.take(event)
                await say(text, logprobs)
        if not heard.finish:
            raise self._far.unavailable("ended its answer in the middle, without saying why")
        return heard.answered()

    def _embedded(self, answer: Any) -> Answered:  # noqa: ANN401 - read, not checked
        vector = tuple(float(one) for one in answer.data[0].embedding)
        if not vector:
            raise ValueError("an empty vector")
        return Answered(vector=vector, usage=_usage(answer.usage))


class _Heard:
    """What a streamed answer said until now.  A stranger's: anything may be missing, or of another type."""

    def __init__(self, route: str) -> None:
        self._chat = route == "chat"
        self.finish, self.usage = "", Usage()
        self._facts: dict[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, event: Any) -> tuple[str, tuple[Any, ...]]:  # noqa: ANN401
        """Return the text and the log probabilities that *event* brings."""
        if isinstance(getattr(event, "id", None), str) and event.id:
            self._facts |= {"id": event.id, "model": str(event.model)}
        self.usage = _usage(event.usage) if getattr(event, "usage", None) else self.usage
        if not event.choices:  # the last event has the usage alone, and Azure's first says nothing
            return "", ()
        choice = event.choices[0]
        self.finish = str(choice.finish_reason or self.finish)
        if not self._chat:
            return string(choice.text), _completion_logprobs(choice.logprobs)
        for call in choice.delta.tool_calls or ():
            self._called(call)
        return string(choice.delta.content), _chat_logprobs(choice.logprobs)

    def _called(self, piece: Any) -> None:  # noqa: ANN401
        call = self._calls.setdefault(int(piece.index), {"id": "", "name": "", "arguments": ""})
        call["id"] = string(piece.id) or call["id"]
        if piece.function is not None:
            call["name"] += string(piece.function.name)
            call["arguments"] += string(piece.function.arguments)

    def answered(self) -> Answered:
        """Return the rest of the answer."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        facts = {**self._facts, **({"tool_calls": calls} if calls else {})}
        return Answered(finish=self.finish, usage=self.usage, facts=facts)


def _usage(found: Any) -> Usage:  # noqa: ANN401
    details = getattr(found, "prompt_tokens_details", None)
    prompt, cached = tokens(found.prompt_tokens), tokens(getattr(details, "cached_tokens", 0))
    return Usage(prompt, min(cached, prompt), tokens(getattr(found, "completion_tokens", 0)))


def _chat_logprobs(found: Any) -> tuple[Any, ...]:  # noqa: ANN401
    content = getattr(found, "content", None) or ()
    return tuple({**_token(one), "top": [_token(top) for top in one.top_logprobs or ()]} for one in content)


def _token(found: Any) -> dict[str, Any]:  # noqa: ANN401
    facts = {"id": None, "token": string(found.token), "logprob": float(found.logprob)}
    return facts | ({"bytes": list(found.bytes)} if getattr(found, "bytes", None) is not None else {})


def _completion_logprobs(found: Any) -> tuple[Any, ...]:  # noqa: ANN401
    pieces, tops = getattr(found, "tokens", None) or (), getattr(found, "top_logprobs", None) or ()
    tops = [*tops, *({} for _ in pieces[len(tops) :])]
    return tuple(
        {"id": None, "token": string(token), "logprob": float(logprob),
         "top": [{"id": None, "token": one, "logprob": float(value)} for one, value in (top or {}).items()]}
        for token, logprob, top in zip(pieces, found.token_logprobs if pieces else (), tops, strict=True)
    )  # fmt: skip
