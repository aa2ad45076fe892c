"""The hooks, one per kind of plugin.  The entry-point group ``llmos.<kind>`` announces an object that implements one.

pluggy serves registration and the control plane; tokens and system calls never pass through a hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from llmos_kernel.contracts import API, Backend, ModelSpec, Scheduler
from llmos_kernel.services import Event, Exporter, Policy, Processor, Router, Store

hookspec = pluggy.HookspecMarker("llmos")
hookimpl = pluggy.HookimplMarker("llmos")
"""Marks a plugin's implementation of a hook."""


@hookspec
def llmos_backend(config: Mapping[str, Any]) -> Backend:  # type: ignore[empty-body]
    """``llmos.backend``: return a backend.  Called once, when a model first names it."""


@hookspec
def llmos_scheduler(config: Mapping[str, Any]) -> Scheduler:  # type: ignore[empty-body]
    """``llmos.scheduler``: return a new scheduler.  Called once per executor."""


@hookspec
def llmos_router(config: Mapping[str, Any]) -> Router:  # type: ignore[empty-body]
    """``llmos.router``: return the router.  Called once, at start."""


@hookspec
def llmos_policy(config: Mapping[str, Any]) -> Policy:  # type: ignore[empty-body]
    """``llmos.policy``: return a policy.  Called once, at start.  Must not be a wrapper."""


@hookspec
def llmos_processor(config: Mapping[str, Any]) -> Processor:  # type: ignore[empty-body]
    """``llmos.processor``: return a processor.  Called once, when a task first names it."""


@hookspec
def llmos_store(config: Mapping[str, Any]) -> Store:  # type: ignore[empty-body]
    """``llmos.store``: return a store."""


@hookspec
def llmos_exporter(config: Mapping[str, Any]) -> Exporter:  # type: ignore[empty-body]
    """``llmos.exporter``: return an exporter."""


@hookspec
def llmos_event(event: Event) -> None:
    """``llmos.observer``: something happened.  On the observers' thread; an exception switches the observer off.

    The plugin may be a class: each kernel that is told to use it then makes one, from the plugin's options.
    """


@hookspec(firstresult=True)
def llmos_metrics(accept: str, facts: Mapping[str, Any]) -> tuple[str, bytes]:  # type: ignore[empty-body]
    """``llmos.observer``, if it measures: return a content type that *accept* takes, and the measurements in it.

    Any thread, concurrently with ``llmos_event``.  *facts* is what the kernel counts itself: ``stats`` and ``models``
    as the control port answers `Stats` and, for each loaded model, `InspectModel`; ``tasks`` by (model, tenant,
    state); and ``tenant``, of whom the asker may hear, or None for everybody.
    """


@hookspec
def llmos_command() -> Any:  # noqa: ANN401 - a click.Command, which the kernel does not know
    """``llmos.command``: return a ``click.Command``.  Called when the command is typed."""


@hookspec
def llmos_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """``llmos.model``: return models.  An installed plugin lists them in ``models.json`` instead, beside its module."""


HOOKS = {kind: f"llmos_{kind}" for kind in API} | {"observer": "llmos_event", "model": "llmos_models"}
"""Hook name by plugin kind.  An observer may also have ``llmos_metrics``."""
