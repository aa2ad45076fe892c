"""What a policy owes, and what everybody owes who hears of events."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llmos.testing.conformance._base import (
    PATIENCE, Conformance, expect, expect_end, expect_type, expect_typed, in_threads, kernel_with, plugin_of, quickest,
)  # fmt: skip
from llmos_kernel.api import Model, Port, Principal, Task
from llmos_kernel.errors import Overloaded, PermissionDenied
from llmos_kernel.services import Action, Decision, Event, Policy

MakePolicy = Callable[[], Policy]

_WHO = Principal(1, "ada", "lab", frozenset({"generate"}))
_TASK = {"task": 7, "model": "echo", "kind": "generate", "tenant": "lab", "trace": ""}
_END = {**_TASK, "prompt": 3, "cached": 0, "generated": 2, "queued": 0.1, "prefill": 0.1, "decode": 0.1}


def actions() -> Iterator[Action]:
    """Yield one action of every sort that the kernel asks policies about."""
    schedule: dict[str, Any] = {"kind": "generate", "priority": 0, "deadline": None, "params": {"max_tokens": 4}}
    yield Action(_WHO, "attach", "kernel")
    yield Action(_WHO, "alloc", "memory", {"nbytes": 4096})
    yield Action(_WHO, "alloc", "port", {"capacity": 4})
    yield Action(_WHO, "alloc", "model:echo", {"pinned": False})
    yield Action(_WHO, "alloc", "context:echo", {"tokens": 64})
    yield Action(_WHO, "alloc", "reply")
    yield Action(_WHO, "schedule", "model:echo", {**schedule, "unfinished": 3, "tasks": 2})
    yield Action(
        _WHO, "schedule", "model:echo", {**schedule, "deadline": 1.5, "params": {}, "unfinished": 0, "tasks": 0}
    )
    yield Action(_WHO, "grant", "port", {"rights": 1})
    yield Action(_WHO, "control.cancel", "cancel:7", {"task": 7})


def events() -> Iterator[Event]:
    """Yield one event of every sort that the kernel tells, as it tells them."""
    yield Event("kernel.started", 1.0, {})
    yield Event("plugin.active", 1.0, {"plugin": "policy:checked", "why": ""})
    yield Event("model.loaded", 1.1, {"model": "echo", "error": ""})
    yield Event("handle.opened", 1.1, {"kind": "port", "index": 3, "rights": 3, "process": 1})
    yield Event("task.accepted", 1.2, {**_TASK, "process": 1})
    yield Event("step", 1.3, {"model": "echo", "rows": 1, "prompt": 3, "seconds": 0.1, "tokens": {7: 1}})
    yield Event("task.preempted", 1.32, _TASK)
    yield Event("task.resumed", 1.34, _TASK)
    yield Event("task.done", 1.4, {**_END, "error": "", "finish": "stop"})
    yield Event("task.failed", 1.5, {**_END, "task": 8, "error": "InvalidArgument", "finish": ""})
    yield Event("task.cancelled", 1.6, {**_END, "task": 9, "error": "Cancelled", "finish": ""})
    yield Event("model.failed", 1.7, {"model": "echo", "error": "no such folder"})
    yield Event("model.unloaded", 1.8, {"model": "echo", "error": ""})
    yield Event("kernel.stopped", 1.9, {"left": ()})


def strange_events() -> Iterator[Event]:
    """Yield events that no kernel of today tells, and known ones that say less than they might."""
    yield Event("something.new", 2.0, {"colour": "red"})
    for event in events():
        yield Event(event.name, event.at, {})
        yield Event(event.name, event.at, {**event.fields, "model": "nobody", "task": 10**9, "error": "NoSuchError"})


class PolicyConformance(Conformance):
    """What every policy owes.  Subclass it, and give it a fixture ``make_policy``.

    The fixture returns a function without arguments that makes a new policy, as ``llmos_policy`` does.
    """

    def test_is_taken(self, make_policy: MakePolicy) -> None:
        """`llmos_policy`: "return a policy": the kernel starts with it, and every call ends, with a result or typed."""
        kernel, refused = kernel_with(plugin_of("policy", make_policy)), (PermissionDenied, Overloaded)
        with kernel, expect_typed("attaching", *refused):
            process = kernel.attach()
            for request in (Port(2), Model("echo")):
                with expect_typed(f"asking for {request}", *refused):
                    process.alloc(request)
            with expect_typed("scheduling a task", *refused):
                expect_end(process, Task("generate", "echo", "a b"))

    def test_decides(self, make_policy: MakePolicy) -> None:
        """`Policy.check`: "Decide."  Every action gets a `Decision`, or `Overloaded`; another exception is a defect."""
        policy = make_policy()
        for action in actions():
            self._decide(policy, action)

    def test_unknown_action(self, make_policy: MakePolicy) -> None:
        """`Action.name`: "``control.<message>``", whatever the message: what a policy does not know it decides too."""
        policy = make_policy()
        self._decide(policy, Action(_WHO, "control.something-new", "something-new:7"))
        self._decide(policy, Action(_WHO, "something-new", "thing"))

    def test_any_thread(self, make_policy: MakePolicy) -> None:
        """`Policy.check`: "Any thread, concurrently": it decides in threads that did not make it, several at once."""
        policy, asked = make_policy(), list(actions())
        alone = _raised(policy, asked)
        found = in_threads(lambda: _raised(policy, asked))
        expect([alone] * len(found), found, "what it raises in other threads")

    def test_answers_quickly(self, make_policy: MakePolicy) -> None:
        """`Policy`: "It must answer quickly": who asks for authority waits for it."""
        policy = make_policy()
        for action in actions():
            spent = quickest(lambda action=action: _raised(policy, [action]))  # type: ignore[misc]
            expect(True, spent <= PATIENCE, f"answering {action.name} within {PATIENCE} s ({spent:.3f} s)")

    def test_leaves_the_question_alone(self, make_policy: MakePolicy) -> None:
        """`Action`: what "a process wants to do" is the same for the policy that is asked next."""
        policy = make_policy()
        for action in actions():
            before = copy.deepcopy(action)
            _raised(policy, [action])
            expect(before, action, "the action after the policy was asked")

    def test_hears_anything(self, make_policy: MakePolicy) -> None:
        """`Policy.heard`: it is told "what observers are told", "without promise"; nothing makes it raise."""
        policy = make_policy()
        for event in (*events(), *strange_events()):
            policy.heard(event)

    def _decide(self, policy: Policy, action: Action) -> None:
        with expect_typed(f"asked about {action}", Overloaded):
            answer: object = policy.check(action)
            expect_type(Decision, answer, f"the answer to {action}")


def _raised(policy: Policy, asked: Iterable[Action]) -> set[str]:
    """Return the names of the exceptions that *policy* raises when it is *asked*, but for `Overloaded`."""
    names = set()
    for action in asked:
        try:
            policy.check(action)
        except Overloaded:
            continue
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            names.add(type(error).__name__)
    return names
