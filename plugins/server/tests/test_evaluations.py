"""Results of evaluations, as the dashboard gets them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from llmos import KeyRing
from llmos_kernel import Action, Decision, Policy
from plugins.server.tests.serving import Site, serving

ROUTE = "/v1/llmos/evaluations"


def keep(
    home: Path, name: str, *, model: str = "tiny", value: Any = 50.0, low: float = 30.0, high: float = 80.0, **more: Any
) -> dict[str, Any]:
    """Keep a result, in the form that the README of llmos-evaluation describes, and return it."""
    figure = {"title": "exact match", "unit": "%", "value": value, "low": low, "high": high, "n": 20, "larger": True}
    kept = {
        "format": 1, "id": name, "model": model, "suite": "facts", "digest": "d", "task": {"prompt": "secret"},
        "metrics": {"exact": figure | {"p50": None, "p95": None}}, "groups": {}, "records": 20, "failed": 1,
        "seconds": 2.5, "at_once": 1, "started": "2026-01-02T03:04:03+00:00", "finished": "2026-01-02T03:04:05+00:00",
        "details": {}, "machine": {}, "items": [{"number": 1, "input": "secret"}], **more,
    }  # fmt: skip
    folder = home / "evaluations"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(kept))
    return kept


def test_results_are_told_without_what_was_asked(site: Site, tmp_path: Path) -> None:
    """The newest first, by name, which begins with the date; before there is a folder there are none."""
    site.app.state.home = tmp_path
    nothing = site.http.get(ROUTE).json()
    keep(tmp_path, "20260101-1")
    kept = keep(tmp_path, "20260102-1", model="small")
    response = site.http.get(ROUTE)
    first, second = response.json()["data"]

    assert {"object": "list", "data": [], "unreadable": [], "more": 0} == nothing
    assert ("20260102-1", "20260101-1") == (first["id"], second["id"])
    assert {name: kept[name] for name in first.keys() - {"metrics"}} == {
        k: v for k, v in first.items() if k != "metrics"
    }
    assert ("exact match", 50.0, 30.0) == tuple(first["metrics"]["exact"][name] for name in ("title", "value", "low"))
    assert "secret" not in response.text


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '{"model": "x"}', '{"format": 2}', "[" * 100_000, "\ud800".encode("utf-8", "replace")],
)
def test_a_file_that_is_no_result_holds_up_no_other(site: Site, tmp_path: Path, text: str | bytes) -> None:
    """It is named, with the class of the error and no more."""
    site.app.state.home = tmp_path
    keep(tmp_path, "1")
    (tmp_path / "evaluations" / "2.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = site.http.get(ROUTE).json()

    assert ["1"] == [one["id"] for one in found["data"]]
    assert [("2", True)] == [(one["id"], one["why"].isidentifier()) for one in found["unreadable"]]


@pytest.mark.parametrize("metrics", [[], 7, {"exact": 7}, {"exact": {}}])
def test_metrics_that_are_none(site: Site, tmp_path: Path, metrics: object) -> None:
    """Whatever stands where figures should."""
    site.app.state.home = tmp_path
    keep(tmp_path, "1", metrics=metrics)

    assert ["1"] == [one["id"] for one in site.http.get(ROUTE).json()["unreadable"]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "1", {}])
def test_a_figure_that_is_no_number(site: Site, tmp_path: Path, value: object) -> None:
    """JSON has none for it, so the result is not told."""
    site.app.state.home = tmp_path
    keep(tmp_path, "1", value=value)

    assert ["1"] == [one["id"] for one in site.http.get(ROUTE).json()["unreadable"]]


def test_a_file_that_changed_is_read_again(site: Site, tmp_path: Path) -> None:
    """Otherwise it is not."""
    site.app.state.home = tmp_path
    keep(tmp_path, "1")
    before = site.http.get(ROUTE).json()["data"]
    keep(tmp_path, "1", model="another")
    after = site.http.get(ROUTE).json()["data"]

    assert (["tiny"], ["another"]) == ([one["model"] for one in before], [one["model"] for one in after])


def test_results_are_for_this_machine_and_operators(tmp_path: Path) -> None:
    """They are of everybody's models, so a tenant's key does not open them."""
    ring = KeyRing(tmp_path)
    ann, _ = ring.create("ann", tenant="acme", now=time.time())
    boss, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    with serving(ring=ring, local="keys") as site:
        found = [
            site.http.get(ROUTE, headers={"authorization": f"Bearer {key}"}).status_code for key in (ann, boss, "x")
        ]

    assert [403, 200, 401] == found


class Forbids(Policy):
    """Forbids to list models."""

    name = "forbids"

    def check(self, action: Action) -> Decision:
        """Deny that."""
        return Decision.DENY if action.name == "control.ListModels" else Decision.ABSTAIN


def test_who_may_not_know_the_models_is_told_nothing() -> None:
    """A policy decides."""
    with serving(Forbids(), config={"policies": ("forbids",)}) as site:
        assert 403 == site.http.get(ROUTE).status_code
