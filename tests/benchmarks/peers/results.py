"""What a comparison found: measurements, goals as ratios, and how they are kept as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Measurement:
    """One engine's figures for one work, in one of its formats."""

    work: str
    title: str
    engine: str
    form: str
    unit: str
    values: list[float]
    note: str = ""
    """What is special about it."""

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest value, as a share of the median."""
        return (max(self.values) - min(self.values)) / abs(self.median) if self.median else 0.0


@attrs.frozen(kw_only=True)
class Goal:
    """A ratio that matters, and what it must be."""

    title: str
    ours: str
    """Our figure, with its format."""
    theirs: str
    ratio: float
    must: float
    at_least: bool = True
    """Whether larger is better."""

    @property
    def met(self) -> bool:
        """Whether the ratio is what it must be."""
        return self.ratio >= self.must if self.at_least else self.ratio <= self.must


@attrs.frozen(kw_only=True)
class Comparison:
    """Everything that one run found."""

    machine: dict[str, Any]
    model: str
    threads: int
    effort: dict[str, Any]
    engines: dict[str, Any]
    """By engine: title, versions, and what went wrong, by format."""
    measurements: list[Measurement]
    goals: list[Goal]

    def of(self, work: str, engine: str | None = None) -> list[Measurement]:
        """Return the measurements of a work, of one engine if told."""
        return [one for one in self.measurements if one.work == work and engine in (None, one.engine)]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        values = attrs.asdict(self)
        for name, things in (("measurements", self.measurements), ("goals", self.goals)):
            values[name] = [attrs.asdict(one) | _derived(one) for one in things]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read what `save` wrote."""
        values = json.loads(path.read_text("utf-8"))
        values["measurements"] = [_made(Measurement, one) for one in values["measurements"]]
        values["goals"] = [_made(Goal, one) for one in values["goals"]]
        return cls(**values)


def _derived(one: Measurement | Goal) -> dict[str, Any]:
    return {"median": one.median, "spread": one.spread} if isinstance(one, Measurement) else {"met": one.met}


def _made(kind: type[Any], values: dict[str, Any]) -> Any:
    return kind(**{field.name: values[field.name] for field in attrs.fields(kind)})


def best(found: Iterable[Measurement], *, smallest: bool = False) -> Measurement | None:
    """Return the measurement with the best median, or None where there is none."""
    choose = min if smallest else max
    return choose(found, key=lambda one: one.median, default=None)
