"""Settings: ``llmos.toml``, then ``LLMOS_*`` in the environment, then arguments; each overrides the one before.

The file is the first of: the one that the caller names, ``$LLMOS_CONFIG``, ``./llmos.toml``,
``$XDG_CONFIG_HOME/llmos/llmos.toml``.  Its keys are the fields of `KernelConfig` and of `Serving`, ``model``: the
model that commands use when none is named, and ``pipelines``: lists of processors by name.  What ``llmos models add``
and ``llmos models alias`` keep is in ``$LLMOS_HOME``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llmos import _reading as reading
from llmos._library import Library
from llmos._pipelines import Pipeline, read_steps
from llmos._secrets import Secret
from llmos._serving import Serving
from llmos_kernel.config import KernelConfig
from llmos_kernel.errors import ConfigError, InvalidArgument

FILE = "llmos.toml"
DEFAULT_MODEL = "tiny"
ROUTER = "auto"
"""The router that is used where the settings name none."""
ROUTERS = "llmos-routers"
"""The distribution that brings it."""
PREFIX = "LLMOS_"
_PLUGINS = ("*",)
FREE_PREFIX = "LLMOS_X_"
"""Environment variables that begin like this are somebody else's, and are not looked at."""

_ENV: Mapping[str, reading.Reader] = {
    "plugins": reading.split_names, "blocked": reading.split_names, "scheduler": reading.as_text,
    "schedulers": reading.split_pairs, "router": reading.as_text, "policies": reading.split_names,
    "observers": reading.split_names, "aliases": reading.split_pairs, "devices": reading.as_wholes,
    "timeout": reading.as_number, "stall_timeout": reading.as_number, "plugin_timeout": reading.as_number,
    "workers": reading.as_whole, "call_rows": reading.as_whole, "model": reading.as_text,
    "keep_alive": reading.as_number,
}  # fmt: skip
"""Readers of text, by key; what is not here has its place in the file only."""


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that a user may set."""

    kernel: KernelConfig
    serving: Serving = attrs.field(factory=Serving)
    model: str = DEFAULT_MODEL
    """The model that commands use when none is named."""
    home: Path
    """Where the user's models are listed."""
    file: str = ""
    """The file that was read."""
    pipelines: tuple[Pipeline, ...] = ()
    """Processors one after the other, which tasks name like one: ``plugins`` of the kernel that is to know them."""
    sources: Mapping[str, str] = attrs.field(factory=dict)
    """Where each setting is from that is not as it is by itself."""


def load_settings(
    file: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None, **arguments: object
) -> Settings:
    """Return the settings from *file* (or wherever it is found), *environ* and *arguments*, which name keys.

    ``blocked`` among the arguments adds to what is blocked already.  Raises `ConfigError` naming key and source.
    """
    environ = os.environ if environ is None else environ
    path = _find(file, environ)
    home = user_home(environ)
    layers = [("the default", {"plugins": list(_PLUGINS)}, home), *_file_layer(path)]
    secrets = {name for _, values, _ in layers for name in _secret_names(values)}
    layers += [
        (f"the environment variable {PREFIX}{key.upper()}", {key: value}, Path())
        for key, value in _env(environ, secrets)
    ]
    layers += [("the arguments", {key: value for key, value in arguments.items() if value is not None}, Path())]
    values, sources = _merge(layers)
    library = Library(home)
    values["models"] = (*values.get("models", ()), *library.models())
    values["blocked"] = (*values.get("blocked", ()), *library.blocked())
    values["aliases"] = library.aliases() | values.get("aliases", {})
    model, pipelines = values.pop("model", DEFAULT_MODEL), values.pop("pipelines", {})
    mine = {key: values.pop(key) for key in attrs.fields_dict(Serving) if key in values}
    try:
        kernel, serving = KernelConfig(**values), Serving(**mine)
    except InvalidArgument as error:
        key = str(error.fields.get("field", ""))
        raise _config_error(error, sources.get(key.partition(".")[0], path or "the settings")) from error
    made = tuple(Pipeline(name, steps, kernel) for name, steps in pipelines.items())
    return Settings(
        kernel=kernel, serving=serving, model=model, home=home, file=str(path or ""), sources=sources, pipelines=made
    )  # fmt: skip


