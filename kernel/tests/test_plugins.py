"""The façade: what a chosen plugin must be, and what becomes of one that is not."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from kernel.tests.distributions import Site, temporary_site
from llmos_kernel.api import Task
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import Backend, Footprint, Limits, ModelSpec, Plan, RunExecutor, Scheduler, TaskView
from llmos_kernel.services import Action, Decision, Event, Policy
from llmos_kernel.errors import ConfigError, InvalidArgument, PluginFailed, PluginIncompatible, PluginMissing
from llmos_kernel.hookspecs import HOOKS, hookimpl
from llmos_kernel.loader import PluginRecord
from llmos_kernel.plugins import Plugins

HEADER = "from llmos_kernel.services import *\nfrom llmos_kernel.hookspecs import hookimpl\n"
STORE = """
class S(Store):
    def get(self, key): return None
    def put(self, key, value): pass
    def delete(self, key): pass
    def keys(self, prefix=""): return []
"""
GOOD = f"{HEADER}{STORE}\n@hookimpl\ndef llmos_store(config): return S()\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site-packages folder of the test's own."""
    with temporary_site(tmp_path, monkeypatch) as made:
        yield made


def installed(site: Site, source: str, *, kind: str = "store", **settings: Any) -> Plugins:
    """Return plugins that may use one installed plugin, ``x`` of the distribution acme, with this source."""
    site.install("acme", {f"{kind}:x": "acme_x"}, files={"acme_x.py": source})
    return Plugins(KernelConfig(plugins=("acme",), **settings))


def record_of(plugins: Plugins, key: str = "store:x") -> PluginRecord:
    """Return the record of the plugin *key*."""
    (record,) = [record for record in plugins.records() if record.key == key]
    return record


class MyBackend(Backend):
    """A backend that an embedder wrote."""

    def measure(self, spec: ModelSpec) -> Footprint:
        """Need nothing."""
        return Footprint("none", 0)

    def load(self, spec: ModelSpec) -> RunExecutor:
        """Never called here."""
        raise NotImplementedError


class Idle(Scheduler):
    """A scheduler that plans nothing."""

    def arrived(self, task: TaskView) -> None:
        """Ignore it."""

    def changed(self, task: TaskView) -> None:
        """Ignore it."""

    def charged(self, id: int, prefilled: int, generated: int) -> None:
        """Ignore it."""

    def finished(self, id: int) -> None:
        """Ignore it."""

    def plan(self, now: float, limits: Limits) -> Plan:
        """Plan nothing."""
        return Plan()


class Yes(Policy):
    """A policy that allows."""

    def check(self, action: Action) -> Decision:
        """Allow."""
        return Decision.ALLOW


# --- installed plugins -----------------------------------------------------------------------------------------


def test_only_one_kind(site: Site) -> None:
    """Who asks for one kind is told of no other that is installed, and of every object that was passed."""
    site.install("acme", {"store:x": "bomb", "backend:y": "bomb"})
    config = KernelConfig(plugins=("acme",))
    plugins = Plugins(config, [("mine", MyBackend())], kind="store")

    assert (("x",), ("mine",)) == (plugins.names("store"), plugins.names("backend"))
    assert ("mine", "y") == Plugins(config, [("mine", MyBackend())]).names("backend")


def test_imported_when_chosen_and_made_once(site: Site) -> None:
    """Names and records import nothing; the first choice imports, and every choice returns the same instance."""
    plugins = installed(site, GOOD)

    assert (("x",), "discovered") == (plugins.names("store"), record_of(plugins).state)

    store = plugins.store("x")

    assert store is plugins.store("x")
    assert "active" == record_of(plugins).state


@pytest.mark.parametrize("kind", [kind for kind in HOOKS if kind not in {"observer", "model", "policy", "command"}])
def test_every_kind_checks_what_its_hook_returns(site: Site, kind: str) -> None:
    """A hook that returns something else than its contract is a failure that names both."""
    plugins = installed(site, f"{HEADER}\n@hookimpl\ndef {HOOKS[kind]}(config): return 7\n", kind=kind)

    with pytest.raises(PluginFailed, match=f"{HOOKS[kind]} returned int, and .* is wanted; report it to acme"):
        getattr(plugins, kind)("x")

    assert "failed" == record_of(plugins, f"{kind}:x").state


