"""When replicas and idle models come and go: a deterministic state machine without clock, thread or kernel.

The rule for replicas is that of Kubernetes' horizontal autoscaler ("Horizontal Pod Autoscaling", Algorithm details):
the number that is wanted is the load over the load that one is to have, within bounds, and a change waits until it has
been wanted for a while, longer for a smaller number than for a larger one.  With *n* replicas, one at a time,

    one more    while  unfinished > tasks * n             for ``grow_after`` seconds
    one fewer   while  unfinished <= tasks * (n - 1) / 2  for ``shrink_after`` seconds

Between the two lies a band in which nothing happens; after a change the load has to cross it to undo the change.
A replica that goes gets no more tasks and is unloaded when its last one has ended.  One more is loaded only into room
that is free: it takes nobody's place.  Where there is none, or its loading failed, nothing is tried until a model has
gone.

What is heard may be incomplete, because events can be dropped: whoever carries the decisions out says what is true,
with `sync`, before each `decide`, at the beginning, and at least every `RECHECK` seconds: the event that a model was
loaded may be one of the lost.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import attrs

from llmos._serving import Replicas, Serving
from llmos_kernel.services import Event

RECHECK = 300.0
"""Seconds after which is looked whether what was heard is still true."""
AGAIN = 1.0
"""Seconds after which a model that was pinned, say, is asked to go again, besides its ``keep_alive``."""
ENDS = ("task.done", "task.failed", "task.cancelled")
HEARD = frozenset((*ENDS, "task.accepted", "model.loaded", "model.failed", "model.unloaded"))
"""Names of the events that matter."""


@attrs.frozen
class Load:
    """Load this model; it may have to be added first."""

    model: str
    of: str
    """Of which model it is a replica."""


@attrs.frozen
class Unload:
    """Unload this model, which is idle."""

    model: str


@attrs.frozen
class Truth:
    """What the kernel says of a model."""

    loaded: bool
    loading: bool = False
    unfinished: int = 0
    contexts: int = 0
    device: str = ""
    nbytes: int = 0
    """What it takes of the device, while it is loaded."""

    @property
    def idle(self) -> bool:
        """Whether it could be unloaded."""
        return self.loaded and not self.unfinished and not self.contexts


@attrs.define
class Family:
    """A model and its replicas."""

    name: str
    rule: Replicas
    loading: str = ""
    """The replica that is on its way."""
    blocked: bool = False
    """There was no room for one more."""
    leaving: set[str] = attrs.field(factory=set)
    """Replicas that get no more tasks."""
    above: float | None = None
    below: float | None = None
    """Since when there have been too many, or few, tasks."""

    @property
    def members(self) -> list[str]:
        """The names that it may have, the model's own first."""
        return [self.name, *(f"{self.name}#{number}" for number in range(2, self.rule.most + 1))]

    def note(self, unfinished: int, active: int, now: float) -> None:
        """Note how the load is."""
        more = active > 0 and (unfinished > self.rule.tasks * active or active < self.rule.least)
        more = more and active < self.rule.most and not self.loading
        fewer = active > max(1, self.rule.least) and unfinished <= self.rule.tasks * (active - 1) / 2
        self.above = (now if self.above is None else self.above) if more else None
        self.below = (now if self.below is None else self.below) if fewer else None

    def due(self, active: int) -> float:
        """Return when it is to grow or to shrink."""
        patience = 0.0 if active < self.rule.least else self.rule.grow_after
        stuck = self.blocked and not self.leaving
        grow = math.inf if self.above is None or stuck else self.above + patience
        shrink = math.inf if self.below is None else self.below + self.rule.shrink_after
        return min(grow, shrink)


