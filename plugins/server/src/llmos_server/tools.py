"""Tools: what the model is told of them, and what it calls.  Every API speaks of them in its own form.

A call is made by the form of the answer: where one is required, the answer is JSON of a schema that has one alternative
per tool, so that it is always a call of a tool that there is, with arguments of the right form.  Where the model may
choose, it may answer with text or with such JSON; it is told of the tools in a message, and what it says is read as a
call only if it is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llmos import Piece

TELLING = """\
You may call a tool. To call one, answer with nothing but JSON of this form:
{"name": the tool's name, "arguments": an object with its parameters}
Tools:"""


@attrs.frozen
class Offer:
    """A tool that the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """The JSON schema of its arguments; empty is any object."""


@attrs.frozen
class Call:
    """A call of a tool."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def json(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.arguments, ensure_ascii=False)


def form(offers: Sequence[Offer], other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON schema of a call of one of *offers*, or of what is of the form *other*."""
    last = [] if other is None else [_part(other, "answer")]
    forms = [*(_call_form(offer, f"tool{number}") for number, offer in enumerate(offers)), *last]
    definitions = {name: schema for _, found in forms for name, schema in found.items()}
    return {"anyOf": [schema for schema, _ in forms], **({"$defs": definitions} if definitions else {})}


def _call_form(offer: Offer, name: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    arguments, definitions = _part(offer.parameters or {"type": "object"}, name)
    properties = {"name": {"const": offer.name}, "arguments": arguments}
    required = ["name", "arguments"]
    schema = {"type": "object", "required": required, "additionalProperties": False, "properties": properties}
    return schema, definitions


def _part(schema: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return *schema* as a part of another one, and what must be defined there.

    References within a schema begin at its root, so one that has any becomes a definition, to which they lead.
    """
    if '"$ref"' not in json.dumps(schema):
        return schema, {}
    root = f"#/$defs/{name}"
    return {"$ref": root}, {name: _moved(schema, root)}


def _moved(schema: Any, root: str) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(schema, list):
        return [_moved(one, root) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _moved(value, root) for key, value in schema.items()}
    target = found.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        found["$ref"] = root + target[1:]
    return found


def told(messages: Sequence[Mapping[str, str]], offers: Sequence[Offer]) -> list[dict[str, str]]:
    """Return the conversation with what the model is told of *offers* first."""
    found = [dict(message) for message in messages]
    if offers:
        lines = [json.dumps(attrs.asdict(offer), ensure_ascii=False) for offer in offers]
        telling = "\n".join([TELLING, *lines])
        if found and found[0]["role"] == "system":
            found[0] = {"role": "system", "content": f"{found[0]['content']}\n\n{telling}"}
        else:
            found.insert(0, {"role": "system", "content": telling})
    return found


def said(text: str, called: Sequence[tuple[str, object]]) -> str:
    """Return what the model said when it called tools by their names with such arguments, after *text*."""
    lines = [json.dumps({"name": name, "arguments": arguments}) for name, arguments in called]
    return "\n".join([*([text] if text else []), *lines])


def plain(arguments: str) -> object:
    """Return the arguments that are JSON, or the text of those that are not."""
    try:
        found: object = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return found


def called(text: str, offers: Sequence[Offer]) -> Call | None:
    """Return the call that *text* is, or nothing."""
    if not offers or not _may_be_call(text):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    names = {offer.name for offer in offers}
    is_call = isinstance(found, dict) and found.get("name") in names and isinstance(found.get("arguments"), dict)
    return Call(found["name"], found["arguments"]) if is_call else None


def _may_be_call(text: str) -> bool:
    return text.lstrip().startswith("{")


class Ear:
    """Holds back the pieces of an answer that may yet become a call, and lets text pass as it comes."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = offers
        self._held: list[Piece] = []
        self._is_text = not offers

    def hear(self, piece: Piece) -> list[Piece]:
        """Return what is certain by now to be text."""
        self._held.append(piece)
        begun = "".join(self._held)
        self._is_text = self._is_text or bool(begun.strip() and not _may_be_call(begun))
        return self._rest() if self._is_text else []

    def end(self, text: str) -> tuple[list[Piece], Call | None]:
        """Return what is left of the whole *text*: what was held back, or the call that it is."""
        call = None if self._is_text else called(text, self._offers)
        return ([], call) if call else (self._rest(), None)

    def _rest(self) -> list[Piece]:
        held, self._held = self._held, []
        return held
