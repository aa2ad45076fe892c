"""Each check of the conformance classes fails for a plugin that is wrong in just that, and for no other.

``pytest sdk/tests/test_conformance_matrix.py -s`` prints the matrix.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

import llmos_kernel
from llmos.testing import conformance
from llmos.testing.conformance import (
    BackendConformance, Conformance, ExporterConformance, ObserverConformance, PolicyConformance, ProcessorConformance,
    RouterConformance, SchedulerConformance, StoreConformance,
)  # fmt: skip
from sdk.tests import wrong_deciders as deciders
from sdk.tests import wrong_workers as workers

OVERRIDES = "test_overrides_say_why"
Subject = Callable[[Path], object]


def always(makes: Any) -> dict[str, Subject]:
    """Return subjects that are the makers themselves."""
    return {check: partial(_first, make) for check, make in makes.items()}


def made(makes: Any) -> dict[str, Subject]:
    """Return subjects that are new each time."""
    return {check: partial(_called, make) for check, make in makes.items()}


def _first(make: object, folder: Path) -> object:
    return make


def _called(make: Callable[[], object], folder: Path) -> object:
    return make()


WRONG: dict[type[Conformance], dict[str, Subject]] = {
    BackendConformance: made(workers.BACKENDS), SchedulerConformance: always(deciders.SCHEDULERS),
    RouterConformance: always(deciders.ROUTERS), PolicyConformance: always(deciders.POLICIES),
    ProcessorConformance: always(workers.PROCESSORS), StoreConformance: made(workers.STORES),
    ObserverConformance: always(workers.OBSERVERS), ExporterConformance: dict(workers.EXPORTERS),
}  # fmt: skip
CLASSES = [one for one in vars(conformance).values() if inspect.isclass(one) and issubclass(one, Conformance)]
KINDS = [one for one in CLASSES if one is not Conformance]


@attrs.frozen
class Check:
    """One check of a class, with the values of its parameters."""

    name: str
    values: dict[str, object]

    def fails(self, owner: type[Conformance], subject: Subject, folder: Path) -> bool:
        """Return whether the check finds fault with *subject*."""
        folder.mkdir()
        places = folder / "targets"
        places.mkdir()
        function = getattr(owner(), self.name.partition("[")[0])
        wanted = {name: places for name in inspect.signature(function).parameters if name == "tmp_path"}
        (fixture,) = inspect.signature(function).parameters.keys() - self.values.keys() - {"tmp_path"}
        try:
            function(**{fixture: subject(folder)}, **wanted, **self.values)
        except Exception:  # noqa: BLE001 - whatever it raises, pytest would call it a failure
            return True
        return False


def checks(owner: type[Conformance]) -> Iterator[Check]:
    """Yield the checks of *owner*, one for each value of a parameter; the one about overrides has no plugin."""
    for name in sorted(name for name in dir(owner) if name.startswith("test_") and name != OVERRIDES):
        marks = [mark for mark in getattr(getattr(owner, name), "pytestmark", []) if mark.name == "parametrize"]
        if not marks:
            yield Check(name, {})
        for mark in marks:
            argument, values = mark.args
            yield from (Check(f"{name}[{value}]", {argument: value}) for value in values)


def test_every_class_is_in_the_matrix() -> None:
    """No conformance class is there without wrong plugins."""
    assert set(KINDS) == set(WRONG)


@pytest.mark.parametrize("owner", KINDS, ids=lambda one: one.__name__)
def test_every_check_has_a_wrong_plugin(owner: type[Conformance]) -> None:
    """No check is there that nothing fails."""
    assert {check.name for check in checks(owner)} == set(WRONG[owner])


@pytest.mark.parametrize(
    ("owner", "wrong"), [(owner, wrong) for owner in KINDS for wrong in WRONG.get(owner, ())],
    ids=lambda part: part if isinstance(part, str) else part.__name__.removesuffix("Conformance").lower(),
)  # fmt: skip
def test_wrong_plugin_fails_one_check(owner: type[Conformance], wrong: str, tmp_path: Path) -> None:
    """A plugin that is wrong in one way fails the check of that, and passes all others."""
    subject = WRONG[owner][wrong]
    found = [check.fails(owner, subject, tmp_path / str(number)) for number, check in enumerate(checks(owner))]
    names = [check.name for check in checks(owner)]
    marks = "".join("x" if failed else "." for failed in found)
    print(f"\n{owner.__name__:22} {wrong.removeprefix('test_'):34} {marks}", end="")

    assert [wrong] == [name for name, failed in zip(names, found, strict=True) if failed]


def test_other_wrong_routers(tmp_path: Path) -> None:
    """There is more than one way to choose wrongly, and to be wrong about what will do."""
    names = {"test_chooses_what_will_do", "test_finds_what_will_do"}
    picked = [check for check in checks(RouterConformance) if check.name in names]
    for number, router in enumerate((deciders.Inventive, deciders.Untyped)):
        found = [
            check.fails(RouterConformance, partial(_first, router), tmp_path / f"{number}-{check.name}")
            for check in picked
        ]

        assert [True, True] == found


def test_an_override_without_a_reason() -> None:
    """Leaving a check out fails, in words that say what to do; with a reason it is an expected failure."""

    class Silent(StoreConformance):
        def test_lasts(self) -> None:  # type: ignore[override]
            """Do not look."""

        test_keys_sorted = None  # type: ignore[assignment]

        @pytest.mark.xfail
        def test_any_key(self) -> None:  # type: ignore[override]
            """Do not say why."""

    class Honest(StoreConformance):
        @pytest.mark.xfail(reason="it is a cache")
        def test_lasts(self) -> None:  # type: ignore[override]
            """Say why."""

    with pytest.raises(AssertionError, match="reason") as caught:
        Silent().test_overrides_say_why()
    Honest().test_overrides_say_why()

    assert [name in str(caught.value) for name in ("test_lasts", "test_keys_sorted", "test_any_key")] == [True] * 3


CONTRACT = " ".join(
    " ".join(path.read_text("utf-8").split()) for path in sorted(Path(llmos_kernel.__file__).parent.glob("[!_]*.py"))
)


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner in KINDS for name in vars(owner) if name.startswith("test_")]
)
def test_every_check_quotes_the_contract(owner: type[Conformance], name: str) -> None:
    """Each check says in its docstring which sentence of the contract it proves, and the contract has that sentence."""
    said = " ".join((getattr(owner, name).__doc__ or "").split())
    quotes = re.findall(r'"(.+?)"', said)

    assert quotes
    assert [] == [quote for quote in quotes if quote not in CONTRACT]
