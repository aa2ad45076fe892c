"""The dashboard asks for what is there, and for all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from llmos_kernel.services import Event
from llmos_observability.devices import devices
from llmos_observability.measures import BOUNDS, STEP_BOUNDS
from llmos_observability.metrics import Metrics
from plugins.observability.tests.scraping import facts, samples
from plugins.observability.tests.test_exposition import Nvml

BOARD: dict[str, Any] = json.loads((files("llmos_observability") / "dashboard.json").read_text("utf-8"))
QUERIES = [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel["targets"]]
WORDS = {"histogram_quantile", "sum", "by", "rate", "le"}
"""What PromQL itself brings, of what the queries use."""
NAME = re.compile(r"(?<![\w$:.])[a-zA-Z_:][\w:]*")


def names(query: str) -> set[str]:
    """Return the measurements that a query asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", query)
    return set(NAME.findall(bare)) - WORDS


def labels(query: str) -> set[str]:
    """Return the labels by which a query chooses and sums."""
    chosen = re.findall(r"(\w+)=~", query)
    return {*chosen, *(word for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(", "))}


def exposed() -> dict[str, set[str]]:
    """Return everything that can be measured, with its labels."""
    observer, about = Metrics({}), {"task": 1, "model": "m", "kind": "generate", "tenant": "t"}
    usage = {"prompt": 3, "cached": 1, "generated": 3, "queued": 0.25, "prefill": 0.5, "decode": 1.0}
    for name, fields in (
        ("task.done", {**about, **usage, "error": "", "finish": "stop"}),
        ("task.failed", {**about, **usage, "error": "Overloaded", "finish": ""}),
        ("step", {"model": "m", "rows": 1, "prompt": 3, "seconds": 0.1, "tokens": {}}),
        ("model.loaded", {"model": "m", "error": ""}),
    ):
        observer.llmos_event(event=Event(name, 0.0, fields))
    models = [{"name": "m", "executor": {"slots": 4, "slots_used": 1}}]
    found = samples(observer.llmos_metrics("", facts(models=models, tasks={("m", "t", "running"): 1})))
    measured = [(name, set(dict(labels))) for name, labels in found]
    measured += [(one.name, set(one.labels)) for family in devices(Nvml()) for one in family.samples]
    return {name: {label for other, labels in measured if other == name for label in labels} for name, _ in measured}


EXPOSED = exposed()


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_query(title: str, query: str) -> None:
    """Every name in it is measured, and has the labels that the query chooses and sums by."""
    found = names(query)

    assert found
    assert set() == found - set(EXPOSED)
    assert all(labels(query) <= EXPOSED[name] for name in found)


def test_everything_is_shown() -> None:
    """Each measurement is on a panel, a histogram by its buckets, or by its sum and count."""
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for _, query in QUERIES for name in names(query)}
    measured = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPOSED if not name.endswith("_created")}

    assert {"process_max_fds", "process_start_time_seconds"} == measured - shown


COARSE = 0.1
"""Seconds: below the first bound of a histogram all quantiles are guesses, and these are no guesses that matter."""


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: panel["title"])
def test_quantiles_are_known(panel: dict[str, Any]) -> None:
    """Those of times come from buckets that begin early; where they do not, the panel says so and shows the mean."""
    bounds = {**BOUNDS, **STEP_BOUNDS}
    queries = [target["expr"] for target in panel["targets"]]
    shown = [name.removesuffix("_bucket") for query in queries for name in names(query) if "quantile" in query]
    for first in {bounds[name][0] for name in shown if "_seconds" in name and bounds[name][0] > COARSE}:
        assert f"{first:g} s" in panel["description"]
        assert any(target["legendFormat"].startswith("mean ") for target in panel["targets"])


def test_layout() -> None:
    """Panels have numbers and titles of their own, and do not overlap."""
    panels = BOARD["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(panels) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    assert len(cells) == len(set(cells))
    assert 24 > max(x for x, _ in cells)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed; it comes with Prometheus")
def test_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus' own parser takes every query, as the rule of a file."""
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, (_, query) in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}).replace("query:", "query:n"))
    promtool = shutil.which("promtool") or "promtool"
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
