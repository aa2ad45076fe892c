"""The part of ``llmos doctor`` that runs plugins' code, in a process of its own: a plugin may raise, exit or crash.

Standard input is one JSON object: ``defaults``, ``config``, ``blocked``, ``load``.  Each line of standard output is one
finding; the line before a silence says what was being looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import attrs

from llmos._settings import default_settings, load_settings
from llmos_kernel.api import Principal
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.services import Action, Decision
from llmos_kernel.errors import KernelError
from llmos_kernel.loader import USABLE, PluginRecord
from llmos_kernel.plugins import Plugins

Finding = dict[str, Any]
"""``looking`` at what; or a ``kind`` (plugin, policy, scheduler, backend, model), a ``name``, and what was found."""

_HARMLESS = ("backend", "router", "processor", "exporter", "command")
"""Kinds whose hooks open nothing.  A store's may; policies and schedulers are made where the settings name them."""


def main() -> None:
    """Look at everything, one finding per line."""
    asked = json.load(sys.stdin)
    findings = _own_output()
    settings = default_settings() if asked["defaults"] else load_settings(asked["config"])
    config = attrs.evolve(settings.kernel, blocked=(*settings.kernel.blocked, *asked["blocked"]))
    for finding in probe(config, load=asked["load"]):
        findings.write(json.dumps(finding, default=repr) + "\n")
        findings.flush()


def probe(config: KernelConfig, *, load: bool) -> Iterator[Finding]:
    """Yield the findings."""
    records = [record for record in Plugins(config).records() if record.state in USABLE and record.kind != "model"]
    for record in records:
        yield {"looking": record.key}
        yield _plugin(config, record)
    plugins = Plugins(config)
    for name in config.policies:
        yield {"looking": f"policy:{name}"}
        yield {"kind": "policy", "name": name} | _tried(_ask, attrs.evolve(config, policies=(name,)))
    for name in sorted({config.scheduler, *config.schedulers.values()}):
        yield {"looking": f"scheduler:{name}"}
        yield {"kind": "scheduler", "name": name} | _tried(_schedule, plugins, name)
    for name in sorted(record.name for record in records if record.kind == "backend"):
        yield {"looking": f"backend:{name}"}
        yield {"kind": "backend", "name": name} | _tried(_runtime, plugins, name)
    specs = plugins.models()
    for record in (one for one in plugins.records() if one.kind == "model" and one.state not in USABLE):
        yield {"kind": "plugin", "name": record.key, "state": record.state, "why": record.why, "seconds": 0.0}
    for spec in (*specs, *config.models):
        yield {"looking": f"backend:{spec.backend}"}
        yield {"kind": "model", "name": spec.name} | _tried(_model, plugins, spec, load)


def _plugin(config: KernelConfig, record: PluginRecord) -> Finding:
    """Import and check one plugin, as if it were the only one, and make it where that touches nothing."""
    plugins = Plugins(attrs.evolve(config, plugins=(record.key,), blocked=(), policies=(), observers=()))
    plugins.check()
    if record.kind in _HARMLESS:
        with contextlib.suppress(KernelError):  # the record says it; options that it wants are for who chooses it
            getattr(plugins, record.kind)(record.name)
    found = next(one for one in plugins.records() if (one.key, one.distribution) == (record.key, record.distribution))
    state = "ready" if found.state == "active" else found.state
    return {"kind": "plugin", "name": found.key, "state": state, "why": found.why, "seconds": found.seconds}


def _ask(config: KernelConfig) -> Mapping[str, Any]:
    """Ask the one policy of *config* about an action that harms nobody."""
    for _, policy in Plugins(config).policies():
        answer = policy.check(Action(Principal(0, "doctor", "doctor"), "attach", "kernel"))
        if not isinstance(answer, Decision):
            raise TypeError(f"it answered {answer!r:.80} instead of a Decision")
    return {}


def _schedule(plugins: Plugins, name: str) -> Mapping[str, Any]:
    return {"class": type(plugins.scheduler(name)).__name__}


def _runtime(plugins: Plugins, name: str) -> Mapping[str, Any]:
    return plugins.backend(name).doctor()


def _model(plugins: Plugins, spec: ModelSpec, load: bool) -> Mapping[str, Any]:
    backend = plugins.backend(spec.backend)
    facts = attrs.asdict(backend.measure(spec))
    if load:
        executor = backend.load(spec)
        facts["executor"] = dict(executor.describe())
        executor.close()
    return facts


def _tried(look: Callable[..., Mapping[str, Any]], *arguments: object) -> Finding:
    """Return the facts that *look* finds, or what is wrong."""
    try:
        return {"facts": dict(look(*arguments)), "why": ""}
    except KernelError as error:
        return {"facts": {}, "why": error.message}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is a finding
        return {"facts": {}, "why": f"it raised {type(error).__name__}: {error}"}


def _own_output() -> IO[str]:
    """Keep standard output for findings: what plugins print there goes to standard error."""
    mine = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return mine


if __name__ == "__main__":
    main()
