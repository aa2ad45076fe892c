"""What the command line says to do about too much work."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.cli._failures import next_step
from llmos_kernel.errors import Overloaded


@pytest.mark.parametrize(("fields", "step"), [
    ({"retry_after": 3.2}, "try again in 4 s"), ({"retry_after": 60}, "try again in 60 s"), ({}, "try again later"),
    ({"retry_after": 0}, "try again later"), ({"retry_after": "soon"}, "try again later"), ({"retry_after": None}, ""),
])  # fmt: skip
def test_next_step(fields: dict[str, Any], step: str) -> None:
    """It names the seconds where they are known, and nothing where waiting does not help."""
    assert step == next_step(Overloaded("too much", **fields))
