"""What the package promises the kernel: a static list of models that is true."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import llmos_tiny

ROOT = Path(__file__).parents[1]
PACKAGE = resources.files("llmos_tiny")
FIELDS = {
    "name": str,
    "backend": str,
    "path": str,
    "aliases": list,
    "kinds": list,
    "languages": list,
    "context": int,
    "nbytes": int,
    "license": str,
    "description": str,
}


SPLITS = ("combination", "phrasing")


def results() -> dict[str, Any]:
    """What ``llmos eval`` found, by suite."""
    found: dict[str, Any] = json.loads((ROOT / "evaluation" / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    """The one model of the list."""
    (model,) = json.loads(PACKAGE.joinpath("models.json").read_text(encoding="utf-8"))
    assert isinstance(model, dict)
    return model


def sizes(folder: Path) -> dict[str, int]:
    """The sizes of a folder's files, by name."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_fields(entry: dict[str, Any]) -> None:
    """Every field is there, of its type, and no other."""
    assert {name: type(value) for name, value in entry.items()} == FIELDS
    assert entry["name"] == "tiny"
    assert entry["aliases"] == ["gpt-3", "gpt3"]


def test_entry_point_names_the_package() -> None:
    """The kernel finds the list through the entry point, by the name of the model."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["entry-points"]["llmos.model"] == {"tiny": "llmos_tiny"}


def test_folder_is_complete_and_small(entry: dict[str, Any]) -> None:
    """The model folder holds what its manifest lists, to the byte, and at most 12 MB."""
    with resources.as_file(PACKAGE.joinpath(entry["path"])) as folder:
        found = sizes(folder)
        manifest = json.loads((folder / "llmos.json").read_text(encoding="utf-8"))

    assert {name: file["size"] for name, file in manifest["files"].items()} == {
        name: size for name, size in found.items() if name != "llmos.json"
    }
    assert sum(found.values()) <= 12_000_000


def test_numbers_agree_with_the_manifest(entry: dict[str, Any]) -> None:
    """Context and size are the model's own."""
    manifest = json.loads(PACKAGE.joinpath(entry["path"], "llmos.json").read_text(encoding="utf-8"))

    assert entry["context"] == manifest["shape"]["context"]
    assert entry["nbytes"] == manifest["files"]["model.onnx.data"]["size"]
    assert entry["license"] == manifest["licence"] == "Apache-2.0"


def test_package_has_no_code() -> None:
    """One docstring and one version: nothing to import, nothing to go wrong."""
    assert {path.name for path in Path(llmos_tiny.__file__).parent.glob("*.py")} == {"__init__.py"}
    assert llmos_tiny.__doc__


def test_model_card_is_shipped(entry: dict[str, Any]) -> None:
    """The card in the package is the card of the repository."""
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert PACKAGE.joinpath(entry["path"], "README.md").read_text(encoding="utf-8") == card


def test_card_states_the_results() -> None:
    """Every measured mean stands in the model card, and what each format of weights does to it."""
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    report = json.loads((ROOT / "train" / "results.json").read_text(encoding="utf-8"))
    base = report["formats"]["results"]["fp32"]["exact"]

    for name, found in report["formats"]["results"].items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {name} |")]
        assert line.endswith(f"| {found['exact']:.1f} | {found['exact'] - base:+.1f} | {found['perplexity']:.3f} |")


def test_card_states_the_evaluation() -> None:
    """Every figure of the results that are kept stands in the model card, in its row and column, and no other does."""
    card = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    rows = card.partition("<!-- results: begin -->")[2].partition("<!-- results: end -->")[0].strip().splitlines()[2:]
    shown = {task: tuple(cells) for task, *cells in ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)}
    kept: dict[str, dict[str, str]] = {}
    for suite, metric in (("tasks", "exact"), ("stories", "story")):
        for group, figures in results()[suite]["groups"].items():
            task, _, split = group.partition(" ")
            one = figures[metric]
            kept.setdefault(task, {})[split] = f"{one['value']:.1f} ({one['low']:.0f} to {one['high']:.0f})"

    assert {task: tuple(one.get(split, "–") for split in SPLITS) for task, one in kept.items()} == shown


def test_results_are_those_of_the_suites() -> None:
    """The results that are kept have a mark for each record of the suites as they are, and figures of those marks."""
    for suite, metric in (("tasks", "exact"), ("stories", "story")):
        lines = (ROOT / "evaluation" / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()
        sizes_of_groups = Counter(json.loads(line)["group"] for line in lines)
        marks = results()[suite]["marks"]

        assert sizes_of_groups == {group: len(found) for group, found in marks.items()}
        for group, found in marks.items():
            figure = results()[suite]["groups"][group][metric]
            assert pytest.approx(100 * found.count("1") / len(found)) == figure["value"]