def test_several_instead_of_one(site: Site) -> None:
    """A list of the right things is not the right thing."""
    plugins = installed(site, f"{HEADER}{STORE}\n@hookimpl\ndef llmos_store(config): return [S()]\n")

    with pytest.raises(PluginFailed, match="returned list, and Store is wanted"):
        plugins.store("x")


def test_command(site: Site) -> None:
    """A command is something that can be called; the kernel knows no more of it."""
    plugins = installed(site, f"{HEADER}\n@hookimpl\ndef llmos_command(): return print\n", kind="command")

    assert print is plugins.command("x")


def test_command_that_cannot_be_called(site: Site) -> None:
    """A command that is no callable is a failure."""
    plugins = installed(site, f"{HEADER}\n@hookimpl\ndef llmos_command(): return 7\n", kind="command")

    with pytest.raises(PluginFailed, match="returned int, and Callable is wanted"):
        plugins.command("x")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("1 / 0", "raised ZeroDivisionError"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("x = 1", "it has no llmos_store; report it to acme"),
        ("@hookimpl\ndef llmos_backend(config): ...", "it has no llmos_store"),
        ("@hookimpl\ndef llmos_stroe(config): ...", "llmos_stroe is no hook; did you mean 'llmos_store'"),
        ("@hookimpl\ndef store(config): ...", "store is no hook; did you mean 'llmos_store'"),
        ("@hookimpl(optionalhook=True)\ndef llmos_shop(config): ...", "llmos_shop is no hook"),
        ("@hookimpl(specname='llmos_storr')\ndef s(config): ...", "llmos_storr is no hook; did you mean 'llmos_store'"),
        ("def llmos_store(config): ...", "llmos_store is not marked with @hookimpl"),
        ("def llmos_stor(config): ...", "llmos_stor is no hook; did you mean"),
        ("@hookimpl\ndef llmos_store(config, colour): ...", "colour"),
        ("@hookimpl(wrapper=True)\ndef llmos_store(config): return (yield)", "llmos_store is a hook wrapper"),
        ("@hookimpl(hookwrapper=True)\ndef llmos_store(config): yield", "llmos_store is a hook wrapper"),
        ("@hookimpl\ndef llmos_store(config): raise OSError('disk')", "llmos_store raised OSError: disk; report it"),
        ("@hookimpl\ndef llmos_store(config): raise SystemExit", "llmos_store raised SystemExit; report it to acme"),
    ],
)
def test_plugin_that_is_wrong(site: Site, source: str, why: str) -> None:
    """Each flaw is a failure with its reason in error and record, told to all who ask, and nothing stays registered."""
    plugins = installed(site, HEADER + source)
    with pytest.raises(PluginFailed, match=why) as caught:
        plugins.store("x")
    with pytest.raises(PluginFailed, match=why):
        plugins.store("x")

    assert ("failed", caught.value.fields["why"]) == (record_of(plugins).state, record_of(plugins).why)
    assert () == plugins.names("store")
    assert [] == plugins._manager.list_name_plugin()


def test_chained_cause(site: Site) -> None:
    """Whoever debugs the plugin finds the original exception."""
    plugins = installed(site, f"{HEADER}\n@hookimpl\ndef llmos_store(config): 1 / 0")

    with pytest.raises(PluginFailed) as caught:
        plugins.store("x")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_helpers_are_no_hooks(site: Site) -> None:
    """What is called ``llmos_`` something and is no function is the plugin's own business."""
    plugins = installed(site, f"{GOOD}\nimport llmos_kernel as llmos_module\nllmos_number = 7")

    assert plugins.store("x") is not None


