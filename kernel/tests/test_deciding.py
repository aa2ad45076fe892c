"""What policies and routers are told: the facts of a task that asks to be scheduled, and what happens afterwards."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kernel.tests.rig import (
    FunctionPolicy, Recorder, SchedulerPlugin, build, error, finish, result, serve,
)  # fmt: skip
from llmos.testing import EchoBackend, EchoFaults, FirstCome, VirtualClock, echo_spec
from llmos_kernel import (
    Action, Auto, Candidate, Chunk, Credentials, Decision, Done, Event, Kernel, Limits, Model, ModelSpec, Plan, Policy,
    Router, Task,
)  # fmt: skip
from llmos_kernel.control import UnloadModel
from llmos_kernel.errors import ExecutorCrashed, InvalidArgument, KernelError, Overloaded, PluginFailed, TaskFailed


def generate(prompt: str = "one two three", **fields: Any) -> Task:
    """Return a task for the echo model."""
    return Task("generate", "echo", prompt, **fields)


class Listener(Policy):
    """Allows everything, and remembers what it hears."""

    name = "listener"

    def __init__(self, hears: Callable[[Event], object]) -> None:
        self._hears = hears

    def check(self, action: Action) -> Decision:
        """Allow it."""
        return Decision.ALLOW

    def heard(self, event: Event) -> None:
        """Pass it on."""
        self._hears(event)


class ListeningRouter(Router):
    """Takes the first, and remembers what it hears."""

    name = "first"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Take the first."""
        return candidates[0].spec.name

    def heard(self, event: Event) -> None:
        """Remember it."""
        self.events.append(event)


def test_a_policy_may_say_when_to_try_again() -> None:
    """`Overloaded` from a policy reaches whoever schedules as it is; nothing was accepted."""

    def rule(action: Action) -> Decision:
        if action.name == "schedule":
            raise Overloaded("too much", retry_after=2.5, wait=4.0)
        return Decision.ABSTAIN

    with build(FunctionPolicy(rule)) as kernel:
        process = kernel.attach()
        with pytest.raises(Overloaded) as caught:
            process.schedule(generate())
        process.close()

    assert {"retry_after": 2.5, "wait": 4.0} == caught.value.fields


def test_a_policy_sees_what_a_task_asks_for() -> None:
    """The action names kind, priority, deadline and parameters, and counts what the model and the tenant have to do."""
    asked: list[dict[str, Any]] = []

    def rule(action: Action) -> Decision:
        if action.name == "schedule":
            asked.append(dict(action.detail))
        return Decision.ABSTAIN

    backend, spec = serve(lambda _, task, emit: task.input.wait(20), rows=8)
    release = threading.Event()
    with build(backend, FunctionPolicy(rule), models=(spec,)) as kernel:
        first, second = (kernel.attach(Credentials(name, "acme")) for name in ("ann", "bob"))
        other = kernel.attach(Credentials("eve", "rival"))
        handles = [process.schedule(Task("generate", "fn", release)) for process in (first, second, other)]
        extra = first.schedule(Task("generate", "fn", release, params={"max_tokens": 3}, priority=7, deadline=50.0))
        release.set()
        for process, handle in zip((first, second, other, first), (*handles, extra), strict=True):
            result(process, handle)
        for process in (first, second, other):
            process.close()

    assert [(0, 0), (1, 1), (2, 0), (3, 2)] == [(one["unfinished"], one["tasks"]) for one in asked]
    facts = {name: asked[-1][name] for name in ("kind", "priority", "deadline", "params")}
    assert {"kind": "generate", "priority": 7, "deadline": 50.0, "params": {"max_tokens": 3}} == facts


def test_policies_and_the_router_hear_what_observers_hear() -> None:
    """The three are told the same, in the same order: whose task, which model, how it ended, what it used."""
    told: list[Event] = []
    recorder, router = Recorder(), ListeningRouter()
    with build(EchoBackend(), Listener(told.append), router, recorder, router="first") as kernel:
        process = kernel.attach(Credentials("ann", "acme"))
        result(process, process.schedule(Task("generate", Auto(), "one two")))
        process.close()

    assert recorder.events == told == router.events
    names = [event.name for event in told if event.name.startswith(("task.", "model."))]
    assert ["model.loaded", "task.accepted", "task.done", "model.unloaded"] == names
    (done,) = (event.fields for event in told if event.name == "task.done")
    facts = {name: done[name] for name in ("model", "kind", "tenant", "prompt", "generated", "error")}
    assert {
        "model": "echo", "kind": "generate", "tenant": "acme", "prompt": 2, "generated": 2, "error": "",
    } == facts  # fmt: skip
    assert all(done[name] >= 0 for name in ("queued", "prefill", "decode"))
    steps = [event.fields["prompt"] for event in told if event.name == "step"]
    assert [2, *[0] * (len(steps) - 1)] == steps


def test_they_hear_why_a_task_failed() -> None:
    """A failed task's event names the error's class."""
    told: list[Event] = []
    backend = EchoBackend(faults=EchoFaults(step=RuntimeError("broken")))
    with build(backend, Listener(told.append)) as kernel:
        process = kernel.attach()
        assert isinstance(error(process, process.schedule(generate())), ExecutorCrashed)
        process.close()

    (failed,) = (event.fields for event in told if event.name == "task.failed")
    assert "ExecutorCrashed" == failed["error"]


def test_one_that_does_not_listen_costs_nothing() -> None:
    """While nobody listens, no event is made."""
    with build(FunctionPolicy(lambda action: Decision.ABSTAIN)) as kernel:
        assert not kernel._core.events.enabled