class Fleet:
    """All models, as far as it was heard of them.  One thread; `shares` and `resting` may be read by any."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._families = {name: Family(name, rule) for name, rule in serving.replicas.items()}
        self._family_of = {member: family for family in self._families.values() for member in family.members}
        self._tasks: defaultdict[str, set[object]] = defaultdict(set)
        self._idle: dict[str, float] = {}
        """Since when a loaded model has had nothing to do, or was last refused to go."""
        self._loaded: set[str] = set()
        self._checked = -math.inf
        """When it was looked last whether what was heard is true."""
        self.shares: Mapping[str, tuple[str, ...]] = {}
        """The replicas that share the tasks of a model, where there are others than itself."""
        self.resting: tuple[str, ...] = ()
        """Replicas that are to get no tasks."""
        self._publish()

    # --- what happens ------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Take note of an event, one of `HEARD`."""
        model, task = str(event.fields.get("model", "")), event.fields.get("task")
        family = self._family_of.get(model)
        if event.name == "task.accepted":
            self._tasks[model].add(task)
            self._idle.pop(model, None)
        elif event.name in ENDS:
            self._tasks[model].discard(task)
            self._rest(model, event.at)
        elif event.name == "model.loaded":
            self._loaded.add(model)
            self._rest(model, event.at)
        elif event.name == "model.unloaded":
            self._gone(model)
        if family is not None and family.loading == model and event.name in ("model.loaded", "model.failed"):
            family.loading, family.blocked = "", event.name == "model.failed"
        self._look(event.at)

    def sync(self, now: float, truth: Mapping[str, Truth]) -> None:
        """Take note of what is true."""
        for model, facts in truth.items():
            if not facts.unfinished:
                self._tasks[model].clear()  # of each of them we have heard, so it was accepted before, and has ended
            if facts.loaded:
                self._loaded.add(model)
            if facts.idle:
                self._idle.setdefault(model, now)
            else:
                self._idle.pop(model, None)
        for model in [name for name in self._loaded if name not in truth or not truth[name].loaded]:
            self._gone(model)
        for family in self._families.values():
            way = truth.get(family.loading)
            if way is not None and not way.loading:
                family.loading, family.blocked = "", not way.loaded
        self._checked = now
        self._look(now)

    def refused(self, action: Load | Unload, now: float) -> None:
        """*action* could not be carried out: somebody pins the model, for instance."""
        family = self._family_of.get(action.model)
        if isinstance(action, Load) and family is not None:
            family.loading, family.blocked = "", True
        else:
            self._idle[action.model] = now + AGAIN
        if family is not None:
            family.leaving.discard(action.model)
        self._look(now)

    def _rest(self, model: str, now: float) -> None:
        """Note that a model has nothing to do since *now*, or longer: news may be older than what was seen."""
        if model in self._loaded and not self._tasks[model]:
            self._idle[model] = min(self._idle.get(model, now), now)

    def _gone(self, model: str) -> None:
        self._loaded.discard(model)
        self._idle.pop(model, None)
        for family in self._families.values():
            family.leaving.discard(model)
            family.blocked = False

    def _active(self, family: Family) -> list[str]:
        return [name for name in family.members if name in self._loaded and name not in family.leaving]

    def _look(self, now: float) -> None:
        for family in self._families.values():
            unfinished = sum(len(self._tasks[name]) for name in family.members if name in self._tasks)
            family.note(unfinished, len(self._active(family)), now)
        self._publish()

    def _publish(self) -> None:
        """Let other threads see who is to get tasks: whole new values, never changed ones."""
        active = {family.name: tuple(self._active(family)) for family in self._families.values()}
        self.shares = {name: names for name, names in active.items() if names and names != (name,)}
        replicas = [(family.name, one) for family in self._families.values() for one in family.members[1:]]
        self.resting = tuple(one for name, one in replicas if one not in active[name])

    # --- what is to be done ------------------------------------------------------------------------------------

    def due(self) -> float:
        """Return when to `sync` and `decide` next: at first at once, then within `RECHECK` of the last time."""
        times = [family.due(len(self._active(family))) for family in self._families.values()]
        times += [since + self._patience(model) for model, since in self._idle.items()]
        return min([*times, self._checked + RECHECK])

    def _patience(self, model: str) -> float:
        """Return for how many seconds an idle model stays."""
        family = self._family_of.get(model)
        if family is None:
            return self._serving.keeps(model)
        if model in family.leaving:
            return 0.0
        spare = len(self._active(family)) > family.rule.least and model == self._active(family)[-1]
        return self._serving.keeps(family.name) if spare else math.inf

    def decide(self, now: float, truth: Mapping[str, Truth], room: Mapping[str, int]) -> Iterator[Load | Unload]:
        """Yield what is to be done, after a `sync` with the same *truth*; *room* is the free bytes of devices."""
        free = dict(room)
        for family in self._families.values():
            active = self._active(family)
            if family.due(len(active)) > now:
                continue
            if family.below is not None:
                family.leaving.add(active[-1])
                self._rest(active[-1], now)
            elif action := self._grow(family, truth, free):
                yield action
            family.above = family.below = None
        for model in [model for model, since in self._idle.items() if since + self._patience(model) <= now]:
            self._idle.pop(model)
            yield Unload(model)
        self._look(now)

    def _grow(self, family: Family, truth: Mapping[str, Truth], free: dict[str, int]) -> Load | None:
        """Return what makes one more, if something has to be done and there is room for it."""
        if family.leaving:
            family.leaving.discard(min(family.leaving, key=family.members.index))
            return None
        facts = truth[self._active(family)[0]]
        if facts.device != "none" and free.get(facts.device, 0) < facts.nbytes:
            family.blocked = True
            return None
        free[facts.device] = free.get(facts.device, 0) - facts.nbytes
        family.loading = next(name for name in family.members if name not in self._loaded)
        return Load(family.loading, family.name)
