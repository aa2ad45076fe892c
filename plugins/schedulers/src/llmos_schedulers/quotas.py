"""Quotas of tenants: token buckets, and reservations for what will be known when a task has ended.

A token bucket holds at most `depth`, and `rate` a second flows in; who wants to go on takes out what it costs (Turner,
"New Directions in Communications", IEEE Communications Magazine 24, 1986; RFC 2215 has the terms).  So within any time
t no more than `rate * t + depth` is granted.

What a task costs is known when it has ended: its prompt, as far as it was not cached, and its output.  When it is
admitted its cost is estimated and taken, so that tasks that come at once cannot overrun the bucket, and corrected at
the end; a bucket that was taken too little from goes below zero and is filled up first.  The estimate is the mean of
the tenant's tasks of that kind, the output at most what the task asks for.

A reservation is pending from the check until the kernel says that the task was accepted, and open until it says that
the task has ended.  Both may stay away: the call fails between, or events are dropped.  A pending one is given back
after `patience`.  An open one is forgotten when the kernel has counted fewer tasks of the tenant for `OVERDUE` seconds,
again and again; what it was charged stays, because somebody was served.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from math import inf
from typing import Any

import attrs

from llmos_kernel.api import MAX_COUNT, number

UNKNOWN = 256.0
"""Tokens that a task is reserved whose tenant has had no task of that kind, beside those that it asks for."""
RECENT = 0.1
"""What the newest task weighs in a tenant's mean."""
OVERDUE = 10.0
"""Seconds for which the kernel must have counted fewer tasks than are open before some are forgotten."""
TENANTS, PENDING, KINDS = 4096, 65_536, 64
"""Tenants, pending reservations, and kinds per tenant that are remembered; of tenants more, while they have tasks or
debts."""

_amount = attrs.validators.optional(number(1e-6, MAX_COUNT, whole=False))


@attrs.frozen(kw_only=True)
class Quota:
    """What a tenant may have.  None: as much as it likes."""

    tokens_per_minute: float | None = attrs.field(default=None, validator=_amount)
    """Tokens, those of prompts that are not cached and those of outputs."""
    burst: float | None = attrs.field(default=None, validator=_amount)
    """Tokens that may be had at once after a pause; a minute's, if nothing is said."""
    requests_per_minute: float | None = attrs.field(default=None, validator=_amount)
    """Tasks that may be scheduled; a minute's may come at once."""
    tasks: int | None = attrs.field(default=None, validator=attrs.validators.optional(number(1, 2**30)))
    """Tasks in flight at once."""

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return not (self.tokens_per_minute is None and self.requests_per_minute is None and self.tasks is None)


@attrs.define
class Bucket:
    """A token bucket; it begins full."""

    rate: float
    """What flows in per second."""
    depth: float
    """The most that it holds."""
    level: float = attrs.field(init=False)
    _at: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.level = self.depth

    def delay(self, now: float, amount: float) -> float:
        """Return in how many seconds *amount* can be taken; 0 is now.  More than the depth is there when it is full."""
        since = now if self._at is None else self._at
        self.level = min(self.level + self.rate * max(now - since, 0.0), self.depth)
        self._at = max(now, since)
        # A bucket that is full but for the rounding of its filling is full.
        missing = min(amount, self.depth) - self.level
        return missing / self.rate if missing > 1e-9 * self.depth else 0.0

    def take(self, amount: float) -> None:
        """Take *amount* out, or put it back if it is negative; below zero is a debt."""
        self.level = min(self.level - amount, self.depth)


@attrs.define(eq=False)
class Reservation:
    """What was taken for a task that has not ended."""

    key: tuple[str, str, str]
    """Tenant, model and kind."""
    tokens: float
    at: float
    pending: bool = True
    """Whether the kernel has not yet said that the task was accepted."""


@attrs.define(eq=False)
class Tenant:
    """What is known of one tenant that has a quota."""

    quota: Quota
    tokens: Bucket | None = attrs.field(init=False)
    requests: Bucket | None = attrs.field(init=False)
    open: dict[int, Reservation] = attrs.field(factory=dict, init=False)
    """By task."""
    pending: int = attrs.field(default=0, init=False)
    _means: dict[str, tuple[float, float]] = attrs.field(factory=dict, init=False)
    """Tokens of prompt and of output, by kind."""
    _surplus: int = attrs.field(default=0, init=False)
    """The fewest by which the open ones were more than the kernel's since then."""
    _since: float = attrs.field(default=-inf, init=False)

    def __attrs_post_init__(self) -> None:
        rate, burst, requests = self.quota.tokens_per_minute, self.quota.burst, self.quota.requests_per_minute
        self.tokens = None if rate is None else Bucket(rate / 60, rate if burst is None else burst)
        self.requests = None if requests is None else Bucket(requests / 60, max(requests, 1.0))

    @property
    def flying(self) -> int:
        """Tasks that are in flight, or may be in a moment."""
        return len(self.open) + self.pending

    def estimate(self, kind: str, max_tokens: int | None) -> float:
        """Return the tokens to expect of a task."""
        prompt, output = self._means.get(kind, (UNKNOWN, UNKNOWN) if kind != "call" else (0.0, 0.0))
        if kind not in self._means and max_tokens is not None:
            return prompt + max_tokens
        return prompt + (output if max_tokens is None else min(output, max_tokens))

    def learn(self, kind: str, prompt: int, output: int) -> None:
        """Take in what a task of this kind cost."""
        if kind in self._means or len(self._means) < KINDS:
            before = self._means.get(kind, (prompt, output))
            now = zip(before, (prompt, output), strict=True)
            first, second = (mean + RECENT * (new - mean) for mean, new in now)
            self._means[kind] = (first, second)

    def align(self, now: float, tasks: int) -> None:
        """Forget open reservations of which the kernel's count has known nothing for long."""
        self._surplus = min(self._surplus, len(self.open) - tasks)
        if now >= self._since + OVERDUE:
            for task in list(self.open)[: max(self._surplus, 0)] if self._since > -inf else ():
                del self.open[task]
            self._since, self._surplus = now, len(self.open) - tasks

    def idle(self, now: float) -> bool:
        """Whether nothing would change if this tenant were forgotten and came back."""
        full = all(bucket.delay(now, bucket.depth) == 0 for bucket in (self.tokens, self.requests) if bucket)
        return full and not self.flying


