"""A run: every block of a source passes the pipeline, in constant memory, and what is done stays done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from llmos_data.blocks import Block
from llmos_data.journal import Journal
from llmos_data.outputs import Output
from llmos_data.work import Done
from llmos_kernel.errors import KernelError

Worked = Callable[[Iterable[Block]], Iterator[tuple[Block, Done]]]
"""Yields each block and what became of it."""
EVERY = 0.25
"""Seconds between two entries of the journal, at least."""
_SHARE = 20
"""An entry that takes long, because the disk is slow, is so many times that long in coming again."""


@attrs.define(kw_only=True)
class Run:
    """The state of a run, and where it writes."""

    output: Output
    rejects: Output | None
    done: Journal
    """What is written; on stable storage only as far as the journal that was saved last says."""
    path: Path | None = None
    """Where the journal is kept; None: nowhere, and the run cannot be gone on with."""
    tail: Callable[[int], str] = lambda end: ""
    """Tells the source before a place from another, for the journal."""
    clock: Callable[[], float] = time.monotonic
    progress: Callable[[int], object] = lambda end: None
    """Told how far the source is read."""

    def __call__(
        self, work: Callable[[Iterable[Block]], Iterator[tuple[Block, Done]]], blocks: Iterable[Block]
    ) -> None:
        """Write what *work* makes of *blocks*.  Raises the error of the first bad record, after what comes before it.

        After an error the journal stays, and its entry is the last block that was written whole.
        """
        due = self.clock() + EVERY
        for block, done in work(blocks):
            if done.fault is not None:
                self._stop(done)
                raise KernelError.from_wire(done.fault)
            self.output.write(done.out)
            if self.rejects is not None:
                self.rejects.write(done.rejects)
            self.done = attrs.evolve(
                self.done, end=block.end, number=block.number + block.count,
                written=self.done.written + done.written, rejected=self.done.rejected + done.rejected,
            )  # fmt: skip
            self.progress(block.end)
            if self.path is not None and (now := self.clock()) >= due:
                self.save()
                ended = self.clock()
                due = ended + max(EVERY, _SHARE * (ended - now))
        if self.rejects is not None:
            self.rejects.finish()
        self.output.finish()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def save(self) -> None:
        """Put what is written on stable storage, then say so in the journal."""
        if self.path is None:
            return
        output = self.output.sync()
        rejects = self.rejects.sync() if self.rejects is not None else 0
        self.done = attrs.evolve(self.done, output=output, rejects=rejects, tail=self.tail(self.done.end))
        self.done.save(self.path)

    def _stop(self, done: Done) -> None:
        """Leave everything so that the run can go on before the bad record; where it cannot, write what came before."""
        if self.path is None:
            self.output.write(done.out)
        else:
            self.save()