def routed(kernel: KernelConfig) -> KernelConfig:
    """Return *kernel* with the router that is used where the settings name none, if it is installed and allowed.

    That one distribution is looked for: to survey all plugins would take as long as the start of the kernel.
    """
    from importlib import metadata  # noqa: PLC0415 - only who starts a kernel needs it

    from llmos_kernel.loader import listing  # noqa: PLC0415 - the same

    named = f"router:{ROUTER}", ROUTER, ROUTERS
    if kernel.router is not None or listing(kernel.blocked, *named) or not listing(kernel.plugins, *named):
        return kernel
    try:
        metadata.distribution(ROUTERS)
    except metadata.PackageNotFoundError:
        return kernel
    return attrs.evolve(kernel, router=ROUTER)


def default_settings() -> Settings:
    """Return the settings without file, environment and arguments, for who must go on although these are wrong."""
    return Settings(kernel=KernelConfig(plugins=_PLUGINS), home=user_home(os.environ))


def user_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's own data: ``LLMOS_HOME``, or where the platform keeps such data."""
    if environ.get("LLMOS_HOME"):
        return Path(environ["LLMOS_HOME"]).expanduser()
    data = environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "llmos"


def _find(file: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path | None:
    named = file or environ.get("LLMOS_CONFIG")
    if named:
        return Path(named).expanduser()
    config = environ.get("XDG_CONFIG_HOME")
    folder = (Path(config) if config else Path.home() / ".config") / "llmos"
    return next((path for path in (Path(FILE), folder / FILE) if path.is_file()), None)


def _file_layer(path: Path | None) -> Iterator[tuple[str, Mapping[str, Any], Path]]:
    if path is None:
        return
    import tomllib  # noqa: PLC0415 - only who has a file needs it

    try:
        with path.open("rb") as file:
            yield str(path), tomllib.load(file), path.resolve().parent
    except OSError as error:
        message = f"the settings file {path} cannot be read ({error.strerror})"
        raise ConfigError(message, field="config", value=str(path), expected="a file", source=str(path)) from error
    except ValueError as error:
        message = f"{path} is not valid TOML: {error}"
        raise ConfigError(message, field="config", value=str(path), expected="valid TOML", source=str(path)) from error


def _env(environ: Mapping[str, str], secrets: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each setting in the environment."""
    for name, text in sorted(environ.items()):
        key = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or name.startswith(FREE_PREFIX) or name in secrets or key in ("home", "config"):
            continue
        try:
            if key not in _ENV:
                raise reading.unknown("setting", key, (*_ENV, "home", "config"))
            yield key, _ENV[key](key, text)
        except InvalidArgument as error:
            raise _config_error(error, _variable(key)) from error


def _variable(key: str) -> str:
    return f"the environment variable {PREFIX}{key.upper()}"


def _merge(layers: list[tuple[str, Mapping[str, Any], Path]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read every layer; return the values that win, and where each is from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer, folder in layers:
        readers = _readers(folder)
        for key, value in layer.items():
            try:
                if key not in readers:
                    raise reading.unknown("setting", key, readers)
                found = readers[key](key, value)
            except InvalidArgument as error:
                raise _config_error(error, source) from error
            adds = key == "blocked" and source == "the arguments"
            values[key] = (*values.get(key, ()), *found) if adds else found
            sources[key] = source
    return values, sources


def _readers(folder: Path) -> dict[str, reading.Reader]:
    names, text, number, whole = reading.read_names, reading.read_text, reading.read_number, reading.read_whole
    return {
        "plugins": names, "blocked": names, "scheduler": text, "schedulers": reading.read_table(text), "router": text,
        "policies": names, "observers": names, "options": reading.read_options(folder),
        "models": reading.read_specs(folder), "aliases": reading.read_table(text),
        "devices": reading.read_table(whole), "budget": reading.read_budget, "timeout": number,
        "stall_timeout": number, "plugin_timeout": number, "workers": whole, "call_rows": whole, "model": text,
        "pipelines": reading.read_table(read_steps),
        "fallbacks": reading.read_table(names), "replicas": reading.read_table(reading.read_replicas),
        "keep_alive": number, "keep_alives": reading.read_table(number),
    }  # fmt: skip


def _secret_names(value: object) -> Iterator[str]:
    """Yield the environment variables that a file names as secrets."""
    if isinstance(value, Secret):
        yield value.env
    elif isinstance(value, Mapping):
        if isinstance(value.get("env"), str):
            yield value["env"]
        for item in value.values():
            yield from _secret_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_names(item)


def _config_error(error: InvalidArgument, source: object) -> ConfigError:
    return ConfigError(f"{error.message} (in {source})", **{**error.fields, "source": str(source)})