@pytest.mark.parametrize("api", ["2", "'1'", "True"])
def test_other_version_of_the_contract(site: Site, api: str) -> None:
    """A plugin that states another version, or none that is a whole number, is incompatible, and says why."""
    plugins = installed(site, f"{GOOD}\napi = {api}")

    with pytest.raises(PluginIncompatible, match=f"version {api} of the store contract, and this kernel has version 1"):
        plugins.store("x")

    assert "incompatible" == record_of(plugins).state


def test_missing_dependency(site: Site) -> None:
    """A plugin that needs what is not installed says what to install."""
    plugins = installed(site, "import nowhere")

    with pytest.raises(PluginMissing, match="needs the module nowhere: pip install"):
        plugins.store("x")

    assert "nowhere" == record_of(plugins).needs


def test_wrong_options_are_the_callers(site: Site) -> None:
    """A plugin refuses its options with `ConfigError`, which passes; the plugin stays usable."""
    source = f"{HEADER}{STORE}\nfrom llmos_kernel.errors import ConfigError\n@hookimpl\ndef llmos_store(config):\n"
    source += "    if config['size'] > 3: raise ConfigError('too large')\n    return S()"
    plugins = installed(site, source, options={"store:x": {"size": 4}})

    with pytest.raises(ConfigError, match="too large"):
        plugins.store("x")

    assert ("x",) == plugins.names("store")


def test_two_entry_points_one_object(site: Site) -> None:
    """Each entry point names an object of its own; the second of two that share one fails."""
    site.install("acme", {"store:a": "acme_x", "store:b": "acme_x"}, files={"acme_x.py": GOOD})
    plugins = Plugins(KernelConfig(plugins=("*",)))
    plugins.store("a")

    with pytest.raises(PluginFailed, match="names the same object as store:a"):
        plugins.store("b")


@pytest.mark.parametrize(
    ("settings", "error", "why"),
    [
        ({}, PluginMissing, "the setting plugins does not name it; add 'store:x'"),
        ({"plugins": ("*",), "blocked": ("x",)}, PluginMissing, "the setting blocked names 'x'"),
    ],
)
def test_blocked(site: Site, settings: dict[str, Any], error: type[Exception], why: str) -> None:
    """A plugin that is installed and blocked is missing, with the setting to change."""
    site.install("acme", {"store:x": "acme_x"}, files={"acme_x.py": "raise SystemExit"})

    with pytest.raises(error, match=why):
        Plugins(KernelConfig(**settings)).store("x")


def test_incompatible_distribution(site: Site) -> None:
    """A version gate is told to whoever asks, without an import."""
    site.install("acme", {"store:x": "acme_x"}, requires=["llmos-kernel>=99"], files={"acme_x.py": "raise SystemExit"})

    with pytest.raises(PluginIncompatible, match="requires llmos-kernel>=99"):
        Plugins(KernelConfig(plugins=("acme",))).store("x")


def test_unknown_name(site: Site) -> None:
    """A name that nothing has is missing, with the nearest names."""
    plugins = installed(site, GOOD)

    with pytest.raises(PluginMissing, match=r"no store plugin is called 'xx'; did you mean 'x'\?"):
        plugins.store("xx")
    with pytest.raises(PluginMissing, match="no router plugin is called 'absent-one'"):
        plugins.router("absent-one")


def test_clash_with_an_object(site: Site) -> None:
    """An object of the embedder's does not silently win over an installed plugin of its name: neither is used."""
    site.install("acme", {"backend:mybackend": "acme_x"}, files={"acme_x.py": GOOD})
    plugins = Plugins(KernelConfig(plugins=("*",)), [MyBackend()])

    with pytest.raises(PluginFailed, match=r"claimed twice, by .* of acme 1.0 and .* of the object passed"):
        plugins.backend("mybackend")


