"""The typed face of the plugins: the kernel asks for a scheduler and gets a `Scheduler`, or one typed error.

pluggy keeps the registrations; here is what it leaves open.  A plugin is imported when its name is chosen, registered as
``kind:name``, checked, and then only its own implementation is called: a hook is never broadcast, so a plugin has a say
in nothing that it was not chosen for.  Whatever goes wrong is kept in its record, with the step to take.

    choose -> import -> check the version and every hook -> register -> call its hook -> check what that returned
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pluggy

from llmos_kernel import hookspecs
from llmos_kernel._log import log
from llmos_kernel.clock import SystemClock
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import API, Backend, Event, Exporter, ModelSpec, Policy, Processor, Router, Scheduler, Store
from llmos_kernel.errors import ConfigError, InvalidArgument, KernelError, PluginError, PluginMissing
from llmos_kernel.hookspecs import HOOKS, hookimpl
from llmos_kernel.loader import (
    USABLE,
    PluginRecord,
    contest,
    import_plugin,
    list_models,
    listing,
    nearest,
    report,
    said,
    survey,
)  # fmt: skip

_CONTRACTS: Mapping[str, type] = {
    "backend": Backend, "scheduler": Scheduler, "router": Router, "policy": Policy,
    "processor": Processor, "store": Store, "exporter": Exporter, "model": ModelSpec,
}  # fmt: skip
"""What the hook of a kind must return."""


@attrs.define(eq=False)
class _Entry:
    """One plugin on its way from a record to use."""

    record: PluginRecord
    plugin: object = None
    """The object that holds the hooks, given by the embedder."""
    hook: pluggy.HookImpl | None = None
    """Its implementation, once it is registered."""
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    """Held while the plugin is imported and made, so that two callers do not do it twice."""


class Plugins:
    """The plugins that *config* names, and the *objects* that the embedder passes.  Any thread.

    An object is a module or an instance with ``@hookimpl`` methods, an instance of a contract (`Backend`, `Policy`, ...),
    or the class of one (required for a `Scheduler`: each executor gets its own).  Its name is its ``name`` attribute, or
    its class's name in lower case; a pair ``(name, object)`` gives another.  Passing a policy or an observer switches it
    on.  Raises `InvalidArgument` for an object that is nothing of the kind, and for a name given twice.
    """

    def __init__(
        self, config: KernelConfig, objects: Iterable[object] = (), now: Callable[[], float] = SystemClock.now
    ) -> None:
        self.on_change: Callable[[PluginRecord], object] = lambda record: None
        """Called with every record that changed."""
        self._config, self._now = config, now
        self._lock = threading.RLock()
        self._surveyed = False
        self._made: dict[tuple[str, str], object] = {}
        self._manager = pluggy.PluginManager("llmos")
        self._manager.add_hookspecs(hookspecs)
        self._given = [entry for item in objects for entry in self._entries_of(item)]
        self._entries = list(self._given)
        keys = [entry.record.key for entry in self._given]
        for key in keys:
            if keys.count(key) > 1:
                raise InvalidArgument(f"two plugin objects are called {key}", field="plugins", value=key)

    # --- one by name -------------------------------------------------------------------------------------------

    def backend(self, name: str) -> Backend:
        """Return the backend *name*, always the same one."""
        return cast("Backend", self._once("backend", name))

    def scheduler(self, name: str) -> Scheduler:
        """Return a new scheduler."""
        entry = self._find("scheduler", name)
        with entry.lock:
            return cast("Scheduler", self._make(entry))

    def router(self, name: str) -> Router:
        """Return the router *name*."""
        return cast("Router", self._once("router", name))

    def processor(self, name: str) -> Processor:
        """Return the processor *name*, always the same one."""
        return cast("Processor", self._once("processor", name))

    def store(self, name: str) -> Store:
        """Return the store *name*, always the same one."""
        return cast("Store", self._once("store", name))

    def exporter(self, name: str) -> Exporter:
        """Return the exporter *name*, always the same one."""
        return cast("Exporter", self._once("exporter", name))

    def command(self, name: str) -> Any:  # noqa: ANN401 - a click.Command, which the kernel does not know
        """Return the command *name*."""
        return self._once("command", name)

    # --- all that are configured -------------------------------------------------------------------------------

    def policies(self) -> tuple[tuple[str, Policy], ...]:
        """Return the name and the instance of every policy.  Raises for the first that fails: policies fail closed."""
        names = self._active("policy", self._config.policies)
        return tuple((name, cast("Policy", self._once("policy", name))) for name in names)

    def observers(self) -> tuple[tuple[str, Callable[[Event], object]], ...]:
        """Return the key and the function of every observer.  One that fails is logged and left out."""
        found = []
        for name in self._active("observer", self._config.observers):
            try:
                entry = self._find("observer", name)
                with entry.lock:
                    hook = self._load(entry)
            except PluginError as error:
                log("warning", "observer.failed", plugin=f"observer:{name}", error=str(error))
                continue
            self._change(entry, state="active")
            found.append((entry.record.key, functools.partial(_tell, hook)))
        return tuple(found)

    def models(self) -> tuple[ModelSpec, ...]:
        """Return the models that plugins bring.  A plugin whose list is wrong is logged and left out."""
        listed = [(entry, spec) for entry in self._usable("model") for spec in self._models_of(entry)]
        for name in {spec.name for _, spec in listed}:
            owners = [entry for entry, spec in listed if spec.name == name]
            if len(owners) > 1:
                sources = " and ".join(f"{entry.record.key} of {entry.record.source}" for entry in owners)
                for entry in owners:
                    why = f"the model {name!r} is claimed twice, by {sources}; block one of them"
                    self._quarantine(entry, entry.record.failure(why))
        return tuple(spec for entry, spec in listed if entry.record.state == "active")

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of the usable plugins of *kind*, sorted.  Imports none."""
        return tuple(sorted(entry.record.name for entry in self._usable(kind)))

    def records(self) -> tuple[PluginRecord, ...]:
        """Return what is known of every plugin, installed or given, sorted by distribution, then name.  Imports none."""
        self._survey()
        records = [entry.record for entry in self._entries]
        return tuple(sorted(records, key=lambda record: (record.distribution, record.name, record.kind)))

    def check(self) -> tuple[PluginRecord, ...]:
        """Import and check every usable plugin, as choosing it would, and return the records."""
        self.models()
        for kind in API:
            for entry in self._usable(kind) if kind != "model" else ():
                with contextlib.suppress(PluginError), entry.lock:  # the record says it
                    self._load(entry)
        return self.records()

    def mark_failed(self, key: str, error: object) -> None:
        """Note that the plugin *key* failed while it was in use."""
        why = said(error) if isinstance(error, BaseException) else str(error)
        for entry in self._entries:
            if entry.record.key == key:
                self._change(entry, state="failed", why=why)

    # --- finding -----------------------------------------------------------------------------------------------

    def _entries_of(self, item: object) -> Iterable[_Entry]:
        """Yield an entry per kind of plugin that the given object is."""
        name, plugin = item if isinstance(item, tuple) and len(item) == 2 else ("", item)
        kinds = [kind for kind, hook in HOOKS.items() if self._manager.parse_hookimpl_opts(plugin, hook) is not None]
        cls = plugin if isinstance(plugin, type) else type(plugin)
        name = (
            name or getattr(plugin, "name", "") or getattr(plugin, "__name__", cls.__name__).rpartition(".")[2].lower()
        )
        if not kinds:
            kinds = [kind for kind, contract in _CONTRACTS.items() if issubclass(cls, contract)]
            if len(kinds) != 1 or (isinstance(plugin, Scheduler)):
                expected = "an object with @hookimpl methods, an instance of a contract, or the class of a Scheduler"
                raise InvalidArgument(f"{plugin!r:.80} is no plugin", field="plugins", value=plugin, expected=expected)
            plugin = _offer(plugin, kinds[0])
        for kind in kinds:
            record = PluginRecord(kind, name, f"{cls.__module__}:{cls.__qualname__}", "")
            if setting := listing(self._config.blocked, record.key, name):
                record = attrs.evolve(record, state="blocked", why=f"the setting blocked names {setting!r}")
            yield _Entry(record, plugin)

    def _survey(self) -> None:
        """Add the installed plugins, once."""
        with self._lock:
            if self._surveyed:
                return
            given = [entry.record for entry in self._given]
            records = contest([*given, *survey(self._config)])
            for entry, record in zip(self._given, records, strict=False):
                entry.record = record
            self._entries = [*self._given, *(_Entry(record) for record in records[len(given) :])]
            self._surveyed = True

    def _of(self, kind: str) -> list[_Entry]:
        if self._config.plugins:  # if not, every installed plugin is blocked, and none needs to be looked for
            self._survey()
        return [entry for entry in self._entries if entry.record.kind == kind]

    def _usable(self, kind: str) -> list[_Entry]:
        return [entry for entry in self._of(kind) if entry.record.state in USABLE]

    def _active(self, kind: str, configured: Iterable[str]) -> list[str]:
        given = [entry.record.name for entry in self._given if entry.record.kind == kind]
        return list(dict.fromkeys([*configured, *given]))

    def _find(self, kind: str, name: str) -> _Entry:
        """Return the usable plugin of that name, or raise what is wrong with it."""
        found = [entry for entry in self._usable(kind) if entry.record.name == name]
        if found:
            return found[0]
        self._survey()
        names = {entry.record.name: entry.record for entry in self._of(kind)}
        if name in names:
            raise names[name].error()
        step = nearest(name, names) or "; pip install the distribution that brings it"
        raise PluginMissing(
            f"no {kind} plugin is called {name!r}{step}", plugin=f"{kind}:{name}", nearest=sorted(names)
        )

    # --- loading -----------------------------------------------------------------------------------------------

    def _once(self, kind: str, name: str) -> object:
        made = self._made.get((kind, name))
        if made is None:
            entry = self._find(kind, name)
            with entry.lock:
                made = self._made.get((kind, name))
                if made is None:
                    made = self._made[kind, name] = self._make(entry)
        return made

    def _make(self, entry: _Entry) -> object:
        """Call the plugin's hook and check what it returns."""
        hook, record, started = self._load(entry), entry.record, self._now()
        name, contract = HOOKS[record.kind], _CONTRACTS.get(record.kind)
        try:
            made = _call(hook, config=self._config.options.get(record.key, {}))
            if record.kind == "model":
                made = tuple(made)
        except ConfigError:  # its options are wrong, not the plugin
            raise
        except (Exception, SystemExit) as error:
            raise self._note(entry, record.failure(f"{name} raised {said(error)}; {report(record)}")) from error
        parts = made if isinstance(made, tuple) else (made,)
        if not all(isinstance(part, contract) if contract else callable(part) for part in parts):
            wanted = contract.__name__ if contract else "command"
            why = f"{name} returned {type(made).__name__}, not {wanted}; {report(record)}"
            raise self._note(entry, record.failure(why))
        self._change(entry, state="active", seconds=record.seconds + self._now() - started)
        return made

    def _load(self, entry: _Entry) -> pluggy.HookImpl:
        """Import, check and register the plugin, once; return its implementation of its hook."""
        record, started = entry.record, self._now()
        if record.state not in USABLE:  # it failed while this caller waited for the lock
            raise record.error()
        if entry.hook is None:
            try:
                plugin = import_plugin(record) if entry.plugin is None else entry.plugin
                with self._lock:
                    entry.hook = self._register(record, plugin)
            except PluginError as error:
                raise self._note(entry, error) from error.__cause__
            except (Exception, SystemExit) as error:
                why = f"checking it raised {said(error)}; {report(record)}"
                raise self._note(entry, record.failure(why)) from error
            self._change(entry, state="ready", seconds=self._now() - started)
        return entry.hook

    def _register(self, record: PluginRecord, plugin: object) -> pluggy.HookImpl:
        """Register *plugin* and return its hook, or raise with nothing registered."""
        if flaw := self._flaw(record, plugin):
            raise flaw
        known = self._manager.get_name(plugin)
        if known is not None and record.distribution:
            raise record.failure(f"it names the same object as {known}; each entry point names its own")
        if known is None:  # an object of the embedder's may be plugins of several kinds
            try:
                self._manager.register(plugin, record.key)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise record.failure(f"{error}; {report(record)}") from error
        hooks: list[pluggy.HookImpl] = getattr(self._manager.hook, HOOKS[record.kind]).get_hookimpls()
        return next(hook for hook in hooks if hook.plugin is plugin)

    def _flaw(self, record: PluginRecord, plugin: object) -> PluginError | None:
        """Return what is wrong with the hooks of *plugin* or with the version it states; no ``api`` means 1."""
        api, wanted = getattr(plugin, "api", 1), API[record.kind]
        if not isinstance(api, int) or isinstance(api, bool):
            return record.failure(f"its api is {api!r}, which is no whole number; {report(record)}")
        if api != wanted:
            why = f"it is made for version {api} of the {record.kind} contract, and this kernel has {wanted}"
            return record.failure(f"{why}; install a version made for it", "incompatible")
        found = set()
        for name in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, name)
            hook = (options and options.get("specname")) or name
            if options is None and not (name.startswith("llmos_") and inspect.isroutine(getattr(plugin, name))):
                continue
            if hook not in HOOKS.values():
                return record.failure(f"{hook} is no hook{nearest(hook, HOOKS.values())}; {report(record)}")
            if options is None:
                return record.failure(f"{hook} is not marked with @hookimpl; {report(record)}")
            if options["wrapper"] or options["hookwrapper"]:
                # It could turn a policy's denial into a grant, and there is nothing that it may wrap.
                return record.failure(f"{hook} is a hook wrapper, which no plugin may be; {report(record)}")
            found.add(hook)
        missing = HOOKS[record.kind]
        return None if missing in found else record.failure(f"it has no {missing}; {report(record)}")

    def _models_of(self, entry: _Entry) -> tuple[ModelSpec, ...]:
        with entry.lock:
            try:
                if entry.plugin is not None:
                    return cast("tuple[ModelSpec, ...]", self._make(entry))
                listed = list_models(entry.record)
            except KernelError as error:
                self._quarantine(entry, error)
                return ()
            self._change(entry, state="active")
            return listed

    # --- book-keeping ------------------------------------------------------------------------------------------

    def _quarantine(self, entry: _Entry, error: KernelError) -> None:
        if isinstance(error, PluginError):
            self._note(entry, error)
        log("warning", "plugin.quarantined", plugin=entry.record.key, error=str(error))

    def _note(self, entry: _Entry, error: PluginError) -> PluginError:
        """Keep in the record what *error* says, and let go of the plugin."""
        with self._lock:
            if self._manager.has_plugin(entry.record.key):
                self._manager.unregister(name=entry.record.key)
        self._change(entry, **{key: cast("Any", error.fields[key]) for key in ("state", "why", "needs")})
        return error

    def _change(self, entry: _Entry, **changes: Any) -> None:  # noqa: ANN401 - fields of a record
        entry.record = attrs.evolve(entry.record, **changes)
        self.on_change(entry.record)


def _offer(contract: object, kind: str) -> object:
    """Return a plugin that brings an instance of a contract, or a new one each time of its class."""

    def give(config: Mapping[str, Any]) -> object:
        return contract() if isinstance(contract, type) else contract

    return SimpleNamespace(**{HOOKS[kind]: hookimpl(give)}, api=getattr(contract, "api", 1))


def _call(hook: pluggy.HookImpl, **arguments: object) -> Any:  # noqa: ANN401 - hooks return what they like
    return hook.function(*(arguments[name] for name in hook.argnames))


def _tell(hook: pluggy.HookImpl, event: Event) -> None:
    _call(hook, event=event)
