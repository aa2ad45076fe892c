"""Functions that a server offers to clients elsewhere."""

from __future__ import annotations


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def fail() -> None:
    """Raise what no kernel knows."""
    raise ZeroDivisionError("on purpose")


async def triple(number: int) -> int:
    """Return three times the number, on the kernel's event loop."""
    return 3 * number
