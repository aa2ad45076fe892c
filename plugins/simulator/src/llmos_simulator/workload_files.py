"""Workloads as TOML files, and those that come with the package.

    requests = 20_000                       # or seconds = 3600.0, or both: whichever comes first

    [[tenants]]
    name = "chat"
    arrivals = { process = "bursty", rate = 2.0, variation = 3.0 }
    prompt = { distribution = "lognormal", mean = 180, deviation = 160, most = 1024 }
    output = 64                             # always 64
    priority = 5
    deadline = 10.0

    [options.fair]                          # what schedulers are told, by their names
    weights = { chat = 2.0 }

The keys are the fields of `Workload`, `Tenant`, the processes and the distributions.  Whatever is wrong is a
`ConfigError` that names the file, the key and, for a name, the nearest one that exists.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import attrs

from llmos import read_options
from llmos_kernel.errors import ConfigError, NotFound
from llmos_simulator import lengths, processes
from llmos_simulator.workloads import Tenant, Workload

_T = TypeVar("_T", bound=attrs.AttrsInstance)
PRESETS = ("bursty", "chat", "diurnal", "mixed", "users")
"""The workloads that come with the package."""
_NEXT = "mend it there; llmos simulate --show chat prints one that is right"
"""What to do about a file that is no workload."""
MAX_BYTES = 1 << 24
"""A larger file is no workload; what is as long as that is a trace."""


def find_workload(name: str) -> Workload:
    """Return the preset of that *name*, or what the file *name* holds: a workload in TOML, or a trace in CSV.

    Raises `NotFound` with the nearest presets, or `ConfigError`.
    """
    path = Path(name)
    if name in PRESETS:
        return parse_workload(preset_text(name), f"preset {name}", Path(), name)
    if not path.is_file():
        raise _unknown(name, f"neither a file nor one of {', '.join(PRESETS)}")
    if path.suffix.lower() == ".csv":
        return Workload(name=path.name, trace=path)
    return read_workload(path)


def read_workload(path: Path) -> Workload:
    """Return the workload in the TOML file *path*; raise `ConfigError`."""
    try:
        return parse_workload(_text(path), str(path), path.parent, path.stem)
    except ConfigError as error:
        raise ConfigError(error.message, **{**error.fields, "next": _NEXT}) from error


def _text(path: Path) -> str:
    source = str(path)
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise _wrong(source, "file", f"{len(data)} bytes", "a workload; a long list of requests is a trace (.csv)")
        return data.decode("utf-8")
    except OSError as error:
        raise _wrong(source, "file", error.strerror, "a file that can be read") from error
    except UnicodeDecodeError as error:
        raise _wrong(source, "file", f"byte {error.start}", "UTF-8") from error


def preset_text(name: str) -> str:
    """Return the text of the preset *name*, to begin an own workload with; raise `NotFound` with the nearest."""
    if name not in PRESETS:
        raise _unknown(name, f"the presets are {', '.join(PRESETS)}")
    return (resources.files("llmos_simulator") / "presets" / f"{name}.toml").read_text("utf-8")


def parse_workload(text: str, source: str, folder: Path, name: str) -> Workload:
    """Return the workload that *text* describes; paths in it begin at *folder*, and errors say *source*."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, "file", str(error), "TOML") from error
    values: dict[str, Any] = {"name": name, **table}
    tenants = values.get("tenants", [])
    if not isinstance(tenants, list):
        raise _wrong(source, "tenants", tenants, "tables, [[tenants]]")
    values["tenants"] = [_tenant(one, at, source) for at, one in enumerate(tenants, 1)]
    if isinstance(values.get("trace"), str):
        values["trace"] = folder / values["trace"]
    for scheduler, options in dict(_table(values.get("options", {}), "options", source)).items():
        _table(options, f"options.{scheduler}", source)
    return _build(Workload, values, source)


def _tenant(table: object, at: int, source: str) -> Tenant:
    values = dict(_table(table, "tenants", source))
    where = f"{source}: tenant {values.get('name', at)!r}"
    if "arrivals" in values:
        values["arrivals"] = _chosen("arrivals", values["arrivals"], "process", processes.KINDS, where)
    for key in ("prompt", "output"):
        if key in values and isinstance(values[key], int):
            values[key] = {"distribution": "fixed", "value": values[key]}
        if key in values:
            values[key] = _chosen(key, values[key], "distribution", lengths.KINDS, where)
    return _build(Tenant, values, where)


def _chosen(key: str, table: object, choice: str, kinds: Mapping[str, Any], source: str) -> Any:  # noqa: ANN401
    """Return what *table*, the value of *key*, describes: *choice* in it names which of *kinds*."""
    values = dict(_table(table, key, source))
    name = values.pop(choice, None)
    if not isinstance(name, str) or name not in kinds:
        near = get_close_matches(str(name), kinds, n=1, cutoff=0)
        expected = f"one of {', '.join(kinds)}" + (f" (the nearest is {near[0]})" if name is not None else "")
        raise _wrong(source, f"{key}.{choice}", name, expected)
    return _build(kinds[name], values, f"{source}: {key}")


def _build(kind: type[_T], values: Mapping[str, Any], source: str) -> _T:
    for field in attrs.fields(kind):
        if field.init and field.default is attrs.NOTHING and field.name not in values:
            raise _wrong(source, field.name, None, "given")
    return read_options(kind, values, source)


def _table(value: object, key: str, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(source, key, value, "a table")
    return value


def _unknown(name: str, why: str) -> NotFound:
    message = f"there is no workload {name!r}: {why}"
    return NotFound(message, field="workload", value=name, nearest=get_close_matches(name, PRESETS))


def _wrong(source: str, field: str, value: object, expected: str) -> ConfigError:
    message = f"{source}: {field} must be {expected}, not {value!r:.120}"
    return ConfigError(message, field=field, value=value, expected=expected, source=source)
