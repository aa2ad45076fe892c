"""Small checkpoints and the model folders made of them, each written once per run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from llmos_onnx.export import export_model
from plugins.onnx.tests.checkpoint_writer import RECIPES, write_checkpoint

# The same examples in every run, and no verdict by the clock: the machine may be busy.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the checkpoint of the recipe with the given name; it is shared: do not change it."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def written(name: str) -> Path:
        return write_checkpoint(root / name, RECIPES[name])

    return written


@pytest.fixture(scope="session")
def model_folder(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Return the model folder of a recipe in a weight format; it is shared: do not change it."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def exported(name: str, weights: str) -> Path:
        target = root / f"{name}-{weights}"
        export_model(checkpoint(name), target, weights=weights)
        return target

    return exported
