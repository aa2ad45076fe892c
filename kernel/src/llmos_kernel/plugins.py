"""The typed face of the plugins: the kernel asks for a scheduler and gets a `Scheduler`, or one typed error.

pluggy keeps the registrations; here is what it leaves open.  A plugin is imported when its name is chosen, checked,
registered as ``kind:name``, and then only its own implementation is called: a hook is never broadcast, so a plugin has
a say in nothing that it was not chosen for.  Whatever goes wrong is kept in its record, with the step to take.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pluggy

from llmos_kernel import hookspecs, loader
from llmos_kernel._log import log
from llmos_kernel.clock import SystemClock
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import API, Backend, ModelSpec, Scheduler
from llmos_kernel.services import Event, Exporter, Policy, Processor, Router, Store
from llmos_kernel.errors import ConfigError, InvalidArgument, PluginError, PluginMissing
from llmos_kernel.hookspecs import HOOKS, hookimpl
from llmos_kernel.loader import USABLE, PluginRecord, nearest, order, report, said

_CONTRACTS: Mapping[str, type] = {
    "backend": Backend, "scheduler": Scheduler, "router": Router, "policy": Policy, "processor": Processor,
    "store": Store, "exporter": Exporter,
}  # fmt: skip
"""What an embedder may pass as it is."""
_RETURNS: Mapping[str, Any] = {**_CONTRACTS, "command": Callable, "model": ModelSpec}
"""What the hook of a kind must return, or, of models, return several of."""


@attrs.define(eq=False)
class _Entry:
    """One plugin on its way from a record to use."""

    record: PluginRecord
    given: object = None
    """The object, if the embedder passed it."""
    hook: pluggy.HookImpl | None = None
    """Its implementation, once it is registered."""
    made: Any = None
    """What the hook returned, for kinds of which there is one instance."""
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    """Held while the plugin is imported and made, so that two callers do not do it twice."""


class Plugins:
    """The plugins that *config* names, and the *objects* that the embedder passes.  Any thread.

    An object is a module or an instance with ``@hookimpl`` methods, an instance of a contract (`Backend`, `Policy`,
    ...), or the class of one (required for a `Scheduler`: each executor gets its own).  Its name is its ``name``
    attribute, or its class's name in lower case; a pair ``(name, object)`` gives another.  Passing a policy or an
    observer switches it on.  Raises `InvalidArgument` for an object that is none of this, and for a name given twice.

    With a *kind*, only that kind of plugin is looked for among those that are installed, which takes less time.

    Every method that takes a name raises `PluginMissing`, `PluginIncompatible` or `PluginFailed`, with the reason that
    the plugin's record gives; `ConfigError` passes, because the plugin's options are the caller's to mend.
    """

    def __init__(
        self, config: KernelConfig, objects: Iterable[object] = (), now: Callable[[], float] = SystemClock.now,
        kind: str = "",
    ) -> None:  # fmt: skip
        self.on_change: Callable[[PluginRecord], object] = lambda _: None
        """Called with every record that changed."""
        self._config, self._now, self._kind = config, now, kind
        self._lock, self._surveyed = threading.RLock(), False
        self._manager = pluggy.PluginManager("llmos")
        self._manager.add_hookspecs(hookspecs)
        self._entries = [entry for item in objects for entry in self._entries_of(item)]
        keys = [entry.record.key for entry in self._entries]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise InvalidArgument(f"two plugin objects are called {min(twice)}", field="plugins", value=min(twice))

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
        """Return the router *name*, always the same one."""
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

    # --- all that are active -----------------------------------------------------------------------------------

    def policies(self) -> tuple[tuple[str, Policy], ...]:
        """Return the name and the instance of every policy.  Raises for the first that fails: policies fail closed."""
        names = self._active("policy", self._config.policies)
        return tuple((name, cast("Policy", self._once("policy", name))) for name in names)

    def observers(self) -> tuple[tuple[str, Callable[[Event], object]], ...]:
        """Return the key and the function of every observer.  One that fails is logged and left out."""
        found: list[tuple[str, Callable[[Event], object]]] = []
        for name in self._active("observer", self._config.observers):
            with self._left_out("observer", name):
                entry = self._find("observer", name)
                found.append((entry.record.key, functools.partial(_tell, self._load(entry))))
                self._change(entry, state="active")
        return tuple(found)

    def metrics(self, accept: str, facts: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a content type and bytes, or None
        """Return what the first of the observers that measure says."""
        return self._manager.hook.llmos_metrics(accept=accept, facts=facts)

    def models(self) -> tuple[ModelSpec, ...]:
        """Return the models that plugins bring.  A plugin whose list is wrong is logged and left out, all of it."""
        listed: dict[str, list[tuple[_Entry, ModelSpec]]] = {}
        for entry in self._usable("model"):
            with self._left_out("model", entry.record.name), entry.lock:
                for spec in loader.list_models(entry.record) if entry.given is None else self._make(entry):
                    listed.setdefault(spec.name, []).append((entry, spec))
                self._change(entry, state="active")
        for name, claims in listed.items():
            sources = " and ".join(f"{entry.record.key} of {entry.record.source}" for entry, _ in claims)
            for entry, _ in claims if len(claims) > 1 else ():
                with self._left_out("model", entry.record.name):
                    raise entry.record.failure(f"the model {name!r} is claimed twice, by {sources}; block one of them")
        return tuple(spec for claims in listed.values() for entry, spec in claims if entry.record.state == "active")

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of the usable plugins of *kind*, sorted.  Imports none."""
        return tuple(sorted(entry.record.name for entry in self._usable(kind)))

    def records(self) -> tuple[PluginRecord, ...]:
        """Return what is known of every plugin, sorted by distribution, then name.  Imports none."""
        self._survey()
        return tuple(sorted((entry.record for entry in self._entries), key=order))

    def check(self) -> tuple[PluginRecord, ...]:
        """Import and check every usable plugin, as choosing it would, and return the records."""
        self.models()
        for entry in [entry for kind in API if kind != "model" for entry in self._usable(kind)]:
            with contextlib.suppress(PluginError):  # the record says it
                self._load(entry)
        return self.records()

    def mark_failed(self, key: str, error: object) -> None:
        """Note that the plugin *key* failed while it was in use; nobody gets it again."""
        why = said(error) if isinstance(error, BaseException) else str(error)
        for entry in [entry for entry in self._entries if entry.record.key == key]:
            self._note(entry, entry.record.failure(f"{why}; {report(entry.record)}"))

    # --- finding -----------------------------------------------------------------------------------------------

    def _entries_of(self, item: object) -> Iterator[_Entry]:
        """Yield an entry per kind of plugin that the given object is."""
        name, plugin = item if isinstance(item, tuple) and len(item) == 2 else ("", item)
        kinds = [kind for kind, hook in HOOKS.items() if self._manager.parse_hookimpl_opts(plugin, hook) is not None]
        cls = plugin if isinstance(plugin, type) else type(plugin)
        default = getattr(plugin, "__name__", cls.__name__).rpartition(".")[2].lower()
        name = name or getattr(plugin, "name", "") or default
        if not kinds:
            kinds = [kind for kind, contract in _CONTRACTS.items() if issubclass(cls, contract)]
            if len(kinds) != 1 or isinstance(plugin, Scheduler):
                expected = "an object with @hookimpl methods, an instance of a contract, or the class of a Scheduler"
                raise InvalidArgument.of("plugins", plugin, expected)
            plugin = _offer(plugin, kinds[0])
        for kind in kinds:
            record = PluginRecord(kind, name, f"{cls.__module__}:{cls.__qualname__}", "")
            if setting := loader.listing(self._config.blocked, record.key, name):
                record = attrs.evolve(record, state="blocked", why=f"the setting blocked names {setting!r}")
            yield _Entry(record, plugin)

    def _survey(self) -> None:
        """Add the installed plugins, once."""
        with self._lock:
            if not self._surveyed:
                records = loader.survey(self._config, [entry.record for entry in self._entries], self._kind)
                for entry, record in zip(self._entries, records, strict=False):
                    entry.record = record
                self._entries = [*self._entries, *map(_Entry, records[len(self._entries) :])]
                self._surveyed = True

    def _usable(self, kind: str) -> list[_Entry]:
        if self._config.plugins:  # if not, every installed plugin is blocked, and none needs to be looked for
            self._survey()
        return [entry for entry in self._entries if entry.record.kind == kind and entry.record.state in USABLE]

    def _active(self, kind: str, configured: Iterable[str]) -> list[str]:
        given = [one.record.name for one in self._entries if one.record.kind == kind and one.given is not None]
        return list(dict.fromkeys([*configured, *given]))

    def _find(self, kind: str, name: str) -> _Entry:
        """Return the usable plugin of that name, or raise what is wrong with it."""
        for entry in self._usable(kind):
            if entry.record.name == name:
                return entry
        names = {record.name: record for record in self.records() if record.kind == kind}
        if name in names:
            raise names[name].error()
        message = f"no {kind} plugin is called {name!r}{nearest(name, names) or '; is it installed?'}"
        raise PluginMissing(message, plugin=f"{kind}:{name}", installed=sorted(names))

    # --- loading -----------------------------------------------------------------------------------------------

    def _once(self, kind: str, name: str) -> object:
        entry = self._find(kind, name)
        with entry.lock:
            if entry.made is None:
                entry.made = self._make(entry)
            return entry.made

    def _make(self, entry: _Entry) -> Any:  # noqa: ANN401 - what the hook returns, checked
        """Call the plugin's hook and check what it returns."""
        hook, record, started = self._load(entry), entry.record, self._now()
        name, wanted = HOOKS[record.kind], _RETURNS[record.kind]
        try:
            made = _call(hook, config=self._config.options.get(record.key, {}))
            parts = list(made) if record.kind == "model" else [made]
        except (Exception, SystemExit) as error:
            if isinstance(error, ConfigError) and record.kind != "model":  # models have no options that could be wrong
                raise
            raise self._note(entry, record.failure(f"{name} raised {said(error)}; {report(record)}")) from error
        if not all(isinstance(part, wanted) for part in parts):
            kinds = ", ".join(sorted({type(part).__name__ for part in parts}))
            why = f"{name} returned {kinds}, and {wanted.__name__} is wanted; {report(record)}"
            raise self._note(entry, record.failure(why))
        self._change(entry, state="active", seconds=record.seconds + self._now() - started)
        return parts if record.kind == "model" else made

    def _load(self, entry: _Entry) -> pluggy.HookImpl:
        """Import, check and register the plugin, once; return its implementation of its hook."""
        with entry.lock:
            record, started = entry.record, self._now()
            if record.state not in USABLE:  # it failed while this caller waited for the lock
                raise record.error()
            if entry.hook is None:
                try:
                    plugin = loader.import_plugin(record) if entry.given is None else entry.given
                    if record.kind == "observer" and isinstance(plugin, type):
                        plugin = plugin(self._config.options.get(record.key, {}))
                    with self._lock:
                        entry.hook = self._register(record, plugin)
                except (Exception, SystemExit) as error:
                    if isinstance(error, PluginError) and "state" in error.fields:
                        self._note(entry, error)
                        raise
                    why = f"checking it raised {said(error)}; {report(record)}"
                    raise self._note(entry, record.failure(why)) from error
                self._change(entry, state="ready", seconds=self._now() - started)
            return entry.hook

    def _register(self, record: PluginRecord, plugin: object) -> pluggy.HookImpl:
        """Register *plugin* and return its hook, or raise."""
        api, wanted = getattr(plugin, "api", 1), API[record.kind]  # who states none was there before there were two
        if type(api) is not int or api != wanted:
            why = f"it is made for version {api!r} of the {record.kind} contract, and this kernel has version {wanted}"
            raise record.failure(f"{why}; install a version made for it", "incompatible")
        if HOOKS[record.kind] not in {self._hook_of(record, plugin, name) for name in dir(plugin)}:
            raise record.failure(f"it has no {HOOKS[record.kind]}; {report(record)}")
        known = self._manager.get_name(plugin)
        if known is not None and record.distribution:
            raise record.failure(f"it names the same object as {known}; each entry point names its own")
        if known is None:  # an object of the embedder's may be plugins of several kinds
            try:
                self._manager.register(plugin, record.key)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise record.failure(f"{error}; {report(record)}") from error
        found: list[pluggy.HookImpl] = getattr(self._manager.hook, HOOKS[record.kind]).get_hookimpls()
        return next(hook for hook in found if hook.plugin is plugin)

    def _hook_of(self, record: PluginRecord, plugin: object, name: str) -> str:
        """Return the hook that an attribute of *plugin* implements, if any; raise if it only seems to."""
        options = self._manager.parse_hookimpl_opts(plugin, name)
        if options is None and not (name.startswith("llmos_") and inspect.isroutine(getattr(plugin, name))):
            return ""
        hook = (options and options.get("specname")) or name
        if hook not in (*HOOKS.values(), "llmos_metrics"):
            raise record.failure(f"{hook} is no hook{nearest(hook, HOOKS.values())}; {report(record)}")
        if options is None:
            raise record.failure(f"{hook} is not marked with @hookimpl; {report(record)}")
        if options["wrapper"] or options["hookwrapper"]:
            # It could turn a policy's denial into a grant, and there is nothing that it may wrap.
            raise record.failure(f"{hook} is a hook wrapper, which no plugin may be; {report(record)}")
        return hook

    # --- book-keeping ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _left_out(self, kind: str, name: str) -> Iterator[None]:
        """Log what is wrong with this plugin, and go on without it."""
        try:
            yield
        except PluginError as error:
            for entry in self._usable(kind):
                if entry.record.name == name:
                    self._note(entry, error)
            log("warning", "plugin.left_out", plugin=f"{kind}:{name}", error=str(error))

    def _note(self, entry: _Entry, error: PluginError) -> PluginError:
        """Keep in the record what *error* says, and let go of the plugin."""
        record = entry.record
        with self._lock:
            entry.made = None
            if self._manager.has_plugin(record.key):
                self._manager.unregister(name=record.key)
        self._change(entry, **{key: error.fields[key] for key in ("state", "why", "needs")})
        return error

    def _change(self, entry: _Entry, **changes: Any) -> None:  # noqa: ANN401 - fields of a record
        record, entry.record = entry.record, attrs.evolve(entry.record, **changes)
        if entry.record != record:
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
