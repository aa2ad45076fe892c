"""Models that a router chooses, and models that stand in for others, in both forms of the client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest

from llmos import AsyncClient, Auto, Client, Serving, Settings, load_settings
from llmos._settings import routed
from llmos._stream import AsyncStream, Stream
from llmos.testing import EchoBackend, EchoFaults, FirstComePlugin, echo_spec
from llmos.testing.routing import suits
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.errors import (
    ConfigError, ExecutorCrashed, InvalidArgument, ModelUnavailable, NotFound, PluginFailed, PluginMissing,
)  # fmt: skip
from llmos_kernel.services import Candidate, Router

GREETING = "to be or not to be"


class First(Router):
    """The first that will do, by name; it remembers what it was asked."""

    name = "first"

    def __init__(self) -> None:
        self.wants: list[Auto] = []

    def route(self, kind: str, want: Auto, candidates: tuple[Candidate, ...]) -> str:
        """Return the first."""
        self.wants.append(want)
        fit = [one.spec.name for one in candidates if suits(kind, want, one.spec)]
        if not fit:
            raise NotFound(f"no model will do for {want}", field="target", value="auto", nearest=[])
        return min(fit)


class World:
    """A kernel with a model ``big``, which fails as `faults` say, and ``small`` and ``tiny``, which do not."""

    def __init__(self) -> None:
        self.faults = EchoFaults()
        self.shaky, self.echo, self.router = EchoBackend(faults=self.faults), EchoBackend(), First()
        self.shaky.name = "shaky"
        models = (
            echo_spec("big", backend="shaky", languages=("en", "de"), cost=5.0), echo_spec("small", aliases=("s",)),
            echo_spec("tiny"),
        )  # fmt: skip
        config = KernelConfig(models=models, router="first", timeout=30.0)
        self.kernel = Kernel(config, plugins=(self.shaky, self.echo, FirstComePlugin(), self.router))

    def count(self, backend: EchoBackend) -> int:
        """How many tasks a backend was given."""
        return sum(len(executor.tasks) for executor in backend.executors)


@pytest.fixture
def world() -> Iterator[World]:
    """The kernel runs."""
    made = World()
    with made.kernel:
        yield made


Talk = Callable[..., Any]


@pytest.fixture(params=["threads", "asyncio"])
def talk(request: pytest.FixtureRequest, world: World) -> Talk:
    """``talk(load, act)``: load a model with arguments *load* and return ``act(model)``, its coroutine awaited."""

    async def in_loop(load: dict[str, Any], act: Callable[[Any], Any]) -> Any:
        async with AsyncClient(kernel=world.kernel) as client:
            got = act(await client.load_model(**load))
            if inspect.isawaitable(got):
                return await got
            return [piece async for piece in got] if isinstance(got, AsyncStream) else got

    def in_thread(load: dict[str, Any], act: Callable[[Any], Any]) -> Any:
        with Client(kernel=world.kernel) as client:
            got = act(client.load_model(**load))
            return list(got) if isinstance(got, Stream) else got

    if request.param == "threads":
        return in_thread
    return lambda load, act: asyncio.run(in_loop(load, act))


# --- a router chooses ------------------------------------------------------------------------------------------


def test_auto(talk: Talk, world: World) -> None:
    """Each task goes to what the router chooses, which is told where it begins."""
    assert GREETING == talk({"name": "auto"}, lambda model: model.generate_text(GREETING))
    assert [False] == [want.affinity == "" for want in world.router.wants]


def test_what_is_wanted(talk: Talk, world: World) -> None:
    """Wishes reach the router as they are, an affinity of one's own too."""
    want = Auto(languages=["de"], cost=9.0, affinity="mine")

    assert GREETING == talk({"name": want}, lambda model: model.generate_text(GREETING))
    assert [want] == world.router.wants
    assert 1 == world.count(world.shaky)


def test_nothing_will_do(talk: Talk) -> None:
    """The router's error reaches the caller."""
    with pytest.raises(NotFound, match="no model will do"):
        talk({"name": Auto(languages=("eo",))}, lambda model: model.generate_text(GREETING))


def test_text_says_who_answered(talk: Talk) -> None:
    """The kernel says so when it accepts the task, however soon that ends."""
    assert "big" == talk({"name": "auto"}, lambda model: model.generate_text(GREETING)).model


