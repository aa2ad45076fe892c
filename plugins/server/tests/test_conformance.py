"""The page about OpenAI's fields is what the server does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.server.tests.conformance import OTHERS, REFUSED, TRIED, Verdict, page, verdicts
from plugins.server.tests.serving import serving

PAGE = Path(__file__).parents[1] / "OPENAI.md"


@pytest.fixture(scope="module")
def found() -> Iterator[list[Verdict]]:
    """What a server did with every field."""
    with serving() as site:
        yield list(verdicts(site))


def test_the_page_is_current() -> None:
    """`python -m plugins.server.tests.conformance > plugins/server/OPENAI.md` makes it so."""
    assert page() == PAGE.read_text("utf-8")


def test_what_is_not_known_is_refused(found: list[Verdict]) -> None:
    """Whatever else the installed client can send, and what the page says is refused, is refused by its name."""
    others = [one for one in found if one.field not in TRIED[one.path]]

    assert {(path, field) for path, names in OTHERS.items() for field in names.split()} <= {
        (one.path, one.field) for one in others
    }
    assert {REFUSED} == {one.becomes for one in others}


@pytest.mark.parametrize("field", ["store", "service_tier", "reasoning_effort"])
def test_nothing_is_taken_and_ignored(found: list[Verdict], field: str) -> None:
    """A chat that asks for what is not done here is told so; the value that asks for nothing is taken."""
    seen = [one.becomes for one in found if (one.path, one.field) == ("/v1/chat/completions", field)]

    assert ["taken, changes nothing", REFUSED] == seen
