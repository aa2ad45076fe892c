"""The supervisor on a running kernel, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from llmos import AsyncClient, Auto, Client, Replicas, Serving, Settings, Supervisor, load_settings
from llmos.testing import EchoBackend, FirstComePlugin, VirtualClock, echo_spec
from llmos.testing.routing import suits
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Action, Candidate, Decision, Event, Policy, Router


class Shortest(Router):
    """The fewest unfinished tasks."""

    name = "shortest"

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return it."""
        return min(
            (one for one in candidates if suits(kind, want, one.spec)), key=lambda one: (one.unfinished, one.spec.name)
        ).spec.name


class Watch:
    """An observer that tests wait with."""

    name = "watch"

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Keep it."""
        self._events.put(event)

    def until(self, name: str, model: str) -> None:
        """Return when that has happened."""
        while (event := self._events.get(timeout=20.0)).name != name or event.fields.get("model") != model:
            pass


class Deny(Policy):
    """Lets the supervisor see nothing."""

    name = "deny"

    def check(self, action: Action) -> Decision:
        """Deny what it asks."""
        asks = action.principal.name == "supervisor" and action.name.startswith("control.")
        return Decision.DENY if asks else Decision.ABSTAIN


class Stage:
    """A supervised kernel with the models ``echo`` and ``other``, 40 bytes each, on a device of *limit* bytes."""

    def __init__(self, serving: Serving, limit: int = 100, *more: object, **config: Any) -> None:
        self.clock, self.echo, self.watch = VirtualClock(), EchoBackend(rows=2), Watch()
        self.supervisor = Supervisor(serving, clock=self.clock)
        models = (echo_spec("echo", nbytes=40, aliases=("e",)), echo_spec("other", nbytes=40))
        self.config = KernelConfig(
            **{"models": models, "router": "shortest", "devices": {"cpu": limit}, "timeout": 3600.0, **config}
        )
        plugins = (self.echo, FirstComePlugin(), Shortest(), self.watch, self.supervisor, *more)
        self.kernel = Kernel(self.config, plugins=plugins, clock=self.clock)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of it."""
        with self.kernel, self.supervisor.watching(self.kernel):
            client = Client(kernel=self.kernel, supervisor=self.supervisor)
            with client:
                yield client


RULE = Replicas(most=3, tasks=2.0, grow_after=5.0, shrink_after=60.0)


def states(client: Client) -> dict[str, str]:
    """Each model's state."""
    return {model.name: model.state for model in client.models()}


def test_idle_models_go_and_come_back() -> None:
    """After `keep_alive` without a task a model is unloaded; the next task brings it back."""
    stage = Stage(Serving(keep_alive=60.0))
    with stage.client() as client, client.load_model("echo") as model:
        assert "hello" == model.generate_text("hello")
        stage.clock.advance(61.0)
        stage.watch.until("model.unloaded", "echo")
        assert "unloaded" == states(client)["echo"]
        assert "again" == model.generate_text("again")
        assert "loaded" == states(client)["echo"]


def test_replicas_share_the_tasks() -> None:
    """Too many tasks make a replica, which is a model like any other and gets its share; few take it away."""
    stage = Stage(Serving(replicas={"echo": RULE}))
    with stage.client() as client, client.load_model("e") as model:
        stage.echo.gate.shut()
        streams = [model.stream(f"text {number}") for number in range(4)]
        stage.clock.advance(6.0)
        stage.watch.until("model.loaded", "echo#2")
        _wait_for_shares(stage, ("echo", "echo#2"))

        assert {"echo": "loaded", "other": "unloaded", "echo#2": "loaded"} == states(client)
        more = [model.stream(f"text {number}") for number in range(4, 8)]
        stage.echo.gate.open()
        assert [f"text {number}" for number in range(8)] == [stream.result() for stream in (*streams, *more)]
        assert {"echo#2"} <= {stream.result().model for stream in more}

        for _ in range(2):
            stage.clock.advance(61.0)
        stage.watch.until("model.unloaded", "echo#2")
        assert "echo" == model.generate_text("alone").model


def test_ledger_is_kept() -> None:
    """A replica that does not fit is not loaded, and no task is worse off for it; other models keep their place."""
    stage = Stage(Serving(replicas={"echo": RULE}), limit=90)
    with stage.client() as client, client.load_model("other"), client.load_model("echo") as model:
        stage.echo.gate.shut()
        streams = [model.stream(f"text {number}") for number in range(6)]
        stage.clock.advance(20.0)
        stage.echo.gate.open()
        assert [f"text {number}" for number in range(6)] == [stream.result() for stream in streams]
        assert {"echo": "loaded", "other": "loaded"} == states(client)


def test_auto_leaves_resting_replicas_alone() -> None:
    """Who asks for any model gets none that is on its way out, and would be loaded for it."""
    stage = Stage(Serving(replicas={"echo": RULE}))
    with stage.client() as client:
        model = client.load_model(Auto(avoid=("other",)))
        model.generate_text("hello")
        client.control("AddModel", echo_spec("echo#2", nbytes=40))
        for _ in range(3):
            model.generate_text("hello")
        assert "unloaded" == states(client)["echo#2"]