def test_loading_waits_for_loading(site: Site) -> None:
    """Two threads that choose one plugin at once get one instance of it."""
    plugins = installed(site, f"{GOOD}\nimport threading\ngate = threading.Barrier(1)")
    start, stores = threading.Barrier(4), []

    def choose() -> None:
        start.wait()
        stores.append(plugins.store("x"))

    threads = [threading.Thread(target=choose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (4, 1) == (len(stores), len(set(map(id, stores))))


# --- objects that the embedder passes --------------------------------------------------------------------------


def test_instance_of_a_contract() -> None:
    """An instance is found under its class's name and returned as it is."""
    mine = MyBackend()

    assert mine is Plugins(KernelConfig(), [mine]).backend("mybackend")


def test_names_of_objects() -> None:
    """A ``name`` attribute wins over the class's name, and a pair over both."""
    mine = MyBackend()
    mine.name = "own"  # type: ignore[attr-defined]

    assert ("given", "own") == Plugins(KernelConfig(), [mine, ("given", MyBackend())]).names("backend")


def test_module() -> None:
    """A module is a plugin by the last part of its name, of every kind that it has a hook of."""
    module = types.ModuleType("some.Where")
    exec(GOOD + "@hookimpl\ndef llmos_backend(config): return 7", vars(module))  # noqa: S102 - a module without a file
    plugins = Plugins(KernelConfig(), [module])

    assert plugins.store("where") is not None
    with pytest.raises(PluginFailed, match="returned int, and Backend is wanted; mend the object"):
        plugins.backend("where")


def test_scheduler_is_new_each_time() -> None:
    """Every executor gets a scheduler of its own."""
    plugins = Plugins(KernelConfig(), [Idle])
    first, second = plugins.scheduler("idle"), plugins.scheduler("idle")

    assert isinstance(first, Idle)
    assert first is not second


@pytest.mark.parametrize("item", [7, Idle(), object, ("name", None)])
def test_what_is_no_plugin(item: object) -> None:
    """Anything else is refused at once, and the error says what to pass."""
    with pytest.raises(InvalidArgument, match="plugins must be an object with @hookimpl methods"):
        Plugins(KernelConfig(), [item])


def test_name_given_twice() -> None:
    """Two objects of one kind and name are refused at once."""
    with pytest.raises(InvalidArgument, match="two plugin objects are called backend:mybackend"):
        Plugins(KernelConfig(), [MyBackend(), MyBackend()])


def test_nothing_is_looked_for_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded kernel with an empty allow-list does not even read what is installed."""
    monkeypatch.setattr("llmos_kernel.loader.survey", None)
    plugins = Plugins(KernelConfig(), [MyBackend()])
    plugins.backend("mybackend")

    assert ((), (), ()) == (plugins.policies(), plugins.observers(), plugins.models())


def test_object_that_raises_when_looked_at() -> None:
    """An attribute that raises is the object's failure, not the caller's."""

    class Sly:
        @property
        def api(self) -> int:
            raise OSError("gone")

        @hookimpl
        def llmos_store(self, config: Mapping[str, Any]) -> object:
            return self

    with pytest.raises(PluginFailed, match="checking it raised OSError: gone; mend the object"):
        Plugins(KernelConfig(), [Sly()]).store("sly")


# --- policies --------------------------------------------------------------------------------------------------


def test_policies_configured_and_given() -> None:
    """All that the configuration names, in its order, then those that the embedder passes; none twice."""
    plugins = Plugins(KernelConfig(policies=("b",)), [("a", Yes()), ("b", Yes())])

    assert ["b", "a"] == [name for name, _ in plugins.policies()]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise OSError", "raised OSError"),
        ("@hookimpl\ndef llmos_policy(config): raise OSError", "llmos_policy raised OSError"),
        ("@hookimpl\ndef llmos_policy(config): return None", "returned NoneType, and Policy is wanted"),
        ("@hookimpl(wrapper=True)\ndef llmos_policy(config): return (yield)", "is a hook wrapper"),
    ],
)
def test_policies_fail_closed(site: Site, source: str, why: str) -> None:
    """One policy that cannot be had refuses them all."""
    plugins = installed(site, HEADER + source, kind="policy", policies=("x",))

    with pytest.raises(PluginFailed, match=why):
        plugins.policies()


def test_absent_policy_fails_closed() -> None:
    """A policy that is not installed refuses too."""
    with pytest.raises(PluginMissing, match="no policy plugin is called 'absent'"):
        Plugins(KernelConfig(policies=("absent",))).policies()


def test_blocked_policy_object_fails_closed() -> None:
    """A policy that the embedder passes and the configuration blocks is a contradiction, not one policy fewer."""
    with pytest.raises(PluginMissing, match="the setting blocked names 'yes'"):
        Plugins(KernelConfig(blocked=("yes",)), [Yes()]).policies()


# --- observers -------------------------------------------------------------------------------------------------


class Watcher:
    """An observer that an embedder wrote."""

    name = "watcher"

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def llmos_event(self, event: Event) -> None:
        """Remember its name."""
        self.seen.append(event.name)


def test_observers_fail_open(site: Site) -> None:
    """Observers that cannot be had are logged and left out; the others are there."""
    site.install("acme", {"observer:bad": "acme_x"}, files={"acme_x.py": "1 / 0"})
    watcher = Watcher()
    with structlog.testing.capture_logs() as logs:
        plugins = Plugins(KernelConfig(plugins=("*",), observers=("bad", "absent")), [watcher])
        ((key, observe),) = plugins.observers()
    observe(Event("step", 0.0, {}))

    assert ("observer:watcher", ["step"]) == (key, watcher.seen)
    assert ["observer:bad", "observer:absent"] == [entry["plugin"] for entry in logs]
    assert "failed" == record_of(plugins, "observer:bad").state


def test_observer_without_argument() -> None:
    """A hook may leave out what it does not need."""
    called: list[bool] = []

    class Bell:
        @hookimpl
        def llmos_event(self) -> None:
            called.append(True)

    ((_, observe),) = Plugins(KernelConfig(), [Bell()]).observers()
    observe(Event("step", 0.0, {}))

    assert [True] == called


class Gauge(Watcher):
    """An observer that a kernel makes for itself, and that measures."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = options

    @hookimpl
    def llmos_metrics(self, accept: str, facts: Mapping[str, Any]) -> tuple[str, bytes]:
        """Return what was asked."""
        return accept, repr((self.options["unit"], facts, self.seen)).encode()


def test_observer_class_is_made_for_each_kernel() -> None:
    """Two kernels in one program have two observers of a class, each with the options that its kernel was given."""
    told = []
    for unit in ("s", "ms"):
        plugins = Plugins(KernelConfig(options={"observer:watcher": {"unit": unit}}), [Gauge])
        ((_, observe),) = plugins.observers()
        observe(Event(unit, 0.0, {}))
        told.append(plugins.metrics("text", {}))

    assert [("text", b"('s', {}, ['s'])"), ("text", b"('ms', {}, ['ms'])")] == told


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), PluginMissing("no", plugin="observer:refusing")])
def test_observer_class_that_cannot_be_made(error: Exception) -> None:
    """An observer that raises while it is made, whatever that is, is left out like any that fails; nobody asks it."""

    def refuse(self: object, options: Mapping[str, Any]) -> None:
        raise error

    with structlog.testing.capture_logs() as logs:
        refusing = type("Refusing", (Gauge,), {"__init__": refuse})
        plugins = Plugins(KernelConfig(), [("refusing", refusing)])
        found = plugins.observers()

    assert () == found
    assert ["observer:refusing"] == [entry["plugin"] for entry in logs]
    assert plugins.metrics("text", {}) is None


