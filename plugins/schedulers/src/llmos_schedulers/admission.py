"""Admission: who cannot be served in time, or has had its share, is told so at once and when to come again.

A policy that is asked before a task is accepted, and refuses it with `Overloaded` when

    quota       the tenant has had its tokens or requests of the minute, or has as many tasks in flight as it may
                (`llmos_schedulers.quotas`)
    deadline    the task would miss its deadline more often than once in 20 times (`confidence`), by what was learnt
                from those before it (`llmos_schedulers.fitting`) and the tasks that are unfinished now; where services
                vary so much that it might even if nobody waited, more often than every other time
    wait        it has no deadline, and would wait longer than `longest_wait` seconds on average, if that is set

The error says when to try again (``retry_after``, seconds): when the bucket will hold enough, or when by the fluid
limit of the queue so few tasks are left that the answer would be another one.  It is None where waiting does not help:
a deadline that is too short even when nobody waits.  As long as too little is known of a model nothing is refused for
its waits.  Everything else this policy leaves to others.

It is asked what it answers without looking at the clock of the kernel, so it has its own: *now* is to be the same, and
is, unless a kernel is built with another clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import MAX_SECONDS, check_type, mapping, number
from llmos_kernel.errors import Overloaded
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Action, Decision, Event, Policy
from llmos_schedulers.fitting import ENDED, HALF_LIFE, Fits, Prediction, tells
from llmos_schedulers.quotas import Quota, Quotas

api = 1
"""The version of the policies' contract that this module is written for."""

EVEN = 0.5
"""The share of tasks that are to meet a deadline that fewer than `Options.confidence` would meet if nobody waited."""
SOURCE = "policy:admission"
UNITS = {"tokens_per_minute": "tokens a minute", "requests_per_minute": "requests a minute", "tasks": "tasks in flight"}


def _quota(value: object, field: str) -> Quota:
    check_type(field, value, Mapping, "a table of limits")
    return read_options(Quota, value, field)  # type: ignore[arg-type]


def _default(value: object) -> Quota:
    return value if isinstance(value, Quota) else _quota(value, "default")


def _tenants(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    for name in value:
        check_type("tenants", name, str, "names of tenants")
    return {name: one if isinstance(one, Quota) else _quota(one, f"tenants.{name}") for name, one in value.items()}


@attrs.frozen(kw_only=True)
class Options:
    """What ``admission`` can be told."""

    default: Quota = attrs.field(factory=Quota, converter=_default)
    """The quota of a tenant that `tenants` does not name."""
    tenants: Mapping[str, Quota] = attrs.field(factory=dict, converter=_tenants, validator=mapping)
    """Quotas, by name of the tenant."""
    confidence: float = attrs.field(default=0.95, validator=number(0.5, 0.999, whole=False))
    """The share of tasks with a deadline that are to meet it, of those that are accepted."""
    longest_wait: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0, MAX_SECONDS, whole=False))
    )
    """Seconds beyond which a task without a deadline is refused; if not given, it never is."""
    half_life: float = attrs.field(default=HALF_LIFE, validator=number(0.1, MAX_SECONDS, whole=False))
    """Seconds after which what was seen of arrivals and services weighs half."""
    patience: float = attrs.field(default=300.0, validator=number(0.1, MAX_SECONDS, whole=False))
    """Seconds after which a reservation is given back whose task was never accepted; the timeout of calls, at least."""