def test_asyncio() -> None:
    """The asynchronous client shares the tasks as well."""
    stage = Stage(Serving(replicas={"echo": RULE}))

    async def talk() -> list[str]:
        async with AsyncClient(kernel=stage.kernel, supervisor=stage.supervisor) as client:
            model = await client.load_model("echo")
            stage.echo.gate.shut()
            streams = [model.stream(f"text {number}") for number in range(4)]
            for stream in streams:
                await stream.__aenter__()
            stage.clock.advance(6.0)
            await asyncio.to_thread(_wait_for_shares, stage, ("echo", "echo#2"))
            stage.echo.gate.open()
            return [await stream.result() for stream in (*streams, model.stream("last"))]

    with stage.kernel, stage.supervisor.watching(stage.kernel):
        assert [*(f"text {number}" for number in range(4)), "last"] == asyncio.run(talk())


def test_denied(caplog: pytest.LogCaptureFixture) -> None:
    """A policy may keep the supervisor from looking: it says so and ends, and the models go on."""
    stage = Stage(Serving(keep_alive=1.0), 100, Deny())
    with stage.client() as client:
        assert "hello" == client.load_model("echo").generate_text("hello")
        stage.clock.advance(400.0)
        _ended()
        assert "again" == client.load_model("echo").generate_text("again")
    assert "may not look at models" in caplog.text


def test_what_cannot_be_supervised() -> None:
    """Replicas need a router and a model that is there; both are found at the start."""
    stage = Stage(Serving(replicas={"echo": RULE}), router=None)
    with stage.kernel, pytest.raises(ConfigError, match="router"):
        stage.supervisor.watching(stage.kernel)
    stage = Stage(Serving(replicas={"ehco": RULE}))
    with stage.kernel, pytest.raises(NotFound, match="there is no model 'ehco'"):
        stage.supervisor.watching(stage.kernel)
    with pytest.raises(InvalidArgument, match="supervisor"):
        Client(supervisor=stage.supervisor)


def test_kernel_that_stops_first() -> None:
    """The supervisor ends with its kernel, and is stopped twice without harm."""
    stage = Stage(Serving(keep_alive=1.0))
    with stage.kernel:
        stage.supervisor.watching(stage.kernel)
    stage.supervisor.stop()
    stage.supervisor.stop()

    _ended()


def test_default_kernel_is_supervised_by_its_settings() -> None:
    """Rules in the settings start a supervisor with the default kernel, and it ends with it."""
    serving = Serving(keep_alive=0.001)
    config, watch = KernelConfig(models=(echo_spec(),)), Watch()
    settings = Settings(kernel=config, serving=serving, home=load_settings(environ={}).home)
    with Client(config=settings, plugins=(EchoBackend(), FirstComePlugin(), watch)) as client:
        assert "hello" == client.load_model("echo").generate_text("hello")
        watch.until("model.unloaded", "echo")

    _ended()


def test_rules_in_the_file(tmp_path: Any) -> None:
    """The file has a table per model, and the environment the one number that is for all."""
    file = tmp_path / "llmos.toml"
    file.write_text("keep_alive = 600\n[keep_alives]\nbig = inf\n[replicas.big]\nmost = 2\ntasks = 8\n")
    found = load_settings(file, environ={"LLMOS_KEEP_ALIVE": "60"}).serving

    assert (
        Serving(replicas={"big": Replicas(most=2, tasks=8)}, keep_alive=60.0, keep_alives={"big": float("inf")})
        == found
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[replicas.big]\nmots = 2", "did you mean most"), ("[replicas.big]\nmost = 0", "replicas.big: most"),
        ("[replicas.big]\nleast = 9", "replicas.big: least"), ("keep_alive = nan", "keep_alive"),
        ("replicas = 2", "replicas must be a table"),
    ],
)  # fmt: skip
def test_wrong_rules_in_the_file(tmp_path: Any, text: str, says: str) -> None:
    """Each is one error with the key and the file."""
    file = tmp_path / "llmos.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(file, environ={})

    assert str(file) == caught.value.fields["source"]


def _wait_for_shares(stage: Stage, names: tuple[str, ...]) -> None:
    """Return when the supervisor has heard that the replicas are there: it is told after the observers."""
    for _ in range(10_000):
        if stage.supervisor.fleet.shares.get("echo") == names:
            return
        threading.Event().wait(0.001)
    raise TimeoutError(f"the tasks are shared by {stage.supervisor.fleet.shares}, not by {names}")


def _ended() -> None:
    """The supervisor's thread has ended, or does."""
    for thread in threading.enumerate():
        if thread.name == "llmos-supervisor":
            thread.join(10.0)
            assert not thread.is_alive()
