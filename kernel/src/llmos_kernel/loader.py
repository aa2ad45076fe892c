"""Which plugins there are, and why one cannot be used: a survey of metadata that imports none of them.

An installed distribution announces a plugin as ``name = "module:object"`` in the entry-point group ``llmos.<kind>``.
Every announcement gets one `PluginRecord`, whatever is wrong with it, and each rule applies before any import:

    blocked       the configuration does not name it, or blocks it
    failed        its name is taken, its kind is unknown, its metadata is broken, or it needs what is not installed
    incompatible  it requires other versions than those installed (of the kernel, the SDK, anything)
    discovered    it may be imported when it is chosen

A blocked plugin claims no name: blocking one side settles a clash.  Later `llmos_kernel.plugins` moves a record on to
``ready`` (imported and checked) and ``active`` (in use), or to ``failed``.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs

from llmos_kernel._version import __version__
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import API, ModelSpec
from llmos_kernel.errors import InvalidArgument, PluginError, PluginFailed, PluginIncompatible, PluginMissing

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PluginState = Literal["discovered", "blocked", "incompatible", "failed", "ready", "active"]
USABLE: tuple[PluginState, ...] = ("discovered", "ready", "active")
"""The states of a plugin that may be chosen."""
MODELS_FILE = "models.json"
MODELS_LIMIT = 1_000_000
"""Most bytes of a models file."""
_PREFIX = "llmos."
_VALUE = re.compile(r"\w+(\.\w+)*\s*(:\s*\w+(\.\w+)*\s*)?(\[.*\])?")


@attrs.frozen
class PluginRecord:
    """What is known of one announced plugin."""

    kind: str
    """``backend``, ``scheduler``, ...: the group without ``llmos.``."""
    name: str
    """The name that configurations use."""
    value: str
    """``module:object``; for an object that the embedder passed, its type."""
    distribution: str
    """Who brought it; empty for an object that the embedder passed."""
    version: str = ""
    state: PluginState = "discovered"
    why: str = ""
    """Why it is not usable, and what to do about it."""
    needs: str = ""
    """The requirement that is not installed, if that is why."""
    seconds: float = 0.0
    """How long it took to import and to make."""

    @property
    def key(self) -> str:
        """``kind:name``."""
        return f"{self.kind}:{self.name}"

    @property
    def source(self) -> str:
        """The distribution and its version, in words."""
        return f"{self.distribution} {self.version}".strip() or "the object passed to the kernel"

    def error(self) -> PluginError:
        """Return the error for whoever asks for this plugin although it is not usable."""
        kind: type[PluginError] = PluginFailed
        if self.state == "incompatible":
            kind = PluginIncompatible
        elif self.state == "blocked" or self.needs:
            kind = PluginMissing
        message = f"plugin {self.key} of {self.source} is {self.state}: {self.why}"
        return kind(message, plugin=self.key, state=self.state, why=self.why, needs=self.needs)

    def judged(self, state: PluginState, why: str, needs: str = "") -> PluginRecord:
        """Return the record with a state, and why it has that."""
        return attrs.evolve(self, state=state, why=why, needs=needs)

    def failure(self, why: str, state: PluginState = "failed", needs: str = "") -> PluginError:
        """Return the error for this plugin having failed just now."""
        return self.judged(state, why, needs).error()


def order(record: PluginRecord) -> tuple[str, str, str]:
    """Return the key by which records are sorted: distribution, then name."""
    return record.distribution, record.name, record.kind


def survey(config: KernelConfig, given: Iterable[PluginRecord] = (), kind: str = "") -> list[PluginRecord]:
    """Return the *given* records, then one for every announced plugin, or every one of *kind*, in `order`.

    Imports no plugin.  Those that claim one name are ``failed``, each naming the others.  Nothing that is installed
    makes it raise: a distribution with broken metadata is a record that says so.
    """
    _installed.cache_clear()  # within a survey many plugins need the same; until the next one all may change
    found = sorted((record for dist in _announcing(kind) for record in _records(dist, config, kind)), key=order)
    claims: dict[str, list[PluginRecord]] = {}
    for record in (records := [*given, *found]):
        if record.state != "blocked" and record.kind:  # a blocked plugin claims no name
            claims.setdefault(record.key, []).append(record)
    return [_contested(record, claims.get(record.key, ())) for record in records]


def listing(names: Iterable[str], *keys: str) -> str | None:
    """Return the first of *names*, as a setting spells plugins, that means a plugin with one of *keys*; or None."""
    return next((name for name in names if name == "*" or name in keys or _canonical(name) in keys), None)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'x' or 'y'?`` for the *names* that look like *word*, or nothing."""
    found = difflib.get_close_matches(word, sorted(names), n=3)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def import_plugin(record: PluginRecord) -> Any:  # noqa: ANN401 - a plugin can be any object
    """Import the object that *record* names and return it.

    Raises `PluginMissing` when it needs a module that is not installed, and `PluginFailed` for any other failure, with
    the cause chained.  `KeyboardInterrupt` passes.
    """
    from importlib.metadata import EntryPoint  # noqa: PLC0415 - 40 ms that only kernels with plugins pay

    try:
        return EntryPoint(record.name, record.value, _PREFIX + record.kind).load()
    except (Exception, SystemExit) as error:
        # A module of the plugin's own that is not there is its bug, not something that the user can install.
        if isinstance(error, ModuleNotFoundError) and error.name and _top(error.name) != _top(_module(record.value)):
            needs = _top(error.name)
            why = f"needs the module {needs}: pip install what provides it"
        else:
            needs, why = "", f"importing {record.value} raised {said(error)}; {report(record)}"
        raise record.failure(why, needs=needs) from error


