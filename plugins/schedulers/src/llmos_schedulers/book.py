"""What all policies share: who waits, who runs, what is left to compute of each, and how a step's budget is spent.

A policy is an order.  It says where a task stands (`Book.rank`), moves tasks that stand elsewhere now (`Book.move`),
and, if it takes places from running tasks, says so (`Book.preemptive`).  Everything else is here, once:

    placements   which tasks outside get a place, and which running tasks yield theirs
    decodes      which running tasks produce a token in this step
    prefills     which running tasks have a piece of their prompt computed

Every task stands in the lines that follow from its state and from what is left of it:

    waiting, preempted                  the line outside, one per length class
    running                             the line inside, one per length class, and of these two one or none:
      prompt not yet computed           ``prefilling``
      output not yet complete           ``decoding``
    stalled, or refused for good        none

A task that is left out of a step because there are more tasks than rows keeps its place, and nothing is moved.  Only a
place that somebody else needs is given up, and then the cache moves to host memory (``swap``): it is exact and cheaper
than computing it again.
"""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import attrs

from llmos_kernel.api import MAX_COUNT, number
from llmos_kernel.contracts import Limits, Plan, Preemption, Scheduler, TaskView
from llmos_schedulers.line import Line, Rank
from llmos_schedulers.options import flag


@attrs.frozen(kw_only=True)
class StepOptions:
    """What every policy can be told about a step."""

    chunk: int = attrs.field(default=512, validator=number(1, MAX_COUNT))
    """Most prompt tokens in one step.  Smaller: running tasks wait less for a new one.  Larger: prompts end sooner."""
    batch_prompts: bool = attrs.field(default=True, validator=flag)
    """Compute several prompts in one step where they fit into the chunk whole."""


@attrs.define(eq=False)
class Entry:
    """One task, as far as the scheduler has heard."""

    view: TaskView
    """What was last said of it."""
    remaining: int
    """Prompt tokens that are still to be computed."""
    left: int
    """Tokens that it may still produce."""
    rank: Rank
    lines: tuple[Line, ...] = ()
    """The lines that it stands in."""


