"""Budgets: what processes may hold, and what devices can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from llmos_kernel._waiting import WaitList
from llmos_kernel.api import Budget
from llmos_kernel.errors import BudgetExceeded, KernelBug, OutOfMemory

if TYPE_CHECKING:
    from llmos_kernel._models import Served


class Account:
    """What one process holds now, against its budget."""

    __slots__ = ("budget", "nbytes", "ports", "room", "spent", "spent_at", "tasks")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.nbytes = self.ports = self.tasks = 0
        self.spent = self.spent_at = 0.0
        self.room = WaitList()

    def take(self, resource: str, amount: int) -> WaitList | None:
        """Charge *amount*, or return where to wait; raise `BudgetExceeded` if it can never fit."""
        limit, held = getattr(self.budget, resource), getattr(self, resource)
        if held + amount <= limit:
            setattr(self, resource, held + amount)
            return None
        if amount <= limit:
            return self.room
        message = f"{amount} {resource} asked for; the budget is {limit}"
        raise BudgetExceeded(message, resource=resource, asked=amount, limit=limit)

    def give(self, resource: str, amount: int) -> None:
        """Give *amount* back and wake who waits for room."""
        setattr(self, resource, getattr(self, resource) - amount)
        self.room.wake_all()

    def check_rate(self, now: float) -> None:
        """Raise `BudgetExceeded` while the tokens of the last minute are used up (a leaky bucket)."""
        limit = self.budget.tokens_per_minute
        self.spent = max(0.0, self.spent - (now - self.spent_at) * limit / 60)
        self.spent_at = now
        if self.spent > 0 and self.spent >= limit:
            retry = (self.spent - limit) * 60 / limit + 0.001 if limit else 60.0
            message = f"the budget of {limit} tokens per minute is used up; try again in {retry:.1f} s"
            raise BudgetExceeded(message, resource="tokens_per_minute", limit=limit, retry_after=retry)


class Ledger:
    """Bytes of weights per device.  Models are charged once, whoever uses them."""

    def __init__(self, devices: Mapping[str, int]) -> None:
        self.limits = dict(devices)
        self.used = dict.fromkeys(devices, 0)

    def reserve(self, device: str, nbytes: int, idle: Iterable[Served]) -> list[Served]:
        """Charge *nbytes* and return the *idle* models, first ones first, that must go to make room.

        Raises `OutOfMemory`, with nothing changed, if that cannot be enough.
        """
        if device == "none":
            return []
        free = self.limits.get(device, 0) - self.used.get(device, 0)
        leaving: list[Served] = []
        for served in idle:
            if nbytes <= free:
                break
            if served.footprint and served.footprint.device == device:
                leaving.append(served)
                free += served.footprint.nbytes
        if nbytes > free or device not in self.limits:
            message = f"{device} has room for {free} bytes of models, and {nbytes} are needed"
            raise OutOfMemory(message, device=device, asked=nbytes, free=free)
        self.used[device] += nbytes
        return leaving

    def release(self, device: str, nbytes: int) -> None:
        """Give *nbytes* back."""
        if device != "none":
            self.used[device] -= nbytes
            if self.used[device] < 0:
                raise KernelBug("a device's ledger went below zero", device=device, used=self.used[device])
