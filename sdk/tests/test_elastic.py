"""Replicas and idle models come and go by the rule, on a virtual clock and over a ledger that is kept here."""

from __future__ import annotations

import math
from collections import deque

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmos import Replicas, Serving
from llmos._elastic import RECHECK, Fleet, Load, Truth, Unload
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.services import Event

RULE = Replicas(most=3, tasks=2.0, grow_after=5.0, shrink_after=60.0)


class World:
    """What the kernel does, as far as a fleet can see it: models of some size, a device, and events, in order."""

    def __init__(self, serving: Serving, sizes: dict[str, int], limit: int = 100) -> None:
        self.fleet, self.sizes, self.limit = Fleet(serving), dict(sizes), limit
        self.loaded: set[str] = set()
        self.tasks: dict[int, str] = {}
        self.broken: set[str] = set()
        self.now, self.count = 0.0, 0
        self.done: list[tuple[float, Load | Unload]] = []
        self.deaf = 0
        """So many events are lost."""

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return sum(self.size(name) for name in self.loaded)

    def size(self, name: str) -> int:
        """Bytes of a model."""
        return self.sizes[name.partition("#")[0]]

    def say(self, event: str, model: str, task: int = 0) -> None:
        """Tell the fleet, or lose it."""
        if self.deaf:
            self.deaf -= 1
        else:
            self.fleet.hear(Event(event, self.now, {"model": model, "task": task}))

    def load(self, name: str) -> bool:
        """Load a model if it is sound and fits."""
        sound = name not in self.broken and self.used + self.size(name) <= self.limit
        if sound:
            self.loaded.add(name)
        self.say("model.loaded" if sound else "model.failed", name)
        return sound

    def unload(self, name: str) -> None:
        """Unload a model, which must be idle."""
        assert name in self.loaded
        assert name not in self.tasks.values()
        self.loaded.remove(name)
        self.say("model.unloaded", name)

    def accept(self, model: str) -> int:
        """Schedule a task on a model, or on the least loaded of its replicas; one that is not loaded is, if it fits."""
        names = self.fleet.shares.get(model, (model,))
        running = deque(self.tasks.values())
        name = min(names, key=lambda one: (one not in self.loaded, running.count(one), one))
        if name not in self.loaded and not self.load(name):
            return 0
        self.count += 1
        self.tasks[self.count] = name
        self.say("task.accepted", name, self.count)
        return self.count

    def end(self, task: int) -> None:
        """End a task."""
        self.say("task.done", self.tasks.pop(task), task)

    def truth(self) -> dict[str, Truth]:
        """What `ListModels` would say."""
        names = {*self.sizes, *self.loaded}
        running = deque(self.tasks.values())
        return {
            name: Truth(name in self.loaded, unfinished=running.count(name), device="cpu", nbytes=self.size(name))
            for name in names
        }

    def settle(self) -> None:
        """Do what is due now."""
        for _ in range(100):
            if self.fleet.due() > self.now:
                return
            self.fleet.sync(self.now, self.truth())
            for action in self.fleet.decide(self.now, self.truth(), {"cpu": self.limit - self.used}):
                self.done.append((self.now, action))
                if isinstance(action, Load):
                    self.load(action.model)
                else:
                    self.unload(action.model)
        raise AssertionError("there is always something more to do, at the same time")

    def advance(self, seconds: float) -> None:
        """Let time pass, and do what is due when it is."""
        until = self.now + seconds
        while (due := self.fleet.due()) <= until:
            self.now = max(self.now, due)
            self.settle()
        self.now = until

    def actions(self) -> list[str]:
        """What was done, and when."""
        return [f"{at:g} {type(action).__name__} {action.model}" for at, action in self.done]


def busy(world: World, count: int) -> list[int]:
    """So many tasks."""
    return [world.accept("m") for _ in range(count)]


def test_grows_and_shrinks() -> None:
    """One replica more after each five seconds of too many tasks, one fewer after each minute of few."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    tasks = busy(world, 7)
    world.advance(20.0)
    assert ["5 Load m#2", "10 Load m#3"] == world.actions()
    assert {"m": ("m", "m#2", "m#3")} == world.fleet.shares

    for task in tasks:
        world.end(task)
    world.advance(300.0)
    assert ["80 Unload m#3", "140 Unload m#2"] == world.actions()[2:]
    assert {} == world.fleet.shares
    assert ("m#2", "m#3") == world.fleet.resting


def test_a_moment_is_not_enough() -> None:
    """A burst that is over in less than `grow_after` changes nothing."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    for _ in range(20):
        tasks = busy(world, 9)
        world.advance(4.9)
        for task in tasks:
            world.end(task)
        world.advance(0.2)

    assert [] == world.actions()


