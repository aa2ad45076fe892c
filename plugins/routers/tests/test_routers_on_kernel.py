"""The routers on the real kernel, over echo models; and what becomes of a router that does wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from llmos import Client
from llmos.testing import EchoBackend, EchoFaults, FirstComePlugin, echo_spec
from llmos_kernel import Auto, Kernel, KernelConfig, ModelSpec, Process, Task
from llmos_kernel.errors import ConfigError, InvalidArgument, KernelError, NotFound, PluginFailed, PluginMissing
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Candidate, Event, Router
from plugins.routers.tests.rules import MODULES

each_router = pytest.mark.parametrize("name", MODULES)


class Ears:
    """An observer that says which models served, and when everything was told to everybody."""

    name = "ears"

    def __init__(self) -> None:
        self._ends: SimpleQueue[Event] = SimpleQueue()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Keep the ends of tasks."""
        if event.name in ("task.done", "task.failed"):
            self._ends.put(event)

    def models(self, count: int) -> Counter[str]:
        """Return which models served so many tasks."""
        return Counter(str(self._ends.get(timeout=20.0).fields["model"]) for _ in range(count))


class Place:
    """A kernel with models ``a``, ``b`` and ``shaky``, which fails as `faults` say."""

    def __init__(self, *more: object, **config: Any) -> None:
        self.faults, self.ears = EchoFaults(), Ears()
        shaky, echo = EchoBackend(faults=self.faults), EchoBackend()
        shaky.name = "shaky"
        models = (
            echo_spec("a", languages=("en",), cost=1.0), echo_spec("b", languages=("en", "zh"), cost=2.0),
            echo_spec("shaky", backend="shaky", capabilities=("tools",)),
        )  # fmt: skip
        settings = KernelConfig(**{"models": models, "timeout": 30.0, **config})
        plugins = (shaky, echo, FirstComePlugin(), self.ears, *MODULES.items(), *more)
        self.kernel = Kernel(settings, plugins=plugins)

    @contextmanager
    def process(self) -> Iterator[Process]:
        """A seat at it."""
        with self.kernel, self.kernel.attach() as process:
            yield process


def run(process: Process, text: str = "text", **want: Any) -> Any:
    """Run a task on whatever the router chooses, and return its last event."""
    with process.schedule(Task("generate", Auto(**want), text)) as handle:
        return process.recv(handle).body


@each_router
def test_only_who_will_do(name: str) -> None:
    """A wish is met by the model that has it, whichever router is chosen, and nobody else serves."""
    place = Place(router=name)
    with place.process() as process:
        for _ in range(6):
            assert "text" == run(process, languages=["zh"]).text
        assert Counter(b=6) == place.ears.models(6)
        with pytest.raises(NotFound, match="does not say that it knows the language 'eo'"):
            run(process, languages=["eo"])


@each_router
def test_model_that_fails_is_left_alone(name: str) -> None:
    """After three failures in a row the others serve, until nobody is left who will do."""
    place = Place(router=name)
    with place.process() as process:
        place.faults.step = RuntimeError("bug")
        for _ in range(3):
            assert "ExecutorCrashed" == type(run(process, capabilities=["tools"]).error).__name__
        run(process, models=["a"])  # when this end has been told, the router was told of those before
        place.ears.models(4)
        for _ in range(6):
            assert "text" == run(process).text
        assert "shaky" not in place.ears.models(6)
        with pytest.raises(KernelError, match="try again in") as caught:
            run(process, capabilities=["tools"])
        assert 0.0 < float(str(caught.value.fields["retry_after"])) <= 5.0


@each_router
def test_many_threads(name: str) -> None:
    """Many threads schedule at the same time; every task ends once, with its own text."""
    place, failures = Place(router=name), list[str]()
    with place.process() as process:

        def work(thread: int) -> None:
            for at in range(20):
                text = f"text {thread} {at}"
                said = run(process, text, affinity=str(at % 3)).text
                if said != text:
                    failures.append(f"{text!r} became {said!r}")

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 120 == place.ears.models(120).total()
    assert [] == failures


def test_conversation_stays_where_its_prefix_is() -> None:
    """With ``prefix-affinity``, the turns of a conversation without a context go to one model, all of them."""
    place = Place(router="prefix-affinity", options={"router:prefix-affinity": {"bound": 100.0}})
    with place.kernel, Client(kernel=place.kernel) as client, client.load_model("auto") as model:
        for name in ("a", "b", "shaky"):
            client.load_model(name)
        for number in range(6):
            talk = model.conversation(tokens=0, system=f"You are number {number}.")
            for turn in ("one", "two", "three"):
                assert turn == talk.say(turn)
            assert 1 == len(place.ears.models(3))


# --- bad input -------------------------------------------------------------------------------------------------


def test_unknown_router() -> None:
    """A kernel does not start with a router that is not there, and names the nearest."""
    place = Place(router="least-laoded")
    with pytest.raises(PluginMissing, match="did you mean 'least-loaded'"):
        place.kernel.start()


def test_wrong_option() -> None:
    """Nor with an option that its router does not have."""
    place = Place(router="fastest", options={"router:fastest": {"halflife": 1.0}})
    with pytest.raises(ConfigError, match="half_life"):
        place.kernel.start()


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0, "1"], ids=str)
def test_costs_are_numbers(cost: Any) -> None:
    """A price is a finite number, in a model and in a wish."""
    with pytest.raises(InvalidArgument, match="cost"):
        ModelSpec(name="m", backend="b", cost=cost)
    with pytest.raises(InvalidArgument, match="cost"):
        Auto(cost=cost)


class Wrong(Router):
    """Does what it is told to do wrong."""

    name = "wrong"

    def __init__(self, what: Any) -> None:
        self.what = what

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Raise it or return it."""
        if isinstance(self.what, BaseException):
            raise self.what
        return str(self.what)

    def heard(self, event: Event) -> None:
        """Fail on everything."""
        raise RuntimeError("deaf")


def test_router_that_raises() -> None:
    """Whoever asked gets an error that names the router; the kernel and who names a model are no worse off."""
    place = Place(Wrong(RuntimeError("bug")), router="wrong")
    with place.process() as process:
        for _ in range(2):
            with pytest.raises(PluginFailed, match="router:wrong raised in route: RuntimeError: bug"):
                run(process)
        with process.schedule(Task("generate", "a", "text")) as handle:
            assert "text" == process.recv(handle).body.text


def test_router_that_invents() -> None:
    """A name that nobody has is an error of its own, and no task is accepted."""
    place = Place(Wrong("gpt-7"), router="wrong")
    with place.process() as process:
        with pytest.raises(KernelError, match="gpt-7"):
            run(process)
        with process.schedule(Task("generate", "a", "text")) as handle:
            process.recv(handle)
        assert Counter(a=1) == place.ears.models(1)
