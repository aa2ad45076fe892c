"""What an exporter owes."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos.testing.conformance._base import Conformance, expect, expect_facts, take
from llmos_kernel.errors import InvalidArgument, KernelError
from llmos_kernel.services import Exporter, Progress


@attrs.frozen
class Export:
    """An exporter, and a checkpoint that it can export, as small as can be."""

    exporter: Exporter
    source: Path
    options: Mapping[str, Any] = attrs.field(factory=dict)


class ExporterConformance(Conformance):
    """What every exporter owes.  Subclass it, and give it a fixture ``export`` that returns an `Export`."""

    def test_is_taken(self, export: Export, tmp_path: Path) -> None:
        """`llmos_exporter`: "return an exporter"."""
        take("exporter", lambda: export.exporter)

    def test_writes_target(self, export: Export, tmp_path: Path) -> None:
        """`Exporter.export`: "Write *target* from *source*"."""
        _run(export, tmp_path / "target")
        expect(True, any((tmp_path / "target").iterdir()), "something in the target's folder")

    def test_returns_facts(self, export: Export, tmp_path: Path) -> None:
        """`Exporter.export`: "return facts about it", by name."""
        expect_facts(_run(export, tmp_path / "target"))

    def test_whole_or_not_at_all(self, export: Export, tmp_path: Path) -> None:
        """`Exporter.export`: "*target* appears whole or not at all": one that is stopped leaves nothing."""
        folder, told = tmp_path / "targets", list[object]()
        folder.mkdir()
        _run(export, folder / "whole", lambda *progress: told.append(progress))
        for after in {0, len(told) // 2, len(told) - 1} if told else ():
            with contextlib.suppress(Exception):  # what is left behind is the question, not what it says
                _run(export, folder / f"part-{after}", _stopping(after))
            expect(["whole"], sorted(path.name for path in folder.iterdir()), f"what is left after {after} reports")

    def test_progress(self, export: Export, tmp_path: Path) -> None:
        """`Progress`: "``progress(what, done, total)``; total 0 is unknown": a part is never more than the whole."""
        told: list[tuple[Any, ...]] = []
        _run(export, tmp_path / "target", lambda *progress: told.append(progress))
        for what, done, total in told:
            expect((str, int, int), (type(what), type(done), type(total)), "the kinds of what progress is told")
            expect(True, done >= 0 and (total == 0 or done <= total), f"{done} of {total} being a part")

    def test_keeps_source(self, export: Export, tmp_path: Path) -> None:
        """`Exporter`: "Writes a model folder from a checkpoint", which is somebody's, and stays as it was."""
        before = _prints(export.source)
        _run(export, tmp_path / "target")
        expect(before, _prints(export.source), "the checkpoint afterwards")

    def test_unknown_option(self, export: Export, tmp_path: Path) -> None:
        """`InvalidArgument`: "A value is out of range or of the wrong kind": no option is ignored."""
        wrong = attrs.evolve(export, options={**export.options, "no-such-option": 1})
        try:
            _run(wrong, tmp_path / "target")
        except InvalidArgument as error:
            expect("no-such-option", error.fields.get("field"), "the field that the error names")
        else:
            raise AssertionError("exporting with the option no-such-option: expected InvalidArgument, found no error")
        expect(False, (tmp_path / "target").exists(), "there being a target")

    def test_wrong_source(self, export: Export, tmp_path: Path) -> None:
        """`KernelError` is "The root" of what may be raised: a folder that is no checkpoint is a typed error."""
        (tmp_path / "empty").mkdir()
        for source in (tmp_path / "empty", tmp_path / "missing"):
            refused = False
            try:
                _run(attrs.evolve(export, source=source), tmp_path / "target")
            except KernelError:
                refused = True
            expect(True, refused, f"a typed error for the source {source.name}")
            expect(False, (tmp_path / "target").exists(), "there being a target")


def _run(export: Export, target: Path, progress: Progress = lambda *_: None) -> Mapping[str, Any]:
    return export.exporter.export(export.source, target, export.options, progress)


def _stopping(after: int) -> Progress:
    """Return somebody who is told of the progress and has enough after so many reports."""
    reports = itertools.count()

    def stop(what: str, done: int, total: int) -> None:
        if next(reports) == after:
            raise RuntimeError("stopped")

    return stop


def _prints(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