# --- models ----------------------------------------------------------------------------------------------------


class Zoo:
    """Models that an embedder brings."""

    def __init__(self, *models: object) -> None:
        self.models = models

    @hookimpl
    def llmos_models(self) -> Iterable[ModelSpec]:
        """Return them one by one."""
        for model in self.models:
            if isinstance(model, Exception):
                raise model
            yield model  # type: ignore[misc]


def spec(name: str) -> ModelSpec:
    """Return a model's specification."""
    return ModelSpec(name=name, backend="echo")


def test_models_installed_and_given(site: Site) -> None:
    """Models come from files, without import, and from objects."""
    site.models("acme", [{"name": "filed", "backend": "echo"}])
    plugins = Plugins(KernelConfig(plugins=("*",)), [Zoo(spec("given"))])
    mine = {model.name for model in plugins.models()}

    assert {"filed", "given"} <= mine
    assert "active" == record_of(plugins, "model:acme").state


@pytest.mark.parametrize("bad", [7, OSError("disk"), ConfigError("options")])
def test_models_are_quarantined(site: Site, bad: object) -> None:
    """A plugin whose list is wrong is logged and brings no model; the others bring theirs."""
    site.models("acme", [{"name": "ok", "backend": "echo"}, {"nome": "bad"}])
    with structlog.testing.capture_logs() as logs:
        plugins = Plugins(KernelConfig(plugins=("acme",)), [Zoo(spec("a"), bad), ("good", Zoo(spec("b")))])
        models = plugins.models()

    assert ["b"] == [model.name for model in models]
    assert ["model:zoo", "model:acme"] == [entry["plugin"] for entry in logs]
    assert "unknown field 'nome'" in record_of(plugins, "model:acme").why


