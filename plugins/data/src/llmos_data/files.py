"""The files of a run: their formats, whether they may be written, and where an interrupted run stands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import attrs

from llmos import locked
from llmos_data.codecs import WriteCsv, missing
from llmos_data.folder import Folder, ToFolder
from llmos_data.journal import Journal
from llmos_data.outputs import Output, ToFile, ToPart, ToStdout, journal_of, part_of
from llmos_data.plan import Format, Plan
from llmos_data.run import Run
from llmos_data.sources import SUFFIXES, Lines, Source
from llmos_kernel.errors import InvalidArgument


@attrs.frozen
class Files:
    """The paths of a run; None is a standard stream, or nothing for the rejects."""

    input: Path | None = None
    output: Path | None = None
    rejects: Path | None = None

    def source(self, given: Mapping[str, Any]) -> AbstractContextManager[Source]:
        """Return the source, in the format that is *given* or that its name says; leaving the context closes it."""
        return closing(self._open(given.get("source") or self._by_name(), tuple(given.get("suffixes", ()))))

    def _by_name(self) -> Format:
        if self.input is None:
            return "jsonl"
        return "folder" if self.input.is_dir() else SUFFIXES.get(self.input.suffix.lower(), "jsonl")

    def _open(self, source: Format, suffixes: tuple[str, ...]) -> Source:
        if suffixes and source != "folder":
            expected = "the format folder, where files have names"
            raise InvalidArgument.of("suffix", list(suffixes), expected)
        if source not in ("folder", "parquet"):
            return Lines.open(self.input)
        if self.input is None:
            expected = "the path of its input: standard input is read only forwards"
            raise InvalidArgument(f"{source} needs {expected}", field="input", value=None, expected=expected)
        if source == "folder":
            return Folder.open(self.input, suffixes)
        from llmos_data.arrow import Rows  # noqa: PLC0415 - an extra

        return Rows.open(self.input)

    def plan(self, given: Mapping[str, Any], source: Source) -> Plan:
        """Return the plan that is *given*, with formats by the files' names where it has none, and columns.

        Raises `InvalidArgument` for a field that is no column.
        """
        plan = Plan(**{"source": self._by_name(), **given})
        columns = source.columns(plan.limit) if plan.source in ("csv", "parquet") else ()
        plan = attrs.evolve(plan, target=given.get("target") or self._target(plan.source), columns=columns)
        wanted = {name for name in (*plan.fields, *plan.keep) if name != plan.into or name in plan.fields}
        if plan.columns and (unknown := sorted(wanted.difference(plan.columns))):
            raise missing(unknown[0], plan.columns, "column")
        if plan.target == "csv" and not plan.written:
            expected = "--keep for each column, because the input names none"
            raise InvalidArgument(f"CSV needs {expected}", field="keep", value=[], expected=expected)
        if plan.target == "folder" and plan.explode:
            expected = "another format, because each record has one path"
            raise InvalidArgument(f"explode needs {expected}", field="explode", value=True, expected=expected)
        return plan

    def _target(self, source: Format) -> Format:
        """Return the format of the output, by its name or as the input has it; lines, where it is a stream."""
        if self.output is None:
            return "jsonl" if source in ("folder", "parquet") else source
        return SUFFIXES.get(self.output.suffix.lower(), source)

    def begin(self, plan: Plan, source: Source, stack: ExitStack, *, resume: bool) -> Run | None:
        """Return the run at its beginning, or with *resume* where it stopped; None if its output is whole already.

        Its files are closed with *stack*.  Raises `InvalidArgument` for files that would be lost.
        """
        path = None if self.output is None else journal_of(self.output)
        self._refuse_what_cannot_be(plan)
        if self.output is not None:
            stack.enter_context(locked(self.output))
        if resume and path is None:
            expected = "--output FILE, which has a journal beside it"
            raise InvalidArgument(f"resume needs {expected}", field="resume", value=True, expected=expected)
        if resume and self.output is not None and self.output.exists():
            journal_of(self.output).unlink(missing_ok=True)
            if plan.target == "parquet":
                part_of(self.output).unlink(missing_ok=True)
            return None
        before = Journal.load(path) if resume and path is not None and path.exists() else None
        if before is not None:
            source.check(plan, before)
        else:
            self._refuse_what_is_there(path)
        done = attrs.evolve(before, plan=plan) if before is not None else Journal(plan=plan)
        output = stack.enter_context(self._output(done))
        rejects = None if self.rejects is None else stack.enter_context(ToFile(self.rejects, done.rejects))
        run = Run(output=output, rejects=rejects, done=done, path=path, tail=source.tail)
        if before is None:
            if plan.target == "csv":
                output.write(WriteCsv(plan.written).head())
            run.save()
        return run

    def _output(self, done: Journal) -> Output:
        if self.output is None:
            return ToStdout()
        if done.plan.target == "folder":
            return ToFolder(self.output, done.output)
        if done.plan.target == "parquet":
            from llmos_data.arrow import ToParquet  # noqa: PLC0415 - an extra

            return ToParquet(self.output, done.output, done.plan.written)
        return ToPart(self.output, done.output)

    def _refuse_what_cannot_be(self, plan: Plan) -> None:
        """Raise `InvalidArgument` for a stream of what is no stream, and for an output that would be read."""
        if self.output is None and plan.target in ("folder", "parquet"):
            expected = f"--output, because {plan.target} is no stream"
            raise InvalidArgument(f"{plan.target} needs {expected}", field="output", value=None, expected=expected)
        for field, path in (("output", self.output), ("rejects", self.rejects)):
            inside = path is not None and self.input is not None and path.resolve().is_relative_to(self.input.resolve())
            if inside and plan.source == "folder":
                expected = f"a path outside {self.input}, which is read"
                raise InvalidArgument.of(field, str(path), expected)

    def _refuse_what_is_there(self, journal: Path | None) -> None:
        if journal is not None and journal.exists():
            expected = "--resume, to go on with it, or the journal removed"
            message = f"{self.output} was begun before ({journal}); {expected}"
            raise InvalidArgument(message, field="output", value=str(self.output), expected=expected)
        for field, path in (("output", self.output), ("rejects", self.rejects)):
            if path is not None and path.exists():
                message = f"{path} exists already; remove it, or choose another"
                raise InvalidArgument(message, field=field, value=str(path), expected="a new file")
