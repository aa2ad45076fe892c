"""Answers of ``/health``, ``/ready`` and ``/v1/llmos/*``."""

from __future__ import annotations

from typing import Any, Literal

from llmos_server.document.parts import Answer, Count, Seconds


class Health(Answer):
    """The server runs."""

    status: Literal["ok"]


class Readiness(Answer):
    """What the kernel is doing, and what cannot be done and why."""

    status: str
    reasons: list[str]


class Footprint(Answer):
    """Where a model is, and how much room it takes there."""

    device: str
    nbytes: Count


class Speed(Answer):
    """Tokens per second, and of how many tasks it is known."""

    tasks: Count
    decode: Seconds | None
    prefill: Seconds | None


class ModelFacts(Answer):
    """A model: what it is, its state, and how fast it is."""

    name: str
    backend: str
    aliases: list[str]
    kinds: list[str]
    languages: list[str]
    capabilities: list[str]
    context: Count
    nbytes: Count
    cost: float
    license: str
    description: str
    distribution: str
    state: str
    why: str
    footprint: Footprint | None
    handles: Count
    unfinished: Count
    contexts: Count
    executor: dict[str, Any]
    speed: Speed


class ModelFactsList(Answer):
    """The models."""

    object: Literal["list"]
    data: list[ModelFacts]


class TimeSpan(Answer):
    """A part of a task's life."""

    phase: str
    seconds: Seconds


class TaskFacts(Answer):
    """A task; times are in seconds, ``accepted`` and ``ended`` since 1970.  Of those that ended not all is known."""

    id: Count
    kind: str
    model: str
    tenant: str
    state: str
    error: str
    accepted: Seconds
    ended: Seconds | None
    age: Seconds
    prompt: Count
    cached: Count
    generated: Count
    queued: Seconds
    prefill: Seconds
    decode: Seconds
    timeline: list[TimeSpan]
    priority: int = 0
    process: int = 0
    principal: str = ""


class TaskFactsList(Answer):
    """Tasks, how many more there are, and whether those that ended are known at all."""

    object: Literal["list"]
    data: list[TaskFacts]
    more: Count
    heard: bool


class EndedTask(Answer):
    """A task that was ended."""

    id: Count
    state: str


class PluginFacts(Answer):
    """A plugin."""

    kind: str
    name: str
    key: str
    value: str
    distribution: str
    version: str
    state: str
    why: str
    needs: str
    seconds: Seconds


class PluginFactsList(Answer):
    """The plugins."""

    object: Literal["list"]
    data: list[PluginFacts]


class EvaluationFigure(Answer):
    """A measured quantity, with the interval that covers 95 of 100 resamples."""

    title: str
    unit: str
    value: float
    low: float | None
    high: float | None
    n: Count
    larger: bool


class Evaluation(Answer):
    """What is known of a model on a suite; results with the same digest can be compared."""

    id: str
    model: str
    suite: str
    digest: str
    records: Count
    failed: Count
    seconds: Seconds
    finished: str
    metrics: dict[str, EvaluationFigure]


class Unreadable(Answer):
    """A file that is no result."""

    id: str
    why: str


class EvaluationList(Answer):
    """Results of evaluations, the newest first."""

    object: Literal["list"]
    data: list[Evaluation]
    unreadable: list[Unreadable]
    more: Count


class Memory(Answer):
    """Bytes of a device."""

    used: Count
    limit: Count


class Permissions(Answer):
    """What the scopes of who asks allow, beside what everybody may; a policy may still forbid it."""

    unload: bool
    reasons: bool
    evaluations: bool


class Asker(Answer):
    """Who asks: whether everybody's tasks are shown, and what else is allowed."""

    name: str
    tenant: str
    operator: bool
    may: Permissions


class Quantiles(Answer):
    """Seconds, of so many tasks."""

    count: Count
    p50: Seconds | None
    p95: Seconds | None
    p99: Seconds | None


class Latency(Answer):
    """How long the tasks of the last five minutes took."""

    first: Quantiles
    between: Quantiles
    whole: Quantiles


class Second(Answer):
    """What a second was like."""

    at: Seconds
    prompt: Seconds
    generated: Seconds
    waiting: Seconds
    running: Seconds


class Statistics(Answer):
    """How the server is."""

    state: str
    processes: Count
    handles: Count
    ports: Count
    tasks: dict[str, Count]
    devices: dict[str, Memory]
    events_dropped: Count
    you: Asker
    heard: bool
    latency: Latency
    history: list[Second]
    at: Seconds