def test_model_claimed_twice() -> None:
    """Two plugins that bring a model of one name are quarantined both, each naming the other."""
    plugins = Plugins(KernelConfig(), [("a", Zoo(spec("m"), spec("n"))), ("b", Zoo(spec("m"))), ("c", Zoo(spec("o")))])
    with structlog.testing.capture_logs():
        models = plugins.models()

    assert ["o"] == [model.name for model in models]
    assert "the model 'm' is claimed twice, by model:a of" in record_of(plugins, "model:b").why


# --- records ---------------------------------------------------------------------------------------------------


def test_check_imports_everything_usable(site: Site) -> None:
    """A check finds what only an import can find, for each plugin by itself."""
    site.install(
        "acme", {"store:bad": "acme_bad", "store:x": "acme_x"}, files={"acme_bad.py": "1 / 0", "acme_x.py": GOOD}
    )
    site.models("pack", "[")
    with structlog.testing.capture_logs():
        states = {record.key: record.state for record in Plugins(KernelConfig(plugins=("acme", "pack"))).check()}

    assert ("failed", "ready", "failed") == (states["store:bad"], states["store:x"], states["model:pack"])


def test_marked_failed_while_in_use() -> None:
    """A plugin that fails in use is not given to anybody again, and the record says why."""
    plugins = Plugins(KernelConfig(), [MyBackend()])
    plugins.backend("mybackend")
    plugins.mark_failed("backend:mybackend", OSError("broke"))

    with pytest.raises(PluginFailed, match="OSError: broke; mend the object"):
        plugins.backend("mybackend")

    plugins.mark_failed("backend:mybackend", "in words")

    assert "in words; mend the object" == record_of(plugins, "backend:mybackend").why


def test_changes_are_told() -> None:
    """Every change of a record is reported once, with the time that loading took."""
    ticks = iter(range(100))
    plugins = Plugins(KernelConfig(), [MyBackend()], now=lambda: float(next(ticks)))
    heard: list[PluginRecord] = []
    plugins.on_change = heard.append
    plugins.backend("mybackend")
    plugins.backend("mybackend")

    assert ["ready", "active"] == [record.state for record in heard]
    assert [1.0, 2.0] == [record.seconds for record in heard]


def test_failure_that_another_thread_waited_for(site: Site) -> None:
    """Who waits for a plugin while it fails gets the same error, without a second attempt."""
    plugins = installed(site, "1 / 0")
    entry = plugins._find("store", "x")
    with pytest.raises(PluginFailed):
        plugins._load(entry)

    with pytest.raises(PluginFailed, match="ZeroDivisionError"):
        plugins._load(entry)


def test_contracts_stay_out_of_the_way() -> None:
    """The parts of the contract that a plugin need not write do nothing."""
    assert {} == MyBackend().doctor()
    assert Task(kind="call").params == {}
