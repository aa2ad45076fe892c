"""What the server does with each field of OpenAI's API: asked of a server that runs, and written as a page.

    python -m plugins.server.tests.conformance > plugins/server/OPENAI.md

Whether a field matters is seen, not claimed: it does if the engine is told something else, or the answer has another
form, than without it.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from llmos_server.document.whole import ERRORS
from plugins.server.tests.serving import Site, serving

TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
CHAT_TOOL = {"type": "function", "function": TOOL}
FORM = {"name": "x", "schema": {"type": "array"}}
MESSAGES = [{"role": "user", "content": "one two three"}]
CHANGES, NOTHING, REFUSED = "yes", "taken, changes nothing", "refused by name"
ODD = "anything"
"""For a field that nothing is known of."""

SAMPLING: dict[str, list[Any]] = {
    "temperature": [0.5], "top_p": [0.5], "user": ["ann"], "stream": [True],
    "stream_options": [{"include_usage": True}],
}  # fmt: skip
BOTH: dict[str, list[Any]] = {
    "n": [2], "stop": [["three"]], "seed": [7], "presence_penalty": [1.0], "frequency_penalty": [1.0],
    "logit_bias": [{"5": 1}], "max_tokens": [1],
}  # fmt: skip
TRIED: dict[str, dict[str, list[Any]]] = {
    "/v1/chat/completions": SAMPLING | BOTH | {
        "model": ["toy"], "messages": [[{"role": "user", "content": "other"}]], "max_completion_tokens": [1],
        "logprobs": [True], "top_logprobs": [2], "response_format": [{"type": "json_schema", "json_schema": FORM}],
        "tools": [[CHAT_TOOL]], "tool_choice": ["required", "none"], "parallel_tool_calls": [False],
        "metadata": [{"a": "b"}], "store": [False, True], "service_tier": ["auto", "flex"],
        "reasoning_effort": ["none", "low"], "safety_identifier": ["x"], "prompt_cache_key": ["x"],
    },
    "/v1/completions": SAMPLING | BOTH | {
        "model": ["toy"], "prompt": ["other"], "logprobs": [1], "echo": [True], "best_of": [1, 2],
        "suffix": [None, "x"],
    },
    "/v1/embeddings": {
        "model": ["toy"], "input": ["other"], "encoding_format": ["base64"], "dimensions": [2, 3], "user": ["ann"],
    },
    "/v1/responses": SAMPLING | {
        "model": ["toy"], "input": ["other"], "instructions": ["be brief"], "max_output_tokens": [1],
        "top_logprobs": [2], "include": [["message.output_text.logprobs"]], "previous_response_id": ["resp_absent"],
        "text": [{"format": {"type": "json_schema", **FORM}}], "tools": [[{"type": "function", **TOOL}]],
        "tool_choice": ["required", "none"], "parallel_tool_calls": [False], "store": [False],
        "truncation": ["disabled", "auto"], "background": [False, True], "service_tier": ["auto", "flex"],
        "metadata": [{"a": "b"}], "safety_identifier": ["x"], "prompt_cache_key": ["x"],
        "stream_options": [{"include_obfuscation": False}],
    },
}  # fmt: skip
"""Values of fields, by route."""
WITH: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True}, "top_logprobs": {"logprobs": True}, "tool_choice": {"tools": [CHAT_TOOL]},
}  # fmt: skip
"""What must be there too."""
LEAST: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "echo", "messages": MESSAGES},
    "/v1/completions": {"model": "echo", "prompt": "one two three"},
    "/v1/embeddings": {"model": "echo", "input": "one two three"},
    "/v1/responses": {"model": "echo", "input": "one two three"},
}
THEIRS: dict[str, Any] = {
    "/v1/chat/completions": chat_create_params.CompletionCreateParamsBase,
    "/v1/completions": completion_create_params.CompletionCreateParamsBase,
    "/v1/embeddings": embedding_create_params.EmbeddingCreateParams,
    "/v1/responses": response_create_params.ResponseCreateParamsBase,
}
"""What OpenAI's own client lets a program send."""
OTHERS = {
    "/v1/chat/completions": "audio function_call functions modalities moderation prediction prompt_cache_options "
    "prompt_cache_retention verbosity web_search_options",
    "/v1/completions": "",
    "/v1/embeddings": "",
    "/v1/responses": "access_programs background_options context_management conversation image max_tool_calls "
    "moderation prompt prompt_cache_options prompt_cache_retention reasoning",
}
"""Fields that are refused whatever their value."""
NOTES = {
    ("/v1/chat/completions", "tools"): "`strict` too: arguments keep to the schema where a call is demanded "
    "(`tool_choice`); where the model may choose, they are what it wrote",
    ("/v1/chat/completions", "parallel_tool_calls"): "an answer makes one call at most",
    ("/v1/responses", "parallel_tool_calls"): "an answer makes one call at most, and says again what was asked",
    ("/v1/responses", "previous_response_id"): "that of a response that is not kept; one that is kept is gone on from",
    ("/v1/embeddings", "dimensions"): "as many as the model's vectors have",
}
FORGET = frozenset(("id", "created", "created_at", "call_id"))
"""What differs between any two answers."""


