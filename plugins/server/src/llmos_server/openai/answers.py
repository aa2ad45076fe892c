"""Answers in OpenAI's form: whole ones, and the chunks of those that are streamed."""

from __future__ import annotations

import json
import secrets
import time
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llmos import Text


_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""Made once: to make one costs more than a short event."""


@attrs.frozen
class Form:
    """What the answers of one request share: their identity, and whether they are a chat's."""

    model: str
    chat: bool
    id: str = attrs.field(init=False)
    created: int = attrs.field(init=False, factory=lambda: int(time.time()))

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "id", new_id("chatcmpl-" if self.chat else "cmpl-"))

    def whole(self, choices: Sequence[Mapping[str, Any]], texts: Sequence[Text]) -> dict[str, Any]:
        """Return the answer to a request that does not stream."""
        return self._head("chat.completion" if self.chat else "text_completion") | {
            "choices": list(choices),
            "usage": usage(texts),
        }

    def chunk(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:  # noqa: ANN401 - JSON
        """Return one event of a stream."""
        facts = self._head("chat.completion.chunk" if self.chat else "text_completion")
        return event(facts | {"choices": list(choices)} | more)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def new_id(kind: str) -> str:
    """Return an id that nothing else has; *kind* is what it begins with."""
    return f"{kind}{secrets.token_hex(12)}"


def event(value: object) -> bytes:
    """Return *value* as a server-sent event (HTML standard, section 9.2)."""
    return f"data: {_ENCODER.encode(value)}\n\n".encode("ascii")


DONE = b"data: [DONE]\n\n"


def usage(texts: Iterable[Text]) -> dict[str, Any]:
    """Return what *texts*, the answers to one prompt, used together: the prompt counts once."""
    used = [text.usage for text in texts]
    prompt, made = max((one.prompt for one in used), default=0), sum(one.generated for one in used)
    cached = max((one.cached for one in used), default=0)
    return {
        "prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip


def chat_logprobs(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return log probabilities as chats have them."""
    return {"content": [_token(entry) | {"top_logprobs": [_token(top) for top in entry["top"]]} for entry in entries]}


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": str(entry["token"]), "logprob": entry["logprob"], "bytes": list(_bytes(entry))}


def _bytes(entry: Mapping[str, Any]) -> bytes:
    """Return what a token adds to the answer; an engine that does not say has whole characters as its tokens."""
    if "bytes" in entry:
        return bytes(entry["bytes"])
    return str(entry["token"]).encode("utf-8", "surrogatepass")


def completion_logprobs(entries: Sequence[Mapping[str, Any]], offset: int) -> dict[str, Any]:
    """Return log probabilities as completions have them; the first token begins at *offset* of the text."""
    tokens = [str(entry["token"]) for entry in entries]
    offsets = [offset]
    decoder = getincrementaldecoder("utf-8")("replace")  # a character begins where the first of its tokens does
    for entry in entries[:-1]:
        offsets.append(offsets[-1] + len(decoder.decode(_bytes(entry))))
    return {
        "tokens": tokens, "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [{str(top["token"]): top["logprob"] for top in entry["top"]} for entry in entries],
        "text_offset": offsets if tokens else [],
    }  # fmt: skip
