"""A server that batches, step by step, with users who think or come at random: it knows no queueing theory."""

from __future__ import annotations

import heapq
from collections import deque
from random import Random

import attrs

from llmos import StepProfile
from llmos_schedulers.capacity import Usage


@attrs.define
class Asked:
    """A task: when it came, what is left of it."""

    came: float
    prompt: int
    output: int
    begun: float | None = None
    held: int = 0
    """Tokens in its cache."""


def drawn(random: Random, usage: Usage) -> int:
    """An answer's length, of a gamma distribution of the usage's mean and deviation."""
    if not usage.variability:
        return round(usage.output)
    shape = 1 / usage.variability**2
    return max(1, round(random.gammavariate(shape, usage.output / shape)))


def waits(profile: StepProfile, usage: Usage, users: int, *, seed: int, count: int, chunk: int = 512) -> list[float]:
    """The waits of *count* tasks of so many *users*; the first fifth is left out."""
    random, now, found = Random(seed), 0.0, list[float]()
    pause = usage.think if usage.think is not None else 60 / (usage.requests_per_minute or 1.0) / users
    coming = [random.expovariate(1 / pause) for _ in range(users if usage.think is not None else 1)]
    heapq.heapify(coming)
    line: deque[Asked] = deque()
    running: list[Asked] = []
    while len(found) < count:
        if not line and not running:
            now = max(now, coming[0])
        while coming and coming[0] <= now:
            at = heapq.heappop(coming)
            line.append(Asked(at, round(usage.prompt), drawn(random, usage)))
            if usage.think is None:
                heapq.heappush(coming, at + random.expovariate(1 / pause))
        while line and len(running) < profile.places:
            running.append(line.popleft())
        before, now = now, now + step(profile, running, min(chunk, profile.tokens), now)
        for task in [task for task in running if not task.output]:
            running.remove(task)
            found.append((task.begun or before) - task.came)
            if usage.think is not None:
                heapq.heappush(coming, now + random.expovariate(1 / pause))
    return found[count // 5 :]


def step(profile: StepProfile, running: list[Asked], chunk: int, now: float) -> float:
    """Do one step of the running tasks, those that decode first, and return how long it takes."""
    rows = [task for task in running if not task.prompt]
    left, held = min(chunk, profile.tokens - len(rows)), sum(task.held for task in rows)
    prompts = tokens = pairs = 0
    for task in running:
        size = min(task.prompt, left)
        if size > 0 and (not prompts or size == task.prompt):
            task.begun = now if task.begun is None else task.begun
            prompts, tokens, left = prompts + 1, tokens + size, left - size
            pairs += size * task.held + size * (size - 1) // 2
            held += task.held
            task.prompt, task.held = task.prompt - size, task.held + size
            task.output -= not task.prompt
    for task in rows:
        task.output, task.held = task.output - 1, task.held + 1
    return profile.seconds(len(rows) + prompts, tokens, held, pairs, prompts=max(prompts, 1))
