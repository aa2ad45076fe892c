"""What was measured on this machine for one model folder: the options that `llmos_onnx.tuning` found to be fastest.

A profile is a small JSON file among the user's own data, ``profiles/<first 16 digits of the manifest's SHA-256>.json``.
It holds for one folder, one kind of machine and one version of the runtime; elsewhere it is as if it were not there.
What a model's specification or the backend's configuration says wins over it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.fields import Fields, read_json, refusal
from llmos_onnx.manifest import Speeds

if TYPE_CHECKING:
    from llmos_onnx.manifest import Manifest

_FORMAT: Final = 1
_MAX_BYTES: Final = 1 << 16
_MOST_TRIALS: Final = 100


@attrs.frozen
class Knobs:
    """The options that are measured."""

    threads: int
    """Threads within an operator."""
    spinning: bool
    """Threads wait for work by spinning for a moment, not by sleeping at once."""
    step_tokens: int
    """Most tokens of one step: how a long prompt is cut."""
    arena: bool
    """The runtime keeps memory between steps instead of returning it."""
    prepacking: bool
    """Weights are rearranged when the model is loaded."""

    @classmethod
    def read(cls, fields: Fields) -> Knobs:
        """Check the object *fields*; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(
            threads=fields.integer("threads", 1, 1024),
            spinning=fields.flag("spinning"),
            step_tokens=fields.integer("step_tokens", 1, 2**24),
            arena=fields.flag("arena"),
            prepacking=fields.flag("prepacking"),
        )


@attrs.frozen
class Trial:
    """One set of options and how fast it was."""

    knobs: Knobs
    speeds: Speeds

    @classmethod
    def read(cls, fields: Fields) -> Trial:
        """Check the object *fields*; raise `ModelUnavailable` naming the field that is wrong."""
        fields.only(name.name for name in attrs.fields(cls))
        return cls(Knobs.read(fields.inner("knobs")), Speeds.read(fields.inner("speeds")))


@attrs.frozen
class Profile:
    """What was chosen, where, and from what."""

    machine: Mapping[str, Any]
    """Processor, usable cores and version of the runtime: what it holds for."""
    knobs: Knobs
    trials: tuple[Trial, ...] = ()
    """Everything that was measured, in order."""


def machine(runtime: str) -> dict[str, Any]:
    """Return what a profile depends on, for version *runtime* of ONNX Runtime."""
    return {"processor": _processor(), "cores": cores(), "runtime": runtime}


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def profile_path(home: Path, manifest: Manifest) -> Path:
    """Return where the profile of the folder with *manifest* lies among the user's data in *home*."""
    return home / "profiles" / f"{hashlib.sha256(manifest.to_json()).hexdigest()[:16]}.json"


def read_profile(home: Path, manifest: Manifest, runtime: str) -> Profile | None:
    """Return the profile of the folder with *manifest* on this machine; None where there is none for it.

    Raises `ModelUnavailable` naming the file and the field for one that is malformed.
    """
    path = profile_path(home, manifest)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refusal(manifest.name, str(path), error.strerror, "a readable file") from error
    profile = _parse(data, manifest.name, path)
    return profile if profile.machine == machine(runtime) else None


def write_profile(home: Path, manifest: Manifest, profile: Profile) -> Path:
    """Keep *profile* for the folder with *manifest*; return its file, which appears whole or not at all."""
    path = profile_path(home, manifest)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"format": _FORMAT, **attrs.asdict(profile)}, indent=2) + "\n", "utf-8")
    partial.replace(path)
    return path


def _parse(data: bytes, model: str, path: Path) -> Profile:
    try:
        fields = read_json(data, model=model, where=str(path), limit=_MAX_BYTES)
        fields.only(("format", "machine", "knobs", "trials"))
        fields.integer("format", _FORMAT, _FORMAT)
        place, knobs = fields.inner("machine"), Knobs.read(fields.inner("knobs"))
        trials = tuple(Trial.read(Fields(model, f"{path}: trials", trial)) for trial in _objects(fields, "trials"))
    except ModelUnavailable as error:
        error.add_note(f"remove {path}, or measure again with `llmos tune`")
        raise
    return Profile(dict(place.values), knobs, trials)


def _objects(fields: Fields, name: str) -> list[dict[str, object]]:
    found = fields.values.get(name)
    if not isinstance(found, list) or len(found) > _MOST_TRIALS or not all(isinstance(item, dict) for item in found):
        raise fields.refuse(name, f"a list of at most {_MOST_TRIALS} objects")
    return found


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
