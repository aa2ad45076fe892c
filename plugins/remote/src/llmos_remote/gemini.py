"""The backend ``gemini``: Google's models, by the Gemini API (ai.google.dev/api).

Answers are always streamed from the far end, as server-sent events.
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
    from google.genai import Client

    from llmos_remote.wire import Wire

api = 1
"""The version of the backends' contract that this module is written for."""
_NAMES = {
    "max_tokens": "max_output_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "seed": "seed",
    "presence_penalty": "presence_penalty", "frequency_penalty": "frequency_penalty",
    "stop": "stop_sequences", "schema": "response_json_schema", "logprobs": "logprobs",
}  # fmt: skip
"""What the API calls the parameters of llmos."""
_PASSED = ("tools", "tool_config", "safety_settings", "thinking_config", "response_mime_type", "response_schema",
           "cached_content")  # fmt: skip
_EMBED = {"dimensions": "output_dimensionality", "task_type": "task_type", "title": "title"}
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
"""Reasons for an end that llmos has words for; others are told in small letters."""
_ROLES = {"user": "user", "assistant": "model"}


@hookimpl
def llmos_backend(config: Mapping[str, Any]) -> Backend:
    """Return the backend; *config* gives defaults for the options of models (see `Options`)."""
    return GeminiBackend(config)


class GeminiBackend(RemoteBackend):
    """Models behind the Gemini API, or behind one like it."""

    name, module, distribution = "gemini", "google.genai", "google-genai"
    default_url, variables = "https://generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    kinds = frozenset(("generate", "chat", "embed"))

    def dialect(self, options: Options, far: FarEnd, *, official: bool) -> Dialect:
        """Return the dialect; imports ``google.genai``."""
        return GeminiDialect(options, far)


