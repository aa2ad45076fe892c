"""LiteLLM asks two servers, whose addresses are given, and prints what it was told as JSON.

It is a process of its own: LiteLLM warns while it loads, and keeps its connections open until its process ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
SCHEMA = {
    "type": "object", "properties": {"sky": {"enum": ["clear", "grey"]}, "warm": {"type": "boolean"}},
    "required": ["sky", "warm"], "additionalProperties": False,
}  # fmt: skip
FORM = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": SCHEMA}}
BRIEF: dict[str, Any] = {"max_tokens": 8, "temperature": 0}


def wish(url: str, text: str = "What is llmos?", model: str = "openai/tiny", **more: Any) -> dict[str, Any]:
    """Return what is asked of a server."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "api_base": url, "api_key": "none", "messages": messages, "max_retries": 0, **more}


def stream(url: str) -> dict[str, Any]:
    """Return the pieces, and what they used."""
    pieces = list(litellm.completion(**wish(url, stream=True, stream_options={"include_usage": True}, **BRIEF)))
    texts = [piece.choices[0].delta.content for piece in pieces if piece.choices and piece.choices[0].delta.content]
    return {"texts": texts, "tokens": pieces[-1].usage.completion_tokens}


def called(said: Any) -> list[Any]:
    """Return the call that an answer makes, and why the answer ended."""
    (call,) = said.choices[0].message.tool_calls
    return [call.function.name, json.loads(call.function.arguments), said.choices[0].finish_reason]


def refusal(url: str) -> str:
    """Return what is said of a model that is not there."""
    try:
        litellm.completion(**wish(url, model="openai/absent"))
    except litellm.NotFoundError as error:
        return str(error)
    return ""


def main(tiny: str, echo: str) -> None:
    """Ask everything."""
    said = litellm.completion(**wish(tiny, **BRIEF))
    later = asyncio.run(litellm.acompletion(**wish(tiny, max_tokens=4)))
    form = litellm.completion(**wish(tiny, max_tokens=100, response_format=FORM))
    tools = wish(echo, CALL, "openai/echo", tools=[WEATHER])
    pieces = list(litellm.completion(**tools, stream=True))
    rows = litellm.embedding(model="openai/echo", api_base=echo, api_key="none", input=["one two", "three"]).data
    found = {
        "text": said.choices[0].message.content, "finish": said.choices[0].finish_reason,
        "tokens": said.usage.completion_tokens, "stream": stream(tiny), "later": later.usage.completion_tokens,
        "structured": json.loads(form.choices[0].message.content), "called": called(litellm.completion(**tools)),
        "streamed call": called(litellm.stream_chunk_builder(pieces)),
        "embeddings": [row["embedding"] for row in rows], "refusal": refusal(tiny),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