@attrs.define
class Book(Scheduler):
    """Order of arrival, continuous batching, stall-free steps.  Subclasses change the order."""

    preemptive: ClassVar[bool] = False
    """Whether a task outside takes the place of a running one that stands behind it."""

    options: StepOptions = attrs.field(factory=StepOptions)
    tasks: dict[int, Entry] = attrs.field(factory=dict, init=False)
    outside: dict[int, Line] = attrs.field(factory=dict, init=False)
    inside: dict[int, Line] = attrs.field(factory=dict, init=False)
    prefilling: Line = attrs.field(factory=Line, init=False)
    decoding: Line = attrs.field(factory=Line, init=False)

    # --- the order

    def rank(self, task: TaskView) -> tuple[float, ...]:
        """Return where *task* stands among others; by default it is the time of its arrival."""
        return (task.arrival,)

    def move(self, id: int) -> None:
        """Stand a task where it belongs now that its `rank` is another."""
        entry = self.tasks[id]
        self.step_out(entry)
        entry.rank = (self.rank(entry.view), id)
        self.line_up(entry)

    def most(self, entry: Entry) -> int:
        """Return how many tokens a task that runs alone may produce in one step."""
        return entry.left

    # --- what is heard

    def arrived(self, task: TaskView) -> None:
        """Enter a task that waits."""
        self.changed(task)

    def changed(self, task: TaskView) -> None:
        """Enter what is now known of a task, and move it to the lines where it belongs."""
        known = self.tasks.get(task.id)
        if known is not None:
            self.step_out(known)
        remaining = max(task.prompt - task.cached - task.prefilled, 0)
        entry = Entry(task, remaining, task.max_tokens - task.generated, (self.rank(task), task.id))
        self.tasks[task.id] = entry
        self.line_up(entry)

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Take what a step did off what is left.  A task that ended during the step is no longer in the book."""
        entry = self.tasks.get(id)
        if entry is None:
            return
        computing = entry.remaining > 0
        entry.remaining = max(entry.remaining - prefilled, 0)
        entry.left -= generated
        if entry.left <= 0 or (computing and not entry.remaining):
            self.step_out(entry)
            self.line_up(entry)

    def finished(self, id: int) -> None:
        """Strike a task out.  One that ended before it arrived was never entered."""
        entry = self.tasks.pop(id, None)
        if entry is not None:
            self.step_out(entry)

    # --- what is planned

    def plan(self, now: float, limits: Limits) -> Plan:
        """Fill the free places, decode what runs, and prefill in order with the rest of the budget."""
        chosen, yielding = self.placements(limits)
        decode = self.decodes(limits, yielding)

        prompts = min(limits.rows - len(decode), limits.chunks if self.options.batch_prompts else 1)
        prefill = self.prefills(prompts, min(self.options.chunk, limits.tokens - len(decode)), yielding)

        admit = tuple(id for id in chosen if self.tasks[id].view.state == "waiting")
        resume = tuple(id for id in chosen if self.tasks[id].view.state == "preempted")
        swap: Preemption = "swap"
        return Plan(admit, resume, tuple((id, swap) for id in yielding), (), prefill, decode)

    def decodes(self, limits: Limits, yielding: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return one token for each task whose prompt is computed, as far as *limits* go.

        A task that runs alone may produce all that is left of it: an executor that can take several tokens in one step
        makes nobody wait.
        """
        most = min(limits.rows, limits.tokens)
        ids = [id for _, id in self.decoding.first(most + len(yielding)) if id not in yielding][: max(most, 0)]
        if len(ids) == 1 and not self.prefilling:
            return ((ids[0], min(self.most(self.tasks[ids[0]]), limits.tokens)),)
        return tuple([(id, 1) for id in ids])

    def prefills(self, most: int, tokens: int, yielding: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return pieces of at most *most* prompts, in order, of at most *tokens* together.

        Only the first is ever cut: prompts that fit whole share a step, one that does not fit behind others waits for
        a step that it begins, because an executor computes a cut prompt by itself.
        """
        pieces: list[tuple[int, int]] = []
        for id in self.prompts(most + len(yielding)) if most > 0 else ():
            if id in yielding:
                continue
            remaining = self.tasks[id].remaining
            piece = min(remaining, tokens)
            if piece <= 0 or len(pieces) == most or (pieces and piece < remaining):
                break
            pieces.append((id, piece))
            tokens -= piece
        return tuple(pieces)

    def prompts(self, most: int) -> list[int]:
        """Return the next *most* running tasks whose prompts are to be computed, in order."""
        return [id for _, id in self.prefilling.first(most)]

    def placements(self, limits: Limits) -> tuple[list[int], tuple[int, ...]]:
        """Return who gets a place (waiting or preempted), and who yields one.

        A length class without room holds up its own tasks only; a refused task stands where it stood.
        """
        free = limits.free
        heads = (line.first(min(free, room(limits, kind))) for kind, line in self.outside.items() if line)
        chosen = [id for _, id in sorted(chain.from_iterable(heads))[: max(free, 0)]]
        if not self.preemptive:
            return chosen, ()
        yielding: list[int] = []
        for kind, line in self.outside.items():
            taken = sum(self.tasks[id].view.length_class == kind for id in chosen)
            for winner, loser in self._contests(kind, line, taken):
                if not winner[0] < loser[0]:
                    break
                chosen.append(winner[1])
                yielding.append(loser[1])
        return chosen, tuple(yielding)

    def _contests(self, kind: int, line: Line, taken: int) -> list[tuple[Rank, Rank]]:
        """Return who stands next outside beside who would yield first, pair by pair."""
        inside = self.inside.get(kind)
        if not line or not inside:
            return []
        count = min(len(line) - taken, len(inside))
        if count < 1 or not line.first(1, taken)[0][0] < inside.last(1)[0][0]:
            return []
        return list(zip(line.first(count, taken), inside.last(count), strict=True))

    # --- lines

    def waits_in(self, task: TaskView) -> tuple[Line, ...]:
        """Return the lines in which a task stands that has no place."""
        return (self.outside.setdefault(task.length_class, Line()),)

    def _lines_for(self, entry: Entry) -> tuple[Line, ...]:
        state = entry.view.state
        if state == "running":
            inside = self.inside.setdefault(entry.view.length_class, Line())
            if entry.remaining > 0:
                return inside, self.prefilling
            return (inside, self.decoding) if entry.left > 0 else ()
        return self.waits_in(entry.view) if state in ("waiting", "preempted") else ()

    def line_up(self, entry: Entry) -> None:
        """Stand a task in the lines where it belongs."""
        entry.lines = self._lines_for(entry)
        for line in entry.lines:
            line.join(entry.rank)

    def step_out(self, entry: Entry) -> None:
        """Take a task out of its lines."""
        for line in entry.lines:
            line.leave(entry.rank)
        entry.lines = ()


def room(limits: Limits, length_class: int) -> int:
    """Return the free places of a length class; where the executor has no such class, any free place will do."""
    return limits.pools[length_class][1] if length_class < len(limits.pools) else limits.free
