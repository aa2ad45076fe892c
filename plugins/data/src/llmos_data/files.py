"""The files of a run: their formats, whether they may be written, and where an interrupted run stands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import attrs

from llmos_data.codecs import WriteCsv
from llmos_data.journal import Journal
from llmos_data.outputs import Output, ToFile, ToPart, ToStdout, journal_of
from llmos_data.plan import Plan
from llmos_data.run import Run
from llmos_data.sources import SUFFIXES, Lines
from llmos_kernel.errors import InvalidArgument


@attrs.frozen
class Files:
    """The paths of a run; None is a standard stream, or nothing for the rejects."""

    input: Path | None = None
    output: Path | None = None
    rejects: Path | None = None

    def source(self) -> AbstractContextManager[Lines]:
        """Return the source; leaving the context closes it."""
        return closing(Lines.open(self.input))

    def plan(self, given: Mapping[str, Any], source: Lines) -> Plan:
        """Return the plan that is *given*, with formats by the files' names where it has none, and columns."""
        by_name = {} if self.input is None else {"source": SUFFIXES.get(self.input.suffix.lower(), "jsonl")}
        plan = Plan(**{**by_name, **given})
        target = None if self.output is None else SUFFIXES.get(self.output.suffix.lower())
        plan = attrs.evolve(plan, target=given.get("target") or target or plan.source)
        if plan.source == "csv":
            plan = attrs.evolve(plan, columns=source.columns(plan.limit))
        if plan.target == "csv" and not plan.written:
            expected = "--keep for each column, because the input names none"
            raise InvalidArgument(f"CSV needs {expected}", field="keep", value=[], expected=expected)
        return plan

    def begin(self, plan: Plan, source: Lines, stack: ExitStack, *, resume: bool) -> Run | None:
        """Return the run at its beginning, or with *resume* where it stopped; None if its output is whole already.

        Its files are closed with *stack*.  Raises `InvalidArgument` for files that would be lost.
        """
        path = None if self.output is None else journal_of(self.output)
        if resume and path is None:
            expected = "--output FILE, which has a journal beside it"
            raise InvalidArgument(f"resume needs {expected}", field="resume", value=True, expected=expected)
        if resume and self.output is not None and self.output.exists():
            journal_of(self.output).unlink(missing_ok=True)
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
        return ToStdout() if self.output is None else ToPart(self.output, done.output)

    def _refuse_what_is_there(self, journal: Path | None) -> None:
        if journal is not None and journal.exists():
            expected = "--resume, to go on with it, or the journal removed"
            message = f"{self.output} was begun before ({journal}); {expected}"
            raise InvalidArgument(message, field="output", value=str(self.output), expected=expected)
        for field, path in (("output", self.output), ("rejects", self.rejects)):
            if path is not None and path.exists():
                message = f"{path} exists already; remove it, or choose another"
                raise InvalidArgument(message, field=field, value=str(path), expected="a new file")
