"""What one rendering may take: a time, and a size of everything that it builds or prints."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any, TypeVar

import attrs
from jinja2.exceptions import TemplateRuntimeError

T = TypeVar("T")
MOST_BITS = 4096
"""Bits of the largest integer: enough for any number in a prompt, and no operation on two such takes long."""


class Exceeded(TemplateRuntimeError):
    """The template took too long, or built something too large."""


@attrs.define
class Meter:
    """Looks at the clock and at sizes, and raises `Exceeded`."""

    deadline: float
    """On `time.monotonic`'s clock."""
    limit: int
    """Most characters and items of any one value, and of everything that is printed."""
    printed: int = 0

    def tick(self) -> None:
        """Raise if the time is over."""
        if time.monotonic() > self.deadline:
            raise Exceeded("it took longer than its time limit")

    def fits(self, size: int) -> None:
        """Raise if something of *size* is too large."""
        if size > self.limit:
            raise Exceeded(f"it built or printed more than {self.limit} characters or items")

    def weigh(self, value: T) -> T:
        """Return *value* unless it is too large.

        A list that holds another one twice counts it twice: this is how few steps make many items.  The walk ends
        where the limit is passed, so it never takes long.
        """
        self.tick()
        total = 0
        todo: list[Any] = [value]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, int) and item.bit_length() > MOST_BITS:
                raise Exceeded(f"it computed an integer of more than {MOST_BITS} bits")
            elif isinstance(item, list | tuple | dict):
                total += len(item)
                self.fits(total)
                todo.extend([*item, *item.values()] if isinstance(item, dict) else item)
            self.fits(total)
        return value

    def emit(self, text: str) -> str:
        """Count *text* as printed."""
        self.tick()
        self.printed += len(text)
        self.fits(self.printed)
        return text


current: ContextVar[Meter] = ContextVar("llmos_data_meter")
"""The meter of the rendering that runs in this thread."""
