"""Small checkpoints and the model folders made of them, each written once per run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

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
def model_folder(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the model folder of a recipe in a weight format, with other options; it is shared: do not change it."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def exported(name: str, weights: str, **options: Any) -> Path:
        target = root / "-".join([name, weights, *(f"{option}_{value}" for option, value in options.items())])
        export_model(checkpoint(name), target, weights=weights, **options)
        return target

    return exported
