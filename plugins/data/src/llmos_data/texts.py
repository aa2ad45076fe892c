"""What most processors share: they change a text, the text of chat messages, and each of a list of texts."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_kernel.services import Processor, TextFilter


class OnTexts(Processor):
    """A processor of texts."""

    name: str
    """How errors call it."""

    @abc.abstractmethod
    def change(self, text: str) -> Any:  # noqa: ANN401 - most return text
        """Return what becomes of one text."""

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as the contract has it
        """Return *value* with all its texts changed.  Raises `InvalidArgument` for what holds no text."""
        if isinstance(value, str):
            return self.change(value)
        if isinstance(value, list | tuple):
            return [self._item(item, f"input[{at}]") for at, item in enumerate(value)]
        raise self._wrong("input", value, "a text, a list of texts or a list of messages")

    def _item(self, item: object, field: str) -> object:
        """Return one of a list: a text, or a message with its content changed, be it text or a list of parts."""
        if isinstance(item, str):
            return self.change(item)
        if not isinstance(item, Mapping):
            raise self._wrong(field, item, "a text or a message")
        content = item.get("content")
        if isinstance(content, str):
            return {**item, "content": self.change(content)}
        if isinstance(content, list | tuple):
            return {**item, "content": [self._part(part) for part in content]}
        return item

    def _part(self, part: object) -> object:
        """Return a part of a message's content; only text is changed."""
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self.change(part["text"])}
        return part

    def _wrong(self, field: str, value: object, expected: str) -> InvalidArgument:
        message = f"{self.name}: {field} must be {expected}, not {type(value).__name__}"
        return InvalidArgument(message, field=field, value=value, expected=expected)


class InPieces(OnTexts):
    """A processor of texts whose whole is what its filter makes of it: pieces cannot give anything else."""

    @abc.abstractmethod
    def stage(self) -> TextFilter:
        """Return a filter for one text."""

    def change(self, text: str) -> str:
        """Pass the text through a filter in one piece."""
        stage = self.stage()
        return stage.feed(text) + stage.end()

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return a filter that gives the same text in pieces."""
        return self.stage()


def choice(*known: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return an attrs validator: one of *known*."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in known:
            raise InvalidArgument.of(attribute.name, value, f"one of {', '.join(known)}")

    return validate


def nearest(name: str, known: Iterable[str]) -> str:
    """Return words that name what of *known* is most like *name*."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors need it

    return next((f"; the nearest is {near!r}" for near in get_close_matches(name, list(known), n=1, cutoff=0)), "")
