"""The README's examples run, print what their comments say, and keep the contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos.testing.conformance import SchedulerConformance
from llmos_kernel.contracts import Scheduler
from llmos_schedulers import admission
from llmos_schedulers.quotas import Quota
from plugins.schedulers.tests.policies import MODULES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str) -> dict[str, Any]:
    """Run a block and return its names."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
    return names


@pytest.mark.parametrize(("block", "prints"), [(0, 4), (3, 2), (4, 4), (5, 2)])
def test_readme_example(block: int, prints: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each print of the example shows the value in the comment behind it."""
    said = re.findall(r"print\(.*\)  # (.*?)(?::|\n)", BLOCKS[block])

    run(BLOCKS[block])

    assert said == capsys.readouterr().out.splitlines()
    assert prints == len(said)


def test_readme_names_every_policy_and_option() -> None:
    """Nothing that can be chosen or set is left out."""
    options = {name for module in MODULES.values() for name in _options(module)}
    options |= {*attrs.fields_dict(admission.Options), *attrs.fields_dict(Quota)}

    assert set() == {name for name in (*MODULES, *options) if f"`{name}`" not in README}


def _options(module: Any) -> list[str]:
    kind = type(module.llmos_scheduler({}).options)
    return [field.name for field in kind.__attrs_attrs__]


class TestOwnPolicy(SchedulerConformance):
    """A scheduler that is written by the README alone is complete in 40 lines, and passes."""

    @pytest.fixture
    def make_scheduler(self) -> Callable[[], Scheduler]:
        """The one that the README shows."""
        (block,) = (block for block in BLOCKS if "class ShortestPrompt" in block)
        assert len([line for line in block.splitlines() if line.strip()]) <= 40
        kind: Callable[[], Scheduler] = run(block)["ShortestPrompt"]
        return kind
