"""What the package promises the kernel: a static list of models that is true."""

from __future__ import annotations

import json
import tomllib
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
    for task, splits in report["tasks"].items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {task} |")]
        for split in splits.values():
            assert f"{split['mean']:.1f} (" in line
