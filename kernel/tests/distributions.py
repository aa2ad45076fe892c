"""Distributions as an installer would leave them, in a temporary folder on ``sys.path``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmos_kernel.config import KernelConfig
from llmos_kernel.loader import PluginRecord, survey


@attrs.frozen
class Site:
    """A site-packages folder of a test's own."""

    folder: Path

    def install(
        self,
        name: str,
        entry_points: Mapping[str, str] | str = "",
        *,
        version: str = "1.0",
        requires: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Write the distribution *name*: *entry_points* map ``kind:name`` to a value, *files* are its modules."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines))
        if not isinstance(entry_points, str):
            groups = [
                f"[llmos.{key.partition(':')[0]}]\n{key.partition(':')[2]} = {value}"
                for key, value in entry_points.items()
            ]
            entry_points = "\n".join(groups)
        (info / "entry_points.txt").write_text(entry_points)
        for path, text in (files or {}).items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()

    def models(self, name: str, entries: Any, package: str = "pack") -> None:
        """Install *name* with a package that lists *entries* in its models file."""
        text = entries if isinstance(entries, str) else json.dumps(entries)
        files = {f"{package}/__init__.py": "raise SystemExit('imported')", f"{package}/models.json": text}
        self.install(name, {f"model:{name}": package}, files=files)

    def survey(self, plugins: Sequence[str] = ("*",), blocked: Sequence[str] = ()) -> dict[str, list[PluginRecord]]:
        """Return the records of this folder's distributions by key, whatever else is installed."""
        mine = {path.name.partition("-")[0].replace("_", "-") for path in self.folder.glob("*.dist-info")}
        records: dict[str, list[PluginRecord]] = {}
        for record in survey(KernelConfig(plugins=tuple(plugins), blocked=tuple(blocked))):
            if record.distribution in mine | {"(unnamed)"}:
                records.setdefault(record.key, []).append(record)
        return records

    def record(self, key: str, **settings: Sequence[str]) -> PluginRecord:
        """Return the one record for *key*."""
        (record,) = self.survey(**settings)[key]
        return record


@contextmanager
def temporary_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Put *folder* first on the path; afterwards nothing of what was imported from it is left."""
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
