"""Names of models that run elsewhere, as `load_model` takes them without any setting.

The distribution ``llmos-remote`` has a list of well-known names beside its modules; a name on it stands for that model
only where a key for its makers is there.  ``BACKEND:NAME`` stands for any other model of theirs.  Such a model is
offered to the kernel when it is loaded by name, never before: a router must not send tasks to who was not named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos._models import folder_spec
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.loader import listing

if TYPE_CHECKING:
    from llmos._remote import Remote
    from llmos_kernel import Kernel

DISTRIBUTION, PACKAGE = "llmos-remote", "llmos_remote"
"""Who has the list."""
FILE = "elsewhere.json"
_Makers = Mapping[str, Mapping[str, Any]]
_Models = Sequence[Mapping[str, Any]]


def named_spec(
    name: str | os.PathLike[str], kernel: Kernel | Remote, environ: Mapping[str, str] = os.environ
) -> ModelSpec | None:
    """Return the specification of what *name* names besides the models that *kernel* knows, or None.

    That is a model after its maker's name, a model folder, or a well-known model elsewhere, in this order.
    """
    config: object = getattr(kernel, "config", None)  # who is at a server takes what the server offers
    if not isinstance(name, str) or not isinstance(config, KernelConfig) or name in _configured(config):
        return folder_spec(name)
    makers, models = _listed()
    spec = _of_maker(name, makers, models, config) or folder_spec(name)
    return spec or _well_known(name, makers, models, config, environ)


def _of_maker(name: str, makers: _Makers, models: _Models, config: KernelConfig) -> ModelSpec | None:
    backend, colon, rest = name.partition(":")
    if not (colon and rest and backend in makers):
        return None
    listed = next((one for one in models if (one["name"], one["backend"]) == (rest, backend)), makers[backend])
    return _offered(name, backend, listed, config)


def _well_known(
    name: str, makers: _Makers, models: _Models, config: KernelConfig, environ: Mapping[str, str]
) -> ModelSpec | None:
    listed = next((one for one in models if name == one["name"] or name in one.get("aliases", ())), None)
    if listed is None or not _has_key(listed["backend"], makers, config, environ):
        return None
    spec = _offered(listed["name"], listed["backend"], listed, config)
    if spec is not None and name != spec.name:
        _note(name, spec)
    return spec


def _configured(config: KernelConfig) -> set[str]:
    return {*config.aliases, *(one for spec in config.models for one in (spec.name, *spec.aliases))}


def _listed() -> tuple[_Makers, _Models]:
    """Return the makers and the well-known models; none where the distribution is not installed."""
    found = find_spec(PACKAGE)  # imports nothing
    if found is None or found.origin is None:
        return {}, []
    values = json.loads((Path(found.origin).parent / FILE).read_text("utf-8"))
    return values["backends"], values["models"]


def _has_key(backend: str, makers: _Makers, config: KernelConfig, environ: Mapping[str, str]) -> bool:
    configured = config.options.get(f"backend:{backend}", {}).get("api_key")
    return configured is not None or any(environ.get(name) for name in makers[backend]["variables"])


def _offered(name: str, backend: str, listed: Mapping[str, Any], config: KernelConfig) -> ModelSpec | None:
    """Return the specification, if the kernel may use the backend."""
    named = f"backend:{backend}", backend, DISTRIBUTION
    if listing(config.blocked, *named) or not listing(config.plugins, *named):
        return None
    return ModelSpec(name=name, backend=backend, kinds=listed["kinds"], distribution=DISTRIBUTION)


_noted: set[str] = set()


def _note(asked: str, spec: ModelSpec) -> None:
    """Say, once per name and process, that *asked* leaves this machine: the bundled model may have that name, too."""
    if asked in _noted:
        return
    _noted.add(asked)
    import logging  # noqa: PLC0415 - only where something is said

    logging.getLogger("llmos").warning(
        'llmos: "%s" is an alias; here it means "%s" of %s, because there is a key for it: texts leave this machine '
        'and are billed. Set [aliases] "%s" = "tiny" in llmos.toml for the bundled model.',
        asked, spec.name, spec.backend, asked,
    )  # fmt: skip
