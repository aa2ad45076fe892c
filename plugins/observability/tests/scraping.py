"""Reads what was exposed, with prometheus-client's own parsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from llmos_observability.exposition import OPENMETRICS

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name and labels."""


def samples(answer: tuple[str, bytes]) -> Samples:
    """Return every sample of an answer, in whichever format it is."""
    content_type, content = answer
    read: Any = read_openmetrics if content_type.startswith(OPENMETRICS) else read_text
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in read(content.decode())
        for one in family.samples
    }


def facts(**given: Any) -> dict[str, Any]:
    """Return what a kernel with nothing to do tells an observer that is asked."""
    stats = {"handles": 1, "ports": 0, "processes": 1, "devices": {"cpu": {"used": 7, "limit": 9}}, "events_dropped": 0}
    return {"stats": stats, "models": [], "tasks": {}, "tenant": None, **given}


def named(found: Samples, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of the samples called *name* by the values of these *labels*."""
    return {
        tuple(dict(have)[label] for label in labels): value for (which, have), value in found.items() if which == name
    }
