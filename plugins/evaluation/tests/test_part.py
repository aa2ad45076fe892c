"""What is kept of a run that is not whole, wherever it was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos_evaluation.store import Part
from llmos_kernel.errors import InvalidArgument

LINES = settings(
    max_examples=100, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def facts(part: Part) -> dict[int, str]:
    """Return the answers that *part* knows."""
    return {number: known["answer"] for number, known in part.known.items()}


@LINES
@given(st.lists(st.text(max_size=9), min_size=1, max_size=6), st.data())
def test_cut_anywhere(tmp_path: Path, answers: list[str], data: st.DataObject) -> None:
    """What was whole before the cut is known, in order; the rest is not, and what is added then stays."""
    part = Part(tmp_path, "m", "w", resume=False)
    for number, answer in enumerate(answers, 1):
        part.add(number, 0.5, answer=answer)
    part.close()
    whole = part.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    part.path.write_bytes(whole[:cut])
    left = whole[:cut].count(b"\n")
    again = Part(tmp_path, "m", "w", resume=True)
    found, seconds = facts(again), again.seconds
    again.add(left + 1, answer="new")
    again.close()
    last = Part(tmp_path, "m", "w", resume=True)
    last.remove()

    assert dict(enumerate(answers[:left], 1)) == found
    assert pytest.approx(left * 0.5) == seconds
    assert {**found, left + 1: "new"} == facts(last)
    assert not part.path.exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second run of the same is refused and takes nothing away; of another model or task it is not."""
    first = Part(tmp_path, "m", "w", resume=False)
    first.add(1, answer="a")
    for resume in (False, True):
        with pytest.raises(InvalidArgument, match="another process"):
            Part(tmp_path, "m", "w", resume=resume)
    others = [Part(tmp_path, "other", "w", resume=False), Part(tmp_path, "m", "other", resume=False)]
    for part in (first, *others):
        part.close()
    again = Part(tmp_path, "m", "w", resume=True)
    again.close()

    assert {1: "a"} == facts(again)


def test_begun_again(tmp_path: Path) -> None:
    """Without resuming, what was known is forgotten."""
    first = Part(tmp_path, "m", "w", resume=False)
    first.add(1, answer="a")
    first.close()
    second = Part(tmp_path, "m", "w", resume=False)
    second.close()

    assert {} == facts(second)
    assert b"" == second.path.read_bytes()