def test_band() -> None:
    """Three tasks are too many for one replica and not few for two: nothing happens after the first change."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    busy(world, 3)
    world.advance(2000.0)

    assert ["5 Load m#2"] == world.actions()


def test_who_leaves_ends_its_tasks() -> None:
    """A replica that goes gets no more tasks, and is there until its last one has ended."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    tasks = busy(world, 5)
    world.advance(6.0)
    last = world.accept("m")
    assert "m#2" == world.tasks[last]
    for task in tasks:
        world.end(task)
    world.advance(100.0)

    assert {} == world.fleet.shares
    assert "m#2" in world.loaded
    world.end(last)
    world.settle()
    assert {"m"} == world.loaded


def test_who_leaves_can_come_back() -> None:
    """When the load returns meanwhile, it is loaded still."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    tasks = busy(world, 5)
    world.advance(6.0)
    world.accept("m")
    for task in tasks:
        world.end(task)
    world.advance(100.0)
    busy(world, 5)
    world.advance(6.0)

    assert {"m": ("m", "m#2")} == world.fleet.shares
    assert ["5 Load m#2"] == world.actions()[:1]
    assert "Unload" not in " ".join(world.actions())


def test_no_room() -> None:
    """One more that does not fit is tried again only when a model has gone, and takes nobody's place."""
    world = World(Serving(replicas={"m": RULE}), {"m": 40, "other": 30}, limit=100)
    world.load("other")
    busy(world, 9)
    world.advance(1000.0)
    assert [] == world.actions()

    world.unload("other")
    world.settle()
    assert ["1000 Load m#2"] == world.actions()
    world.advance(1000.0)
    assert 1 == len(world.done)


