"""The README's examples run, print what their comments say, and keep the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmos.testing.conformance import MakeRouter, RouterConformance
from plugins.routers.tests.rules import MODULES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str) -> dict[str, Any]:
    """Run a block and return its names."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
    return names


def test_readme_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Each print of the example shows the value in the comment behind it."""
    (block,) = (block for block in BLOCKS if "auto.llmos_router" in block)
    said = re.findall(r"print\(.*\)  # (.*?)(?::|\n)", block)

    run(block)

    assert said == capsys.readouterr().out.splitlines()
    assert 4 == len(said)


def test_readme_names_every_router_and_option() -> None:
    """Nothing that can be chosen or set is left out."""
    options = {field.name for module in MODULES.values() for field in _options(module)}

    assert set() == {name for name in (*MODULES, *options) if f"`{name}`" not in README}


def _options(module: Any) -> Any:
    return type(module.llmos_router({}).options).__attrs_attrs__


class TestOwnRouter(RouterConformance):
    """A router that is written by the README alone is complete in 40 lines, and passes."""

    @pytest.fixture
    def make_router(self) -> MakeRouter:
        """The one that the README shows."""
        (block,) = (block for block in BLOCKS if "class LongestContext" in block)
        assert len([line for line in block.splitlines() if line.strip()]) <= 40
        kind: MakeRouter = run(block)["LongestContext"]
        return kind