class Admission(Policy):
    """Refuses what cannot be served in time, and who has had its share."""

    def __init__(self, options: Options | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self.options = options or Options()
        self.fits = Fits(self.options.half_life)
        """What was learnt of each model."""
        self.quotas = Quotas(self.options.default, self.options.tenants, self.options.patience)
        self._now = now
        self._lock = threading.Lock()

    def check(self, action: Action) -> Decision:
        """Raise `Overloaded` for a task that is not to come now; abstain from everything else."""
        if action.name == "schedule":
            with self._lock:
                self._check(action, self._now())
        return Decision.ABSTAIN

    def heard(self, event: Event) -> None:
        """Learn from tasks that come and end."""
        if not tells(event):
            return
        with self._lock:
            self.fits.heard(event)
            if event.name == "task.accepted":
                self.quotas.accepted(event.at, event.fields)
            elif event.name in ENDED:
                self.quotas.ended(event.fields)
            elif event.name == "model.failed":
                self.quotas.give_back(event.fields["model"])

    def _check(self, action: Action, now: float) -> None:
        model, detail, name = action.resource.removeprefix("model:"), action.detail, action.principal.tenant
        kind, deadline, max_tokens = detail["kind"], detail["deadline"], _whole(detail["params"].get("max_tokens"))
        predict = partial(self.fits.of(model).predict, now, kind=kind, max_tokens=max_tokens)
        found = predict(detail["unfinished"])
        tenant = self.quotas.of(name, now)
        tokens = 0.0 if tenant is None else tenant.estimate(kind, max_tokens)
        if tenant is not None and (exceeded := self.quotas.exceeded(now, tenant, detail["tasks"], tokens)) is not None:
            raise _over_quota(name, *exceeded, found)
        if found.trusted and self._over(found, deadline, self.options.confidence) > 0:
            self._refuse_late(now, model, deadline, detail["unfinished"], predict)
        if tenant is not None:
            self.quotas.reserve(now, tenant, (name, model, kind), tokens)

    def _over(self, found: Prediction, deadline: float | None, share: float) -> float:
        """Return by how many seconds a task is too late in *share* of the cases; negative where it is not."""
        if deadline is not None:
            return found.within(share) - deadline
        return -inf if self.options.longest_wait is None else found.wait - self.options.longest_wait

    def _refuse_late(
        self, now: float, model: str, deadline: float | None, unfinished: int, predict: Callable[[float], Prediction]
    ) -> None:
        """Raise `Overloaded` for a task that comes too late, unless it hardly could be sooner."""
        found, share = predict(unfinished), self.options.confidence
        if self._over(predict(0), deadline, share) > 0:
            share = EVEN
        if self._over(found, deadline, share) > 0:
            over = lambda count: self._over(predict(count), deadline, share)
            retry = self.fits.of(model).drained(now, unfinished, over)
            raise _overloaded(model, self._reason(found, deadline), found.wait, retry)

    def _reason(self, found: Prediction, deadline: float | None) -> str:
        if deadline is None:
            return f"it would wait about {found.wait:.3g} s, longer than the {self.options.longest_wait:g} s allowed"
        time = found.within(self.options.confidence)
        return f"with a wait of about {found.wait:.3g} s it may take {time:.3g} s, and its deadline is {deadline:g} s"


def _overloaded(model: str, why: str, wait: float, retry: float | None) -> Overloaded:
    then = "no wait helps, allow more time" if retry is None else f"try again in {_seconds(retry)} s"
    message = f"{model} cannot serve this task in time: {why}; {then}"
    return Overloaded(message, model=model, wait=wait, retry_after=retry)


def _over_quota(tenant: str, quota: str, limit: float, retry: float | None, found: Prediction) -> Overloaded:
    """Return the error of a tenant that has had its share."""
    if retry is None and found.trusted:  # of so many in flight one ends in this time (Little's law)
        retry = found.time / limit
    then = "" if retry is None else f"; try again in {_seconds(retry)} s"
    message = f"tenant {tenant!r} has its quota of {limit:g} {UNITS[quota]}{then}"
    return Overloaded(message, tenant=tenant, quota=quota, limit=limit, wait=found.wait, retry_after=retry)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def _whole(value: object) -> int | None:
    """Return *value* if it is a number of tokens: what else it may be, the executor will refuse."""
    return value if isinstance(value, int) and value > 0 else None


@hookimpl
def llmos_policy(config: Mapping[str, Any]) -> Policy:
    """Return the policy; *config* holds `Options`.  Raises `ConfigError`."""
    return Admission(read_options(Options, config, SOURCE))
