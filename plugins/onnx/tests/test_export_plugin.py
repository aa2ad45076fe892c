"""The exporter as the kernel sees it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pluggy
import pytest

from llmos_kernel.contracts import API
from llmos_kernel.services import Exporter
from llmos_kernel.errors import InvalidArgument
from llmos_onnx import exporter
from llmos_onnx.folder import read_manifest
from llmos_onnx.manifest import Blocks


@pytest.fixture
def native() -> Exporter:
    """The exporter, asked for through its hook."""
    manager = pluggy.PluginManager("llmos")
    manager.register(exporter)
    found: list[Exporter] = manager.hook.llmos_exporter(config={})
    return found[0]


def test_the_entry_point_leads_to_the_hook() -> None:
    """``native`` is announced for ``llmos.exporter`` and speaks the kernel's version of that contract."""
    (announced,) = entry_points(group="llmos.exporter", name="native")

    assert exporter is announced.load()
    assert API["exporter"] == exporter.api


def test_an_export_returns_the_manifest_as_plain_values(
    native: Exporter, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Options that are None count as absent, and progress is heard."""
    heard: list[tuple[str, int, int]] = []

    facts = native.export(
        checkpoint("nano"),
        tmp_path / "target",
        {"weights": "w8a8", "context": None},
        lambda *report: heard.append(report),
    )

    assert ("w8a8", "llama") == (facts["weights"], facts["shape"]["architecture"])
    assert read_manifest(tmp_path / "target").files["model.onnx"].size == facts["files"]["model.onnx"]["size"]
    assert heard


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "w8a8"},
        {"weights": 8},
        {"weights": "q5"},
        {"context": True},
        {"block_size": 48, "weights": "q4"},
        {"block_size": 64, "weights": "w8a8"},
        {"search": True},
        {"asymmetric": True, "weights": "fp32"},
        {"accuracy_level": 2, "weights": "q8"},
        {"source": "elsewhere"},
    ],
    ids=str,
)
def test_wrong_options_are_named(
    native: Exporter, options: dict[str, object], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Unknown options and wrong types are refused before anything is written."""
    with pytest.raises(InvalidArgument) as caught:
        native.export(checkpoint("nano"), tmp_path / "target", options, lambda *_: None)

    assert next(iter(options)) == caught.value.fields["field"]
    assert not (tmp_path / "target").exists()


def test_the_manifest_says_how_blocks_were_rounded(
    native: Exporter, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """What was asked for can be read from the folder; formats that round otherwise say nothing of blocks."""
    asked = {"weights": "q4", "block_size": 32, "asymmetric": True, "search": True, "accuracy_level": 1}
    native.export(checkpoint("nano"), tmp_path / "blocks", asked, lambda *_: None)
    native.export(checkpoint("nano"), tmp_path / "rows", {"weights": "w8a8"}, lambda *_: None)

    expected = Blocks(size=32, symmetric=False, search=True, accuracy_level=1)
    assert expected == read_manifest(tmp_path / "blocks").blocks
    assert read_manifest(tmp_path / "rows").blocks is None


def test_the_exporter_has_no_settings() -> None:
    """Configuration that nobody reads is refused."""
    with pytest.raises(InvalidArgument):
        exporter.llmos_exporter({"threads": 2})
