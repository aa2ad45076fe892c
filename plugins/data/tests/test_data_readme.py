"""The README says what is so: its example prints what it shows, and its tables and lists are complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos_data import chunk, clean, language, normalize, repair, stop_words, tables, template, truncate
from llmos_data.filters import FILTERS
from llmos_data.words import WORDS

PROCESSORS: dict[str, Any] = {
    "chunk": chunk, "clean": clean, "format": tables, "json-repair": repair, "language": language,
    "normalize": normalize, "stop-words": stop_words, "template": template, "truncate": truncate,
}  # fmt: skip
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_readme_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example prints the text below it."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)

    for block in code:
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", PROCESSORS)
def test_readme_names_every_option(name: str) -> None:
    """Each processor has its section, and each of its options a line there."""
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)

    assert [*attrs.fields_dict(PROCESSORS[name].Options)] == re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert f"| `{name}` |" in README


def test_readme_knows_the_languages() -> None:
    """The languages that it lists and counts are those that there are."""
    assert f"It knows {len(language.LANGUAGES)}\nlanguages" in README
    assert f"whose list is used: {', '.join(sorted(WORDS))}, or nothing" in README


def test_readme_lists_the_filters() -> None:
    """The list of filters is the filters."""
    listed = re.findall(r"those that need no trust:\n`(.*?)`", README, re.DOTALL)

    assert listed[0].split() == sorted(FILTERS)