class GeminiDialect(Dialect):
    """Requests and answers of the Gemini API."""

    def __init__(self, options: Options, far: FarEnd) -> None:
        from google import genai  # noqa: PLC0415 - most of a second, which only who loads such a model pays
        from google.genai import errors, types  # noqa: PLC0415 - the same

        self._sdk, self._types, self._options, self._far = genai, types, options, far
        self.failures = (errors.APIError,)

    def connect(self, wire: Wire) -> Client:
        """Return Google's client; it asks once, because asking again is the executor's."""
        how = self._types.HttpOptions(
            base_url=self._far.place.url, httpx_async_client=wire, timeout=int(self._options.timeout * 1000)
        )
        return self._sdk.Client(api_key=self._far.key or "none", vertexai=False, http_options=how)

    def read(self, task: Task) -> Mapping[str, Any]:
        """Return the arguments of the client's method for *task*."""
        if task.kind not in GeminiBackend.kinds:
            raise InvalidArgument.of("kind", task.kind, f"one of {', '.join(sorted(GeminiBackend.kinds))}")
        if task.kind == "embed":
            params = parameters(task, tuple(_EMBED), self._far.place.host)
            config = {_EMBED[name]: value for name, value in params.items()}
            made = self._made(self._types.EmbedContentConfig, config)
            return {"model": self._far.name, "contents": prompt(task), "config": made}
        params = parameters(task, (*_NAMES, *_PASSED), self._far.place.host)
        config = {_NAMES.get(name, name): value for name, value in params.items()} | self._checked(params)
        contents, system = self._said(task)
        config |= {
            "automatic_function_calling": {"disable": True},
            **({"system_instruction": system} if system else {}),
        }
        made = self._made(self._types.GenerateContentConfig, config)
        return {"model": self._far.name, "contents": contents, "config": made}

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the API says in another form than llmos."""
        count(params, "max_tokens", 1, 2**31 - 1)
        found: dict[str, Any] = {}
        if "stop" in params:
            found["stop_sequences"] = stops(params)
        if count(params, "logprobs", 0, 20) is not None:
            found["response_logprobs"] = True
        if "schema" in params:
            if "response_schema" in params:
                message = "schema and response_schema both say what form the answer has: give one"
                raise InvalidArgument(message, field="schema", value=params["schema"], expected="only one of the two")
            found["response_mime_type"] = "application/json"
        return found

    def _said(self, task: Task) -> tuple[Any, str]:
        """Return what was said, and apart from it what the API wants to have apart: the system's."""
        if task.kind == "generate":
            return prompt(task), ""
        contents, system = [], []
        for number, message in enumerate(conversation(task)):
            role, said = message["role"], message.get("content")
            if role not in {*_ROLES, "system", "developer"} or not isinstance(said, str):
                raise InvalidArgument.of(f"input[{number}]", message, "a text of the system, the user or the assistant")
            if role in _ROLES:
                contents.append(self._types.Content(role=_ROLES[role], parts=[self._types.Part(text=said)]))
            else:
                system.append(said)
        if not contents:
            raise InvalidArgument.of("input", task.input, "a message of the user besides the system's")
        return contents, "\n\n".join(system)

    @staticmethod
    def _made(kind: Any, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a model of pydantic's
        """Return *config* as the client takes it; it is checked here, before anything is sent."""
        theirs = {theirs: ours for ours, theirs in (*_NAMES.items(), *_EMBED.items())}
        try:
            return kind(**config)
        except ValueError as error:
            errors: Any = getattr(error, "errors", list)()
            first = errors[0] if errors else {"loc": ("params",), "msg": str(error)}
            field = str(first["loc"][0])
            field = theirs.get(field, field)
        raise InvalidArgument.of(field, config.get(field), f"what the API takes ({first['msg']})")

    async def ask(self, client: Client, kind: str, request: Mapping[str, Any], say: Say) -> Answered:
        """Send *request* once."""
        if kind == "embed":
            answer = await client.aio.models.embed_content(**request)
            vector = tuple(float(one) for one in (answer.embeddings or [])[0].values or ())
            if not vector:
                raise ValueError("an empty vector")
            return Answered(vector=vector)
        heard = _Heard()
        async for chunk in await client.aio.models.generate_content_stream(**request):
            await say(*heard.take(chunk))
        if not heard.finish:
            raise self._far.unavailable("ended its answer in the middle, without saying why")
        return heard.answered()


class _Heard:
    """What a streamed answer said until now.  A stranger's: anything may be missing."""

    def __init__(self) -> None:
        self.finish, self._usage = "", Usage()
        self._facts: dict[str, Any] = {}
        self._calls: list[dict[str, Any]] = []

    def take(self, chunk: Any) -> tuple[str, tuple[Any, ...]]:  # noqa: ANN401 - read, not checked
        """Return the text and the log probabilities that *chunk* brings."""
        for name, value in (("id", chunk.response_id), ("model", chunk.model_version)):
            self._facts |= {name: value} if value else {}
        if chunk.usage_metadata is not None:
            self._usage = _usage(chunk.usage_metadata)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self.finish = f"blocked: {_word(chunk.prompt_feedback.block_reason)}"
        if not chunk.candidates:
            return "", ()
        candidate = chunk.candidates[0]
        if candidate.finish_reason:
            reason = str(getattr(candidate.finish_reason, "value", candidate.finish_reason))
            self.finish = _FINISH.get(reason, reason.lower())
        parts = (candidate.content.parts if candidate.content else None) or ()
        for part in parts:
            if part.function_call is not None:
                self._called(part.function_call)
        text = "".join(string(part.text) for part in parts if not part.thought)
        return text, _logprobs(candidate.logprobs_result)

    def _called(self, call: Any) -> None:  # noqa: ANN401
        import json  # noqa: PLC0415 - only where a tool is called

        arguments = json.dumps(call.args or {}, separators=(",", ":"))
        self._calls.append({"id": string(call.id), "name": string(call.name), "arguments": arguments})

    def answered(self) -> Answered:
        """Return the rest of the answer."""
        facts = {**self._facts, **({"tool_calls": self._calls} if self._calls else {})}
        finish = "tool_calls" if self._calls and self.finish == "stop" else self.finish
        return Answered(finish=finish, usage=self._usage, facts=facts)


def _usage(found: Any) -> Usage:  # noqa: ANN401
    """Return the tokens; those that the model thought in are billed like those it said."""
    prompt, cached = tokens(found.prompt_token_count), tokens(found.cached_content_token_count)
    generated = tokens(found.candidates_token_count) + tokens(found.thoughts_token_count)
    return Usage(prompt, min(cached, prompt), generated)


def _word(reason: object) -> str:
    return str(getattr(reason, "value", reason)).lower()


def _logprobs(found: Any) -> tuple[Any, ...]:  # noqa: ANN401
    if found is None:
        return ()
    chosen, tops = found.chosen_candidates or [], found.top_candidates or []
    tops = [*tops, *(None for _ in chosen[len(tops) :])]
    return tuple(
        {**_token(one), "top": [_token(other) for other in (top.candidates if top else None) or ()]}
        for one, top in zip(chosen, tops, strict=True)
    )


def _token(found: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": found.token_id, "token": string(found.token), "logprob": float(found.log_probability)}
