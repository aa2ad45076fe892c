"""Every command of ours says what it does in the first list that people see."""

from __future__ import annotations

import pytest

from llmos.cli._announced import Announced, announced

OURS = sorted(one for one in announced().values() if one.distribution.startswith("llmos-"))


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_described(one: Announced) -> None:
    """In a sentence, and not by the name of whoever brings it."""
    told = one.told()

    assert not told.startswith("From ")
    assert told.endswith(".")