def list_models(record: PluginRecord) -> tuple[ModelSpec, ...]:
    """Return the models of an ``llmos.model`` plugin from the ``models.json`` beside its module, without importing it.

    Raises `PluginFailed` naming the entry and the field, with the cause chained.
    """
    import json  # noqa: PLC0415 - only kernels with models pay

    try:
        folder = _folder(_module(record.value))
        with (folder / MODELS_FILE).open("rb") as file:
            data = file.read(MODELS_LIMIT + 1)
        if len(data) > MODELS_LIMIT:
            raise ValueError(f"{MODELS_FILE} is larger than {MODELS_LIMIT} bytes")
        entries = json.loads(data)
        if not isinstance(entries, list):
            raise TypeError(f"{MODELS_FILE} must be a list of objects")
        return tuple(_model(entry, number, folder, record.distribution) for number, entry in enumerate(entries))
    except Exception as error:
        why = f"its models cannot be listed: {said(error)}; {report(record)}"
        raise record.failure(why) from error


def said(error: BaseException) -> str:
    """Return the class and the message of *error*."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def report(record: PluginRecord) -> str:
    """Return the next step for a plugin's bug."""
    return f"report it to {record.distribution}" if record.distribution else "mend the object"


# --- survey ----------------------------------------------------------------------------------------------------


def _announcing(kind: str) -> Iterator[Distribution]:
    """Yield the installed distributions that announce plugins, each name once: the first on the path, as imports go.

    With a *kind*, at least those that announce one of it.
    """
    # Not metadata.entry_points(): one malformed line, in any distribution at all, makes that raise.
    from importlib import metadata  # noqa: PLC0415 - 40 ms that only kernels with plugins pay

    seen: set[str] = set()
    for dist in metadata.distributions():
        try:
            announces = f"[{_PREFIX}{kind}" in (dist.read_text("entry_points.txt") or "")
        except (OSError, ValueError):  # `_records` meets it again, and says so
            announces = True
        if not announces:
            continue
        name = _header(dist, "Name")
        if not name or _canonical(name) not in seen:
            seen.add(_canonical(name))
            yield (_distribution(name) if name else None) or dist


def _records(dist: Distribution, config: KernelConfig, kind: str) -> Iterator[PluginRecord]:
    name, version = _header(dist, "Name") or "(unnamed)", _header(dist, "Version")
    try:
        points = [point for point in dist.entry_points if re.fullmatch(rf"llmos\.{kind or '.*'}", point.group)]
    except (OSError, ValueError, TypeError) as error:
        why = f"its entry_points.txt cannot be read ({said(error)}); reinstall {name}, or report it to its authors"
        yield PluginRecord("", name, "", name, version, "failed", why)
        return
    for point in points:
        record = PluginRecord(point.group.removeprefix(_PREFIX), point.name, point.value, name, version)
        yield _gate(record, dist, config)


def _header(dist: Distribution, field: str) -> str:
    """Return a field of the metadata, or nothing where the file is missing (a broken uninstallation) or is not text."""
    try:
        return str(cast("Any", dist.metadata).get(field, ""))
    except (OSError, ValueError):
        return ""