@attrs.frozen(order=True)
class Verdict:
    """What becomes of a value of a field."""

    path: str
    field: str
    value: str
    becomes: str


def fields(path: str) -> list[str]:
    """Return what the client sends to *path*, or we know of."""
    return sorted({*typing.get_type_hints(THEIRS[path]), *TRIED[path], *OTHERS[path].split()})


def verdicts(site: Site) -> Iterator[Verdict]:
    """Ask the server with every value of every field."""
    for path, tried in TRIED.items():
        for field in fields(path):
            for value in tried.get(field, [ODD]):
                yield Verdict(path, field, written(value), becomes(site, path, field, value))


def becomes(site: Site, path: str, field: str, value: Any) -> str:
    """Return what the server does with *field*."""
    more = dict(WITH.get(field, {}))
    if path != "/v1/chat/completions":
        more = {name: one for name, one in more.items() if name != "logprobs"}
        more = {name: [{"type": "function", **TOOL}] if name == "tools" else one for name, one in more.items()}
    body = LEAST[path] | more
    before, after = seen(site, path, body), site.post(path, **body | {field: value})
    if after.status_code == 400:
        error = after.json()["error"]
        if field not in error["message"]:
            raise AssertionError(f"{path}: {field} is refused, and not by its name: {error}")
        return REFUSED
    after.raise_for_status()
    return NOTHING if before == told(site, path, after) else CHANGES


def seen(site: Site, path: str, body: dict[str, Any]) -> Any:
    """Ask, and return what came of it."""
    return told(site, path, site.post(path, **body).raise_for_status())


def told(site: Site, path: str, response: httpx.Response) -> Any:
    """Return what the engine was told and what form the answer has, without what always differs."""
    kind = response.headers["content-type"]
    answer = sorted(set(response.text.split())) if "event" in kind else plain(response.json())
    if "event" in kind:
        answer = ["usage" in response.text]
    tasks = [executor.tasks[-1] for executor in site.echo.executors if executor.tasks]
    last = [(task.kind, dict(task.params), task.input) for task in tasks if task.kind != "tokenize"]
    return kind, answer, last


def plain(value: Any) -> Any:
    """Return JSON without what always differs."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if name not in FORGET}
    return [plain(one) for one in value] if isinstance(value, list) else value


def written(value: Any) -> str:
    """Return a value as the page has it: what is long is told by its kind."""
    return "" if isinstance(value, dict | list) else json.dumps(value)


def page() -> str:
    """Return the page."""
    with serving() as site:
        found = list(verdicts(site))
    lines = ["# What becomes of OpenAI's fields", "", HEAD, ""]
    for path, tried in TRIED.items():
        lines += [f"## `POST {path}`", "", "| field | supported |", "|---|---|"]
        lines += [row(path, field, [one for one in found if (one.path, one.field) == (path, field)])
                  for field in sorted(tried)]  # fmt: skip
        others = ", ".join(f"`{field}`" for field in OTHERS[path].split())
        lines += ["", *([f"Refused by name: {others}.", ""] if others else [])]
    lines += ["## Errors", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {status} | {meaning} |" for status, meaning in ERRORS.items()]
    return "\n".join(lines) + "\n"


HEAD = """\
Written by `python -m plugins.server.tests.conformance`, which asks a server with each field that OpenAI's own client
can send; a test says when this page is no longer true. *Yes* means that the engine was told something else, or that the
answer was another one. A field that is not here is refused too, by its name."""


def row(path: str, field: str, found: list[Verdict]) -> str:
    """Return what is said of a field."""
    several = len({one.becomes for one in found}) > 1
    said = "; ".join(f"`{one.value}`: {one.becomes}" for one in found) if several else found[0].becomes
    note = NOTES.get((path, field))
    return f"| `{field}` | {said}{f': {note}' if note else ''} |"


if __name__ == "__main__":
    print(page(), end="")
