"""An environment for each peer, and the model in each engine's formats, made once and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from tests.benchmarks.checkpoints import write_checkpoint
from tests.benchmarks.peers.pins import Engine
from tests.benchmarks.peers.worker import ROOT, Place

_STAMP = "requirements.json"
_PREPARE = (
    "import sys; from importlib import import_module; from pathlib import Path; "
    "import_module('tests.benchmarks.peers.' + sys.argv[1]).prepare(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])"
)


class PreparationFailed(Exception):
    """An engine, or a format of it, cannot be had; the message says why."""


@attrs.frozen
class Home:
    """Where environments and models are kept."""

    environments: Path
    models: Path
    say: Callable[[str], object]
    """Hears what is being done."""

    def checkpoint(self, model: str) -> Path:
        """Return the folder of the checkpoint *model*, written if it is not there."""
        folder = self.models / model
        if not (folder / "model.safetensors").exists():
            self.say(f"writing the checkpoint {model}")
            write_checkpoint(model, folder)
        return folder

    def place(self, engine: Engine, model: str) -> Place:
        """Return where *engine* runs, its environment made if it is not there; raise `PreparationFailed`."""
        folder = self.models / f"{model}.{engine.name}"
        folder.mkdir(parents=True, exist_ok=True)
        python = self._environment(engine) if engine.requirements else Path(sys.executable)
        return Place(python, engine.module, folder)

    def convert(self, place: Place, model: str, form: str) -> None:
        """Write the model in an engine's format if it is not there; raise `PreparationFailed`.

        What the present interpreter writes is written anew: our own exporter changes with its source.
        """
        stamp = place.folder / f"{form}.done"
        if stamp.exists() and place.python != Path(sys.executable):
            return
        self.say(f"converting {model} for {place.module} to {form}")
        _remove(place.folder / form)
        arguments = [place.module, self.checkpoint(model), place.folder, form]
        _run([place.python, "-c", _PREPARE, *arguments], {"HF_HUB_OFFLINE": "1"})
        stamp.touch()

    def _environment(self, engine: Engine) -> Path:
        folder = self.environments / f"peer-{engine.name}"
        python, stamp = folder / "bin" / "python", folder / _STAMP
        wanted = json.dumps([*engine.requirements, *engine.overrides])
        if stamp.exists() and stamp.read_text("utf-8") == wanted:
            return python
        uv = shutil.which("uv")
        if uv is None:
            raise PreparationFailed("environments are made with uv, which is not installed")
        self.say(f"installing {', '.join(engine.requirements)}")
        if not python.exists():
            _run([uv, "venv", "--python", sys.executable, folder])
        overrides = folder / "overrides.txt"
        overrides.write_text("\n".join(engine.overrides), "utf-8")
        packages = [*engine.requirements, "--override", overrides]
        _run([uv, "pip", "install", "--python", python, *packages], engine.settings)
        stamp.write_text(wanted, "utf-8")
        return python


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _run(argv: Sequence[object], settings: Mapping[str, str] | None = None) -> None:
    words = [str(word) for word in argv]
    environment = os.environ | dict(settings or {})
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise PreparationFailed(f"{Path(words[0]).name} ended with {done.returncode}: {' / '.join(lines[-4:])}")
