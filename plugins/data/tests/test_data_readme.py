"""The README says what is so: its example prints what it shows, and its tables and lists are complete."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from llmos_data import normalize, template
from llmos_data.filters import FILTERS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_readme_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example prints the text below it."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)

    for block in code:
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert capsys.readouterr().out == shown


def test_readme_names_every_option() -> None:
    """Each option has its line."""
    options = {*attrs.fields_dict(normalize.Options), *attrs.fields_dict(template.Options)}

    assert set(re.findall(r"^\| `(\w+)` \| (?:`|true|none|1)", README, re.MULTILINE)) == options


def test_readme_lists_the_filters() -> None:
    """The list of filters is the filters."""
    listed = re.findall(r"those that need no trust:\n`(.*?)`", README, re.DOTALL)

    assert listed[0].split() == sorted(FILTERS)
