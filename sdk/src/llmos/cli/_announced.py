"""The commands that plugins announce: found and described without importing a plugin, or `importlib.metadata`.

That module takes as long to import as all the rest of ``llmos --help``, so the files are read directly.  What is broken
among them is no command, or has no description; doctor names it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUP = "llmos.command"
"""Where plugins announce commands."""
HELPS = "commands.json"
"""The file beside a command's module that says what commands do, by name."""
LIMIT = 2**16
"""Most bytes of such a file."""


class Announced(NamedTuple):
    """A command of a plugin."""

    name: str
    module: str
    info: Path
    """The folder of its distribution's metadata."""

    @property
    def distribution(self) -> str:
        """The name of its distribution."""
        return self.info.stem.partition("-")[0].replace("_", "-")

    def told(self) -> str:
        """Return what it does, in a line: as `HELPS` says, or the summary of its distribution."""
        return " ".join((self._help() or self._summary() or f"From {self.distribution}.").split())

    def _help(self) -> str:
        import json  # noqa: PLC0415 - only the list of commands pays

        folder = _folder(self.module)
        try:
            helps = json.loads(_read(folder / HELPS)) if folder is not None else {}
        except (OSError, ValueError, RecursionError):
            return ""
        said = helps.get(self.name) if isinstance(helps, dict) else None
        return said if isinstance(said, str) else ""

    def _summary(self) -> str:
        try:
            header = _read(self.info / ("METADATA" if self.info.suffix == ".dist-info" else "PKG-INFO"))
        except (OSError, ValueError):
            return ""
        lines = header.partition("\n\n")[0].splitlines()
        return next((line.removeprefix("Summary:") for line in lines if line.startswith("Summary:")), "")


def announced() -> dict[str, Announced]:
    """Return the commands of plugins by name; of two that are called the same, the first on the path."""
    found: dict[str, Announced] = {}
    for folder in dict.fromkeys(sys.path):
        for file in sorted(Path(folder).glob("*.*-info/entry_points.txt")):
            for name, module in _commands_of(file):
                found.setdefault(name, Announced(name, module, file.parent))
    return found


def _commands_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and modules in the section of commands of a file of entry points."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    section = text.partition(f"[{GROUP}]")[2].partition("\n[")[0]
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() and not name.startswith(("#", ";")):
            yield name.strip(), value.partition(":")[0].partition("[")[0].strip()


def _folder(module: str) -> Path | None:
    """Return the folder of *module* in its package, which is not imported; None where it is in none."""
    from importlib.util import find_spec  # noqa: PLC0415 - as above

    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.submodule_search_locations:
        return None
    place = Path(spec.origin).parent.joinpath(*rest)
    return place if place.is_dir() else place.parent


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(LIMIT).decode("utf-8")
