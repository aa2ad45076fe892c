"""The book-keeping that all policies share: who waits, who runs, and what is left to compute of each.

A policy says in which order tasks stand (`Book.rank`) and puts a plan together from three questions:

    decodes      which running tasks produce a token in this step
    prefills     which running tasks have a piece of their prompt computed
    placements   which tasks outside get a place

Every task stands in at most one line, which follows from its state and from what is left of it:

    waiting, preempted                  the line outside, one per length class
    running, prompt not yet computed    ``prefilling``
    running, output not yet complete    ``decoding``
    stalled; or nothing to plan for it  none
"""

from __future__ import annotations

from itertools import chain

import attrs

from llmos_kernel.contracts import Limits, Scheduler, TaskView
from llmos_schedulers.line import Line, Rank


@attrs.define
class Entry:
    """One task, as far as the scheduler has heard."""

    view: TaskView
    """What was last said of it."""
    remaining: int
    """Prompt tokens that are still to be computed."""
    left: int
    """Tokens that it may still produce."""
    rank: Rank
    line: Line | None = None
    """The line that it stands in."""


@attrs.define
class Book(Scheduler):
    """A scheduler without a policy: subclasses add `plan`, and `rank` unless it is order of arrival."""

    tasks: dict[int, Entry] = attrs.field(factory=dict, init=False)
    outside: dict[int, Line] = attrs.field(factory=dict, init=False)
    prefilling: Line = attrs.field(factory=Line, init=False)
    decoding: Line = attrs.field(factory=Line, init=False)

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return where *task* stands among others; by default it is the time of its arrival."""
        return (task.arrival,)

    def arrived(self, task: TaskView) -> None:
        """Enter a task that waits."""
        self.changed(task)

    def changed(self, task: TaskView) -> None:
        """Enter what is now known of a task, and move it to the line where it belongs."""
        self.finished(task.id)
        remaining = max(task.prompt - task.cached - task.prefilled, 0)
        entry = Entry(task, remaining, task.max_tokens - task.generated, (self.rank(task), task.id))
        self.tasks[task.id] = entry
        self._line_up(entry)

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Take what a step did off what is left.  A task that ended during the step is no longer in the book."""
        entry = self.tasks.get(id)
        if entry is None:
            return
        entry.remaining = max(entry.remaining - prefilled, 0)
        entry.left -= generated
        if entry.line is not self._line_for(entry):
            self._step_out(entry)
            self._line_up(entry)

    def finished(self, id: int) -> None:
        """Strike a task out.  One that ended before it arrived was never entered."""
        entry = self.tasks.pop(id, None)
        if entry is not None:
            self._step_out(entry)

    def decodes(self, limits: Limits) -> tuple[tuple[int, int], ...]:
        """Return one token for each task whose prompt is computed, as far as *limits* go.

        A task that runs alone may produce all that is left of it: an executor that can take several tokens in one step
        makes nobody wait.
        """
        rows = self.decoding.first(min(limits.rows, limits.tokens))
        if len(rows) == 1 and not self.prefilling.first(1):
            id = rows[0][1]
            return ((id, min(self.tasks[id].left, limits.tokens)),)
        return tuple((id, 1) for _, id in rows)

    def prefills(self, most: int, tokens: int) -> tuple[tuple[int, int], ...]:
        """Return pieces of at most *most* prompts, in order, of at most *tokens* together.

        Only the first is ever cut: prompts that fit whole share a step, one that does not fit behind others waits for
        a step that it begins, because an executor computes a cut prompt by itself.
        """
        pieces: list[tuple[int, int]] = []
        for _, id in self.prefilling.first(most):
            remaining = self.tasks[id].remaining
            piece = min(remaining, tokens)
            if piece <= 0 or (pieces and piece < remaining):
                break
            pieces.append((id, piece))
            tokens -= piece
        return tuple(pieces)

    def placements(self, limits: Limits) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return who gets a place: tasks to admit and preempted tasks to resume.

        A length class without room holds up its own tasks only; a refused task stands where it stood.
        """
        free = limits.free
        heads = (line.first(min(free, _room(limits, kind))) for kind, line in self.outside.items())
        chosen = [id for _, id in sorted(chain.from_iterable(heads))[: max(free, 0)]]
        waiting = tuple(id for id in chosen if self.tasks[id].view.state == "waiting")
        preempted = tuple(id for id in chosen if self.tasks[id].view.state == "preempted")
        return waiting, preempted

    def _line_for(self, entry: Entry) -> Line | None:
        state = entry.view.state
        if state == "running":
            if entry.remaining > 0:
                return self.prefilling
            return self.decoding if entry.left > 0 else None
        if state in ("waiting", "preempted"):
            return self.outside.setdefault(entry.view.length_class, Line())
        return None

    def _line_up(self, entry: Entry) -> None:
        entry.line = self._line_for(entry)
        if entry.line is not None:
            entry.line.join(entry.rank)

    def _step_out(self, entry: Entry) -> None:
        if entry.line is not None:
            entry.line.leave(entry.rank)
            entry.line = None


def _room(limits: Limits, length_class: int) -> int:
    """Return the free places of a length class; where the executor has no such class, any free place will do."""
    return limits.pools[length_class][1] if length_class < len(limits.pools) else limits.free
