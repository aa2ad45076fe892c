"""Every plugin of the workspace is checked by the conformance class of its kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from llmos.testing import conformance
from tests.workspace import PLUGINS, Distribution


def announced() -> Iterator[tuple[Distribution, str, str]]:
    """Yield distribution, kind and name of every plugin whose kind has a conformance class."""
    for distribution in PLUGINS:
        for group, names in distribution.pyproject["project"].get("entry-points", {}).items():
            kind = group.removeprefix("llmos.")
            if f"{kind.title()}Conformance" in vars(conformance):
                yield from ((distribution, kind, name) for name in names)


ANNOUNCED = list(announced())


@pytest.mark.parametrize(("distribution", "kind", "name"), ANNOUNCED, ids=str)
def test_has_a_case(distribution: Distribution, kind: str, name: str) -> None:
    """Its distribution's tests subclass the class; where there are several of the kind, its name is among the cases."""
    files = [path.read_text("utf-8") for path in sorted(distribution.folder.glob("tests/*.py"))]
    bases = {ast.unparse(base) for text in files for one in _classes(text) for base in one.bases}
    alone = 1 == sum((distribution, kind) == (other, its) for other, its, _ in ANNOUNCED)

    assert f"{kind.title()}Conformance" in bases
    assert alone or any(f'"{name}' in text for text in files)


def _classes(text: str) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