@attrs.define
class Quotas:
    """The quotas of all tenants and what has been taken of them.  Not thread-safe."""

    default: Quota = attrs.field(factory=Quota)
    named: Mapping[str, Quota] = attrs.field(factory=dict)
    patience: float = 300.0
    """Seconds after which a reservation is given back whose task was never accepted."""
    tenants: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict, init=False)
    """Those that were heard of last come last."""
    _pending: dict[tuple[str, str, str], deque[Reservation]] = attrs.field(factory=dict, init=False)
    _order: deque[Reservation] = attrs.field(factory=deque, init=False)

    def of(self, name: str, now: float) -> Tenant | None:
        """Return the tenant *name*, if it has a quota."""
        quota = self.named.get(name, self.default)
        if not quota.limits:
            return None
        if name not in self.tenants:
            self.tenants[name] = Tenant(quota)
            for old, tenant in list(self.tenants.items())[:8] if len(self.tenants) > TENANTS else ():
                if old != name and tenant.idle(now):
                    del self.tenants[old]
        self.tenants.move_to_end(name)
        return self.tenants[name]

    def exceeded(self, now: float, tenant: Tenant, tasks: int, tokens: float) -> tuple[str, float, float | None] | None:
        """Return quota, limit, and seconds until there is room where known; None if a task may come.

        *tasks* are those that the kernel counts, *tokens* what the task is expected to cost.
        """
        self._expire(now)
        tenant.align(now, tasks)
        quota, found = tenant.quota, []
        if quota.tasks is not None and max(tasks, tenant.flying) >= quota.tasks:
            return ("tasks", quota.tasks, None)
        if tenant.tokens is not None and quota.tokens_per_minute and (delay := tenant.tokens.delay(now, tokens)):
            found.append(("tokens_per_minute", quota.tokens_per_minute, delay))
        if tenant.requests is not None and quota.requests_per_minute and (delay := tenant.requests.delay(now, 1.0)):
            found.append(("requests_per_minute", quota.requests_per_minute, delay))
        return max(found, key=lambda one: one[2], default=None)

    def reserve(self, now: float, tenant: Tenant, key: tuple[str, str, str], tokens: float) -> None:
        """Take what a task costs, before it comes."""
        if tenant.tokens is not None:
            tenant.tokens.take(tokens)
        if tenant.requests is not None:
            tenant.requests.take(1.0)
        tenant.pending += 1
        made = Reservation(key, tokens, now)
        self._pending.setdefault(key, deque()).append(made)
        self._order.append(made)

    def accepted(self, now: float, fields: Mapping[str, Any]) -> None:
        """Open the reservation of a task that the kernel has accepted."""
        tenant, key = self._whose(fields)
        if tenant is not None:
            tenant.open[fields["task"]] = self._claim(tenant, key) or Reservation(key, 0.0, now, pending=False)

    def ended(self, fields: Mapping[str, Any]) -> None:
        """Settle what a task has cost; one that is unknown was accepted unheard, if it is known at all."""
        tenant, key = self._whose(fields)
        if tenant is None:
            return
        made = tenant.open.pop(fields["task"], None) or self._claim(tenant, key)
        served = not fields["error"] or fields["prefill"] + fields["decode"] > 0
        prompt, output = max(fields["prompt"] - fields["cached"], 0), fields["generated"]
        if not fields["error"]:
            tenant.learn(fields["kind"], prompt, output)
        if made is not None and tenant.tokens is not None:
            tenant.tokens.take((prompt + output if served else 0) - made.tokens)

    def give_back(self, model: str) -> None:
        """Give back what is pending for a *model* that cannot be had: no such task will come."""
        for made in self._order:
            if made.pending and made.key[1] == model:
                self._return(made)

    def _whose(self, fields: Mapping[str, Any]) -> tuple[Tenant | None, tuple[str, str, str]]:
        key = (fields["tenant"], fields["model"], fields["kind"])
        return self.tenants.get(key[0]), key

    def _claim(self, tenant: Tenant, key: tuple[str, str, str]) -> Reservation | None:
        line = self._pending.get(key)
        if not line:
            return None
        made = line.popleft()
        made.pending = False
        tenant.pending -= 1
        if not line:
            del self._pending[key]
        return made

    def _expire(self, now: float) -> None:
        while self._order and (
            not self._order[0].pending or now > self._order[0].at + self.patience or len(self._order) > PENDING
        ):
            made = self._order.popleft()
            if made.pending:
                self._return(made)

    def _return(self, made: Reservation) -> None:
        tenant, line = self.tenants[made.key[0]], self._pending[made.key]
        made.pending = False
        line.remove(made)
        tenant.pending -= 1
        if tenant.tokens is not None:
            tenant.tokens.take(-made.tokens)
        if not line:
            del self._pending[made.key]
