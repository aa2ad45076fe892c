"""Reading what a stranger answered.  What is wrong raises; the executor says whose answer it was."""

from __future__ import annotations


def string(value: object) -> str:
    """Return a text, empty where there is none; raise `TypeError` for anything else."""
    if not isinstance(value, str | None):
        raise TypeError(f"{type(value).__name__} where a text should be")
    return value or ""


def tokens(value: object) -> int:
    """Return a number of tokens, 0 where there is none; raise `ValueError` for what cannot be one."""
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value <= 2**40:
        raise ValueError(f"{value!r:.40} tokens")
    return value