def test_conversation_without_a_context(talk: Talk, world: World) -> None:
    """A router is asked for each turn, with the same word; a context needs a model by name."""

    def say(model: Any) -> Any:
        return model.conversation(tokens=0).say("hello there")

    assert "hello there" == talk({"name": "auto"}, say)
    with pytest.raises(InvalidArgument, match="tokens=0"):
        talk({"name": "auto"}, lambda model: model.conversation())


def test_info_of_auto(talk: Talk) -> None:
    """There is no one model to tell of, and it says so."""
    info = talk({"name": Auto(languages=("de",))}, lambda model: model.info())

    assert ("auto", ("de",), False) == (info.name, info.languages, info.keeps_contexts)


def test_no_router() -> None:
    """Without a router the error says what is missing."""
    config = KernelConfig(models=(echo_spec(),))
    with Kernel(config, plugins=(EchoBackend(), FirstComePlugin())) as kernel, Client(kernel=kernel) as client:
        model = client.load_model("auto")
        with pytest.raises(PluginMissing, match="router"):
            model.generate_text(GREETING)


# --- others stand in -------------------------------------------------------------------------------------------


def chain(*fallbacks: Any) -> dict[str, Any]:
    """Arguments that load ``big`` with these behind it."""
    return {"name": "big", "fallbacks": fallbacks}


def test_fallback(talk: Talk, world: World) -> None:
    """Who fails is replaced, and the text says by whom; who does not is not."""
    assert "big" == talk(chain("small"), lambda model: model.generate_text(GREETING)).model
    world.faults.step = RuntimeError("bug")
    text = talk(chain("s"), lambda model: model.generate_text(GREETING))

    assert (GREETING, "small") == (text, text.model)


def test_fallback_of_many(talk: Talk, world: World) -> None:
    """Answers that are made side by side, and vectors, are replaced one by one."""
    world.faults.prepare = PluginFailed("no", plugin="shaky")
    texts = talk(chain("small"), lambda model: model.generate_text(GREETING, n=3))

    assert [(GREETING, "small")] * 3 == [(text, text.model) for text in texts]
    assert 2 == len(talk(chain("small"), lambda model: model.embed(["a", "b"])))


def test_router_as_fallback(talk: Talk, world: World) -> None:
    """``auto`` in the chain is any other model: what has failed is avoided."""
    world.faults.step = RuntimeError("bug")

    assert GREETING == talk(chain("auto"), lambda model: model.generate_text(GREETING))
    assert [("big",)] == [want.avoid for want in world.router.wants]


def test_fallback_of_a_stream(talk: Talk, world: World) -> None:
    """A stream that fails before its first piece begins anew on the next model."""
    world.faults.step = RuntimeError("bug")

    assert GREETING == "".join(talk(chain("small"), lambda model: model.stream(GREETING)))


def test_no_fallback_after_output(talk: Talk, world: World) -> None:
    """Once something was read there is no second answer: the reader gets the error."""
    world.faults.row = (2, ExecutorCrashed("lost", model="big", cause="bug"))

    with pytest.raises(ExecutorCrashed, match=r"^lost$"):
        talk(chain("small"), lambda model: model.stream(GREETING))
    assert 0 == world.count(world.echo)


def test_fallback_of_several_streams(world: World) -> None:
    """Each of several answers falls back by itself, in threads and in a loop."""
    world.faults.prepare = PluginFailed("no", plugin="shaky")
    with Client(kernel=world.kernel) as client, client.load_model("big", fallbacks=["small"]) as model:
        streams = model.stream(GREETING, n=3)
        assert [(GREETING, "small")] * 3 == [(text, text.model) for text in streams.result()]

    async def read() -> list[str]:
        async with AsyncClient(kernel=world.kernel) as client:
            return list(await (await client.load_model("big", fallbacks=["small"])).stream(GREETING, n=3).result())

    assert [GREETING] * 3 == asyncio.run(read())


def test_all_fail(talk: Talk, world: World) -> None:
    """The last error is raised, and tells what was tried."""
    world.faults.step = world.echo.faults.step = RuntimeError("bug")
    for act in (lambda model: model.generate_text(GREETING), lambda model: model.stream(GREETING)):
        with pytest.raises(ExecutorCrashed, match=r"'big' failed before it: .*'small' failed before it: ") as caught:
            talk(chain("small", "tiny"), act)

        tried: Any = caught.value.fields["tried"]
        assert ["big", "small", "tiny"] == [one["model"] for one in tried]


