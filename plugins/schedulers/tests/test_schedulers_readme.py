"""The README's example runs, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_readme_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Each print of the example shows the value in the comment behind it."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    said = re.findall(r"print\(.*\)  # (\(.*?\))(?::|\n)", code)

    exec(compile(code, str(README), "exec"), {})  # noqa: S102 - our own README

    assert said == capsys.readouterr().out.splitlines()
    assert len(said) == 4