def _gate(record: PluginRecord, dist: Distribution, config: KernelConfig) -> PluginRecord:
    """Return *record* with the state that the configuration and its metadata give it."""
    keys = (record.key, record.name, _canonical(record.distribution))
    if setting := listing(config.blocked, *keys):
        return record.judged("blocked", f"the setting blocked names {setting!r}; remove it there to use the plugin")
    if not listing(config.plugins, *keys):
        why = f"the setting plugins does not name it; add {record.key!r} there to use the plugin"
        return record.judged("blocked", why)
    if record.kind not in API:
        why = f"{record.kind!r} is no kind of plugin{nearest(record.kind, API)}; {report(record)}"
        return record.judged("failed", why)
    if _VALUE.fullmatch(record.value) is None:
        return record.judged("failed", f"{record.value!r} is not of the form module:object; {report(record)}")
    try:
        return _judge(record, dist.requires or ())
    except ValueError as error:  # InvalidRequirement, InvalidVersion and the errors of markers are all ValueErrors
        return record.judged("failed", f"its requirements cannot be read ({said(error)}); {report(record)}")


def _judge(record: PluginRecord, requires: Iterable[str]) -> PluginRecord:
    """Return what the requirements that hold here make of *record*."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - 30 ms that only kernels with plugins pay

    extras = ["", *re.findall(r"[\w.-]+", record.value.partition("[")[2])]
    for requirement in map(Requirement, requires):
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        installed, wanted = _installed(requirement.name), str(requirement).partition(";")[0].strip()
        if installed is None:
            why = f"needs {wanted}, which is not installed: pip install '{wanted}'"
            return record.judged("failed", why, wanted)
        if not requirement.specifier.contains(installed, prereleases=True):
            step = f"install a version of {record.distribution} made for it"
            return record.judged("incompatible", f"requires {wanted}, and {installed} is installed; {step}")
    return record


def _contested(record: PluginRecord, claims: Iterable[PluginRecord]) -> PluginRecord:
    others = [f"{claim.value} of {claim.source}" for claim in claims if claim is not record]
    if record.state == "blocked" or not others:
        return record
    why = f"the name {record.key} is claimed twice, by {record.value} of {record.source} and {' and '.join(others)}; "
    return record.judged("failed", f"{why}none is used: uninstall one, or name its distribution in the setting blocked")


@functools.cache
def _installed(name: str) -> str | None:
    """Return the installed version of the distribution *name*, or None."""
    if _canonical(name) == "llmos-kernel":
        return __version__  # what runs, whatever the metadata of an editable installation remembers
    dist = _distribution(name)
    return (_header(dist, "Version") or None) if dist else None


def _distribution(name: str) -> Distribution | None:
    from importlib import metadata  # noqa: PLC0415 - already imported by the survey

    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _canonical(name: str) -> str:
    """Return the name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _module(value: str) -> str:
    """Return the module that an entry point's value names."""
    return re.split(r"[:\[]", value)[0].strip()


def _top(module: str) -> str:
    return module.partition(".")[0]


# --- models ----------------------------------------------------------------------------------------------------


def _folder(module: str) -> Path:
    """Return the folder of *module* without importing it: `find_spec` of a dotted name would import its parents."""
    from importlib.util import find_spec  # noqa: PLC0415 - only kernels with models pay

    top, *rest = module.split(".")
    spec = find_spec(top)
    place = Path(spec.origin).parent.joinpath(*rest) if spec is not None and spec.origin else None
    if spec is None or place is None or not (place.is_dir() or place.with_suffix(".py").is_file()):
        raise ModuleNotFoundError(f"there is no module {module}", name=module)
    if not (rest or spec.submodule_search_locations):
        raise ValueError(f"{module} is no package: the models file beside it would be anybody's")
    return place if place.is_dir() else place.parent


def _model(entry: object, number: int, folder: Path, distribution: str) -> ModelSpec:
    where = f"{MODELS_FILE}[{number}]"
    if not isinstance(entry, dict):
        raise InvalidArgument(f"{where} must be an object, not {type(entry).__name__}", field=where)
    known = attrs.fields_dict(ModelSpec)
    for field in entry:
        if field not in known:
            message = f"{where} has an unknown field {field!r}{nearest(field, known)}"
            raise InvalidArgument(message, field=field, value=entry[field], expected=sorted(known))
    try:
        spec = ModelSpec(**{"name": "", "backend": "", **entry, "distribution": distribution})
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error.message}", **error.fields) from error
    return attrs.evolve(spec, path=_inside(folder, spec.path)) if spec.path else spec


def _inside(folder: Path, path: str) -> str:
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        message = f"path {path!r} leaves the package"
        raise InvalidArgument(message, field="path", value=path, expected="a path inside the package")
    return str(found)
