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


@pytest.mark.parametrize("options", [{"weight": "w8a8"}, {"weights": 8}, {"context": True}], ids=str)
def test_wrong_options_are_named(
    native: Exporter, options: dict[str, object], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Unknown options and wrong types are refused before anything is written."""
    with pytest.raises(InvalidArgument) as caught:
        native.export(checkpoint("nano"), tmp_path / "target", options, lambda *_: None)

    assert next(iter(options)) == caught.value.fields["field"]
    assert not (tmp_path / "target").exists()


def test_the_exporter_has_no_settings() -> None:
    """Configuration that nobody reads is refused."""
    with pytest.raises(InvalidArgument):
        exporter.llmos_exporter({"threads": 2})