def test_a_listener_that_raises_is_told_no_more() -> None:
    """It goes on deciding, its record says what happened, and the others hear on."""

    def hears(event: Event) -> None:
        raise RuntimeError("deaf")

    recorder = Recorder()
    with build(EchoBackend(), Listener(hears), recorder) as kernel:
        process = kernel.attach()
        result(process, process.schedule(generate()))
        process.close()
        kernel.stop()
        (record,) = (record for record in kernel.plugins.records() if record.key == "policy:listener")

    assert ("failed", True) == (record.state, "deaf" in record.why)
    assert recorder.ended()


def test_models_that_leave_are_told_of() -> None:
    """Unloading is an event, like loading."""
    recorder = Recorder()
    with build(EchoBackend(), recorder) as kernel:
        process = kernel.attach()
        process.alloc(Model("echo")).close()
        kernel._core.allow(process.principal, "control.UnloadModel", "echo")
        UnloadModel("echo").answer(kernel._core, process.principal)
        process.close()

    assert ["echo"] == [event.fields["model"] for event in recorder.events if event.name == "model.unloaded"]


@pytest.mark.parametrize("cost", [float("nan"), -1.0, 1e10, "cheap"])
def test_costs_are_numbers(cost: Any) -> None:
    """A price is a finite number that is not negative, of a model as of a ceiling."""
    with pytest.raises(InvalidArgument, match="cost"):
        ModelSpec(name="x", backend="y", cost=cost)
    with pytest.raises(InvalidArgument, match="cost"):
        Auto(cost=cost)


def test_wishes_are_checked() -> None:
    """Names are lists of names, an affinity is a string."""
    assert ("a", "b") == Auto(models=["a", "b"]).models
    for wrong in ({"models": "a"}, {"avoid": [1]}, {"affinity": 3}):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            Auto(**wrong)


def test_pieces_and_results_are_different() -> None:
    """A piece of output is no result, although both carry output."""
    assert not isinstance(Chunk(1, "x"), Done)
    assert not isinstance(Done(1, "x"), Chunk)
    assert Chunk(1, "x") == pickle.loads(pickle.dumps(Chunk(1, "x")))  # noqa: S301 - our own


@pytest.mark.parametrize("made", [TaskFailed("no", task=3), InvalidArgument.of("x", 1, "more"), Overloaded("later")])
def test_errors_can_be_copied(made: KernelError) -> None:
    """An error survives the way to another process of ours: class, message and fields."""
    copy = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own

    assert (type(made), made.message, made.fields) == (type(copy), copy.message, copy.fields)


def kernel_of(*plugins: object) -> Kernel:
    """Return a kernel for the echo model."""
    return build(*plugins, models=(echo_spec(),))


def test_a_streaming_task_can_be_refused_too() -> None:
    """Streams are refused before they begin; what was accepted before goes on."""
    refuse = False

    def rule(action: Action) -> Decision:
        if refuse and action.name == "schedule":
            raise Overloaded("later", retry_after=1.0)
        return Decision.ABSTAIN

    with kernel_of(FunctionPolicy(rule)) as kernel:
        process = kernel.attach()
        accepted = process.schedule(generate(stream=True))
        refuse = True
        with pytest.raises(Overloaded):
            process.schedule(generate(stream=True))
        chunks, end = finish(process, accepted)
        process.close()

    assert "one two three" == "".join(chunk.text for chunk in chunks)
    assert isinstance(end, Done)


class Wanderer(Router):
    """Chooses what nobody offered."""

    name = "wanderer"

    def __init__(self, choice: object) -> None:
        self._choice = choice

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> Any:
        """Return the choice."""
        return self._choice


@pytest.mark.parametrize("choice", ["absent", "parrot", "plain", None, 7])
def test_a_router_chooses_among_the_candidates(choice: object) -> None:
    """A name that is not a candidate's, an alias or a model of another kind too, is the router's fault."""
    specs = (echo_spec("echo", aliases=("parrot",)), echo_spec("plain", kinds=("embed",)))
    with build(EchoBackend(), Wanderer(choice), router="wanderer", models=specs) as kernel:
        process = kernel.attach()
        with pytest.raises(PluginFailed, match=r"router:wanderer chose .* none of the candidates"):
            process.schedule(Task("generate", Auto(), "x"))
        result(process, process.schedule(generate()))
        process.close()


def test_a_task_knows_its_model() -> None:
    """From the moment it is accepted, also where a router chose."""
    with build(EchoBackend(), ListeningRouter(), router="first") as kernel:
        process = kernel.attach()
        routed, named = (process.schedule(Task("generate", target, "x")) for target in (Auto(), "parrot"))
        result(process, routed)
        result(process, named)
        process.close()

    assert ("echo", "echo") == (routed.model, named.model)


class Ponderer(FirstCome):
    """Takes its time to plan."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan after a while."""
        self._clock.advance(self._seconds)
        return super().plan(now, limits)


@pytest.mark.parametrize(("seconds", "told"), [(0.05, 0), (1.0, 3)])
def test_a_slow_scheduler_is_reported(seconds: float, told: int) -> None:
    """Each time that it takes long, with how long it took; its tasks end nevertheless."""
    clock, recorder = VirtualClock(), Recorder()
    plugin = SchedulerPlugin(Ponderer(clock, seconds))
    with build(EchoBackend(), recorder, plugin, clock=clock, fifo=False) as kernel:
        process = kernel.attach()
        done = result(process, process.schedule(generate("one two")))
        process.close()
    slow = [event.fields for event in recorder.events if event.name == "scheduler.slow"]

    assert "one two" == done.text
    assert told <= len(slow)
    assert bool(told) == bool(slow)
    assert all(("fifo", "echo", True) == (one["plugin"], one["model"], one["seconds"] >= seconds) for one in slow)