def test_broken_replica() -> None:
    """A replica that cannot be loaded is not tried again and again."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    world.broken.add("m#2")
    busy(world, 9)
    world.advance(1000.0)

    assert ["5 Load m#2"] == world.actions()


def test_least() -> None:
    """The least are there from the first task on, and stay."""
    rule = attrs.evolve(RULE, least=2)
    world = World(Serving(replicas={"m": rule}, keep_alive=10.0), {"m": 10})
    world.advance(100.0)
    assert [] == world.actions()
    world.end(world.accept("m"))
    world.advance(1000.0)

    assert ["100 Load m#2"] == world.actions()


def test_keep_alive() -> None:
    """An idle model goes when its time has come, comes back when it is wanted, and its time begins anew each time."""
    world = World(
        Serving(keep_alive=10.0, keep_alives={"long": 50.0, "ever": math.inf}),
        dict.fromkeys("ab", 10) | {"long": 10, "ever": 10},
    )
    for name in ("a", "long", "ever"):
        world.end(world.accept(name))
    world.advance(9.0)
    world.end(world.accept("a"))
    world.advance(100.0)
    assert ["19 Unload a", "50 Unload long"] == world.actions()
    world.end(world.accept("a"))

    assert {"a", "ever"} == world.loaded


def test_busy_models_stay() -> None:
    """A model with a task is not idle, however long the task takes."""
    world = World(Serving(keep_alive=10.0), {"a": 10})
    task = world.accept("a")
    world.advance(1000.0)
    assert [] == world.actions()
    world.end(task)
    world.advance(10.0)

    assert ["1010 Unload a"] == world.actions()


def test_lost_events() -> None:
    """What was not heard is found when the fleet looks again: the model goes all the same, later."""
    world = World(Serving(keep_alive=10.0), {"a": 10})
    task = world.accept("a")
    world.advance(5.0)
    world.deaf = 1
    world.end(task)
    world.advance(2000.0)

    assert ["310 Unload a"] == world.actions()


def test_nothing_heard() -> None:
    """A model goes even if none of its events was heard."""
    world = World(Serving(keep_alive=10.0), {"a": 10})
    world.advance(5.0)
    world.deaf = 3
    world.end(world.accept("a"))
    assert 0 == world.deaf
    world.advance(2000.0)

    assert ["310 Unload a"] == world.actions()


def test_removed_unheard() -> None:
    """A replica that somebody has removed, unheard, is not unloaded again, and is replaced when it is wanted."""
    world = World(Serving(replicas={"m": RULE}), {"m": 10})
    tasks = busy(world, 3)
    world.advance(6.0)
    world.deaf = 1
    world.unload("m#2")
    world.advance(RECHECK)
    world.advance(10.0)

    assert ["5 Load m#2", "310 Load m#2"] == world.actions()
    for task in tasks:
        world.end(task)
    world.advance(1000.0)
    assert {"m"} == world.loaded


def test_refused() -> None:
    """Who is pinned is asked again after its time, not at once."""
    fleet = Fleet(Serving(keep_alive=0.0))
    truth = {"a": Truth(loaded=True, device="cpu", nbytes=1)}
    fleet.sync(0.0, truth)
    (action,) = fleet.decide(0.0, truth, {})
    fleet.refused(action, 0.0)

    assert Unload("a") == action
    assert 1.0 == fleet.due()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"replicas": {"m": {"most": 2}}}, "replicas.m"), ({"keep_alive": math.nan}, "keep_alive"),
        ({"keep_alive": -1.0}, "keep_alive"), ({"keep_alives": {"m": "x"}}, "keep_alives.m"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_rules(wrong: dict[str, object], field: str) -> None:
    """What is no rule is refused with its key."""
    with pytest.raises(InvalidArgument, match=field):
        Serving(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"least": 5}, {"most": 0}, {"tasks": math.nan}, {"tasks": 0.0}, {"grow_after": 0.0}], ids=str
)
def test_wrong_replicas(wrong: dict[str, float]) -> None:
    """Bounds that cross, and numbers that are none, are refused."""
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Replicas(**wrong)  # type: ignore[arg-type]


# --- whatever happens ------------------------------------------------------------------------------------------

LEAST = 1
FAMILY = Replicas(least=LEAST, most=4, tasks=2.0, grow_after=2.0, shrink_after=20.0)


class Anything(RuleBasedStateMachine):
    """Tasks come and end, models fail and are loaded by others, events get lost, and time passes."""

    @initialize(
        sizes=st.fixed_dictionaries({"m": st.integers(1, 60), "n": st.integers(1, 60), "o": st.integers(1, 60)})
    )
    def begin(self, sizes: dict[str, int]) -> None:
        """Models of some sizes, of which two may have replicas."""
        self.world = World(Serving(replicas={"m": FAMILY, "n": FAMILY}, keep_alive=15.0), sizes)

    @rule(model=st.sampled_from("mno"), count=st.integers(1, 12))
    def accept(self, model: str, count: int) -> None:
        """Tasks arrive."""
        for _ in range(count):
            self.world.accept(model)
        self.world.settle()

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data(), all_of_them=st.booleans())
    def end(self, data: st.DataObject, *, all_of_them: bool) -> None:
        """A task ends, or all do."""
        ids = sorted(self.world.tasks)
        for task in ids if all_of_them else [data.draw(st.sampled_from(ids))]:
            self.world.end(task)
        self.world.settle()

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 21.0, 70.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.advance(seconds)

    @rule(name=st.sampled_from(["m", "m#2", "n#2", "o"]))
    def breaks(self, name: str) -> None:
        """A model cannot be loaded any more, or again."""
        self.world.broken ^= {name}

    @rule(count=st.integers(1, 5))
    def lose(self, count: int) -> None:
        """The next events get lost."""
        self.world.deaf = count

    @precondition(lambda self: any(name not in self.world.tasks.values() for name in self.world.loaded))
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """The kernel unloads something idle, to make room for another."""
        idle = sorted(name for name in self.world.loaded if name not in self.world.tasks.values())
        self.world.unload(data.draw(st.sampled_from(idle)))
        self.world.settle()

    @invariant()
    def ledger(self) -> None:
        """The device never holds more than it can, and there are never more replicas than allowed."""
        if hasattr(self, "world"):
            assert self.world.used <= self.world.limit
            for name in ("m", "n"):
                assert len([one for one in self.world.loaded if one.partition("#")[0] == name]) <= FAMILY.most
                assert len(self.world.fleet.shares.get(name, ())) <= FAMILY.most

    @invariant()
    def calm(self) -> None:
        """In no minute are there more loads than replicas and the shrinks that can lie between them."""
        if not hasattr(self, "world"):
            return
        loads = [at for at, action in self.world.done if isinstance(action, Load)]
        failed_or_evicted = 60.0 / FAMILY.grow_after
        for at in loads:
            assert len([other for other in loads if at <= other < at + 60.0]) <= 2 * (FAMILY.most + failed_or_evicted)

    def teardown(self) -> None:
        """When all tasks have ended, the least is left of who has replicas, and nothing of the others."""
        if not hasattr(self, "world"):
            return
        self.world.deaf = 0
        for task in sorted(self.world.tasks):
            self.world.end(task)
        self.world.advance(2000.0)
        assert self.world.loaded <= {f"{name}{number}" for name in "mn" for number in ("", "#2", "#3", "#4")}
        for name in "mn":
            assert len([one for one in self.world.loaded if one.partition("#")[0] == name]) <= LEAST


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, derandomize=True)


def test_adversary_cannot_make_it_thrash() -> None:
    """A load that turns just after each change gets no more than one load per growth and shrink: here 1 a minute."""
    world = World(Serving(replicas={"m": RULE}, keep_alive=3600.0), {"m": 10})
    while world.now < 3600.0:
        tasks = busy(world, 9)
        while len(world.fleet.shares.get("m", ("m",))) == 1:
            world.advance(0.5)
        for task in tasks:
            world.end(task)
        while len(world.fleet.shares.get("m", ("m",))) > 1:
            world.advance(0.5)
    loads = [at for at, action in world.done if isinstance(action, Load)]

    assert len(loads) <= 3600.0 / (RULE.grow_after + RULE.shrink_after) + 1
    assert max(len([one for one in loads if at <= one < at + 60.0]) for at in loads) <= 1
