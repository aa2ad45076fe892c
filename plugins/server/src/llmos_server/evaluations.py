"""Results of evaluations, which ``llmos eval`` keeps in a folder: one JSON object a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

FOLDER = "evaluations"
"""The folder's name under that of llmos."""
MOST = 500
"""Files that are read, the last ones."""
SIZE = 2**20
"""Bytes of one file that are read."""


def stored(home: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Return what is kept under *home*, the last first: ``data``, and the names of files that are ``unreadable``.

    A result has ``model``, ``suite``, ``finished`` (seconds since 1970) and ``metrics``, numbers by their names.
    """
    folder = None if home is None else home / FOLDER
    files = sorted(folder.glob("*.json"), key=_changed, reverse=True)[:MOST] if folder and folder.is_dir() else []
    found: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    for file in files:
        try:
            found.append({"id": file.stem, **_result(file)})
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            unreadable.append({"id": file.stem, "why": type(error).__name__})
    return {"data": found, "unreadable": unreadable}


def _changed(file: Path) -> float:
    return file.stat().st_mtime


def _result(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        kept = json.loads(opened.read(SIZE + 1)[: SIZE + 1])
    metrics = {str(name): float(value) for name, value in dict(kept["metrics"]).items()}
    if not all(map(math.isfinite, metrics.values())):
        raise ValueError(file.name)
    return {
        "model": str(kept["model"]), "suite": str(kept["suite"]), "metrics": metrics,
        "items": int(kept.get("items", 0)), "finished": float(kept.get("finished", _changed(file))),
    }  # fmt: skip