def test_callers_error_is_not_tried_again(talk: Talk, world: World) -> None:
    """A wrong parameter is as wrong elsewhere."""
    with pytest.raises(InvalidArgument):
        talk(chain("small"), lambda model: model.generate_text(GREETING, max_tokens=0))
    assert 0 == world.count(world.echo)


def test_model_that_cannot_be_loaded(talk: Talk, world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its fallbacks stand in, which is logged; without any it is an error, as ever."""
    world.faults.load = ModelUnavailable("no such file", model="big")

    assert "small" == talk(chain("small"), lambda model: model.generate_text(GREETING)).model
    assert "big could not be loaded" in caplog.text
    with pytest.raises(ModelUnavailable, match="no such file"):
        talk({"name": "big"}, lambda model: model)


@pytest.mark.parametrize("wrong", ["small", 3, [3]], ids=str)
def test_wrong_fallbacks(talk: Talk, wrong: Any) -> None:
    """A string would be a list of letters; an unknown name is found at once, with the nearest."""
    with pytest.raises(InvalidArgument, match="fallbacks"):
        talk({"name": "big", "fallbacks": wrong}, lambda model: model)
    with pytest.raises(NotFound, match="nearest: small"):
        talk(chain("smal"), lambda model: model)


# --- settings --------------------------------------------------------------------------------------------------


def test_fallbacks_from_settings(world: World) -> None:
    """The settings' chain is used where the call names none; an empty one is none."""
    world.faults.step = RuntimeError("bug")
    settings = load_settings(environ={}, fallbacks={"big": ["small"]}, plugins=[])
    config = Settings(kernel=world.kernel.config, serving=settings.serving, home=settings.home)
    plugins = (world.shaky, world.echo, FirstComePlugin(), world.router)
    with Client(config=config, plugins=plugins) as client:
        assert "small" == client.load_model("big").generate_text(GREETING).model
        with pytest.raises(ExecutorCrashed):
            client.load_model("big", fallbacks=()).generate_text(GREETING)


@pytest.mark.parametrize(
    ("wrong", "key"), [({"a": "b"}, "fallbacks.a"), ({"a": ["a"]}, "fallbacks.a"), ([], "fallbacks")], ids=str
)
def test_wrong_settings(wrong: Any, key: str) -> None:
    """What is no chain of other models is refused with its key."""
    with pytest.raises(ConfigError, match=key):
        load_settings(environ={}, fallbacks=wrong)
    with pytest.raises(InvalidArgument, match=key):
        Serving(fallbacks={"a": "b"} if wrong == {"a": "b"} else wrong or 3)


def test_router_of_the_settings_is_optional() -> None:
    """Where no router is installed and none is named, a kernel starts without one."""
    config = KernelConfig(models=(echo_spec(),))
    with Client(
        config=Settings(kernel=config, home=load_settings(environ={}).home), plugins=(EchoBackend(), FirstComePlugin())
    ) as client:
        assert GREETING == client.load_model("echo").generate_text(GREETING)


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        ("auto", {}), (None, {"plugins": ()}), (None, {"plugins": ("backend:onnx",)}), ("auto", {"plugins": ("auto",)}),
        (None, {"blocked": ("llmos-routers",)}), (None, {"blocked": ("router:auto",)}), ("mine", {"router": "mine"}),
    ],
    ids=str,
)  # fmt: skip
def test_router_of_the_standard_set(
    wanted: str | None, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used where none is named, it is installed, and the settings let it be."""
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: name)

    assert wanted == routed(KernelConfig(**{"plugins": ("*",), **changes})).router


def test_router_of_the_standard_set_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not, there is none."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)

    assert routed(KernelConfig(plugins=("*",))).router is None


def test_fallbacks_of_an_alias(world: World) -> None:
    """The settings' chain is the model's, by whatever name it is loaded."""
    settings = load_settings(environ={}, fallbacks={"small": ["tiny"]}, plugins=[])
    config = Settings(kernel=world.kernel.config, serving=settings.serving, home=settings.home)
    world.echo.faults.load = ModelUnavailable("no such file", model="small")
    plugins = (world.shaky, world.echo, FirstComePlugin(), world.router)
    with Client(config=config, plugins=plugins) as client:
        model = client.load_model("s")
        with pytest.raises(ModelUnavailable, match="'small' failed before it"):
            model.generate_text(GREETING)
