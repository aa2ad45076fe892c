"""What ``llmos bench`` does with a model: requests of random tokens through the system calls, and figures of them.

Times are the kernel's own (`Usage`) where they concern one task, and the caller's clock where they concern all.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llmos._client import Client, Model
from llmos._text import outcome
from llmos_kernel.api import Done, Task
from llmos_kernel.errors import InvalidArgument

PREFILLS = (128, 512, 1024)
"""Lengths of the prompts of the prefill work, in tokens."""
MIXED, SHORTEST, LONGEST = 64, 32, 256
"""Requests of the mixed work, and the bounds of their inputs and outputs in tokens."""
SHARED, OWN = 1000, 24
"""Tokens of a shared prefix, and of what each request adds to it."""
_SYLLABLES = "ka lo mi te ru sa no vi pe du ha ze wo ji".split()
_WORDS = 400


@attrs.frozen(kw_only=True)
class Figure:
    """One measured quantity: every repetition of it."""

    work: str
    title: str
    unit: str
    values: tuple[float, ...]
    larger: bool = True
    """Whether larger is better."""

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest value, as a share of the median."""
        return (max(self.values) - min(self.values)) / abs(self.median) if self.median else 0.0


@attrs.frozen(kw_only=True)
class Effort:
    """How much is measured."""

    streams: tuple[int, ...] = (1, 4, 8, 16)
    prompt: int = 128
    """Tokens of the prompts of streams."""
    new: int = 64
    """Tokens that each stream generates."""
    repeat: int = 3
    """Repetitions of each work; the mixed one is done once."""
    requests: int = MIXED
    seed: int = 0


@attrs.frozen
class Run:
    """Requests that were made at once, when all have ended."""

    seconds: float
    ends: tuple[Done, ...]
    begun: tuple[float, ...]
    """When each was scheduled, in seconds from the first."""

    @property
    def firsts(self) -> list[float]:
        """When each had its first token, in seconds from the first request."""
        times = zip(self.begun, self.ends, strict=True)
        return [at + end.usage.queued + end.usage.prefill for at, end in times]

    @property
    def generated(self) -> int:
        """Tokens of all answers."""
        return sum(end.usage.generated for end in self.ends)

    def decode_rate(self) -> float:
        """Return tokens per second after every request had its first one; a task's own come evenly."""
        firsts = self.firsts
        mark = max(firsts)
        after = 0.0
        for first, end in zip(firsts, self.ends, strict=True):
            last = first + end.usage.decode
            after += (end.usage.generated - 1) * (last - mark) / (last - first) if last > mark else 0.0
        return after / (self.seconds - mark) if self.seconds > mark else 0.0


class Bench:
    """Measures one loaded model."""

    def __init__(self, client: Client, model: Model, effort: Effort) -> None:
        self._client, self._name, self.effort = client, model.name, effort
        self._process = client.process
        self._rng = random.Random(effort.seed)  # noqa: S311 - the same prompts each time
        self._pool = self._tokens(model)
        self.context = int(self.facts().get("context", 0))
        """Most tokens of a sequence, 0 where the backend does not tell."""

    def facts(self) -> Mapping[str, Any]:
        """Return what the model's executor says of itself."""
        found: Mapping[str, Any] = self._client.control("InspectModel", self._name).get("executor") or {}
        return found

    def prompt(self, length: int) -> list[int]:
        """Return random tokens."""
        return self._rng.choices(self._pool, k=length)

    def run(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> Run:
        """Make every request at once and wait for all; raise the error of the first that fails."""
        # Loading and the prompts are done: what is timed begins with the first system call.
        made = [self._task(prompt, length) for prompt, length in zip(prompts, lengths, strict=True)]
        begin = time.perf_counter()
        begun, handles = [], []
        for task in made:
            begun.append(time.perf_counter() - begin)
            handles.append(self._process.schedule(task))
        ends = tuple(outcome(self._process.recv(handle).body) for handle in handles)
        return Run(time.perf_counter() - begin, ends, tuple(begun))

    def streams(self, count: int) -> Run:
        """Run *count* prompts of the usual length at once."""
        return self.run([self.prompt(self.effort.prompt) for _ in range(count)], [self.effort.new] * count)

    def _task(self, prompt: list[int], length: int) -> Task:
        params = {"max_tokens": length, "min_tokens": length, "ignore_eos": True, "temperature": 0.0}
        return Task("generate", self._name, prompt, params=params)

    def _tokens(self, model: Model) -> list[int]:
        """Return tokens that the model's own tokenizer makes: no control token is among them."""
        rng = self._rng
        words = ("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(_WORDS))
        return sorted(set(model.tokenize(" ".join(words))))


# --- works -----------------------------------------------------------------------------------------------------


@attrs.frozen
class Work:
    """One thing to measure."""

    name: str
    needs: int
    """Tokens of context."""
    measure: Callable[[Bench], Iterator[Figure]]


def works(effort: Effort) -> list[Work]:
    """Return everything that is measured, in order."""
    found = [Work("single", effort.prompt + effort.new, _single)]
    found += [Work("concurrent", effort.prompt + effort.new, _concurrent(count)) for count in effort.streams]
    found += [Work("prefill", length + 1, _prefill(length)) for length in PREFILLS]
    found += [Work("shared-prefix", SHARED + OWN + 1, _shared_prefix), Work("mixed", 2 * LONGEST, _mixed)]
    return [*found, Work("memory", 0, _memory)]


def _single(bench: Bench) -> Iterator[Figure]:
    """Yield what one caller alone sees."""
    before = bench.facts().get("steps", {})
    runs = [bench.streams(1) for _ in range(bench.effort.repeat)]
    after = bench.facts().get("steps", {})
    first = tuple(1e3 * run.firsts[0] for run in runs)
    pauses = tuple(1e3 * run.ends[0].usage.decode / max(1, run.generated - 1) for run in runs)
    title = f"time to first token, {bench.effort.prompt} tokens of prompt"
    yield Figure(work="single", title=title, unit="ms", values=first, larger=False)
    yield Figure(work="single", title="time between tokens", unit="ms", values=pauses, larger=False)
    if guessed := after.get("guessed", 0) - before.get("guessed", 0):
        share = 100 * (after["right"] - before["right"]) / guessed
        yield Figure(work="single", title=f"right of {guessed} guessed tokens", unit="%", values=(share,))


def _concurrent(count: int) -> Callable[[Bench], Iterator[Figure]]:
    def measure(bench: Bench) -> Iterator[Figure]:
        """Yield the throughput of so many streams, and what of it is not the runtime's."""
        rates, outside, waiting = [], [], []
        for _ in range(bench.effort.repeat):
            before = bench.facts().get("steps")
            run = bench.streams(count)
            rates.append(run.decode_rate())
            after = bench.facts().get("steps")
            if before and after:
                spent = after["run_seconds"] - before["run_seconds"]
                outside.append(100 * (1 - spent / (after["step_seconds"] - before["step_seconds"])))
                waiting.append(100 * (1 - spent / run.seconds))
        called = f"{count} stream{'s' if count > 1 else ''}"
        yield Figure(work="concurrent", title=f"decode, {called}", unit="tokens/s", values=tuple(rates))
        if outside:
            title = f"steps outside of the runtime, {called}"
            yield Figure(work="outside", title=title, unit="%", values=tuple(outside), larger=False)
            title = f"all time outside of the runtime, {called}"
            yield Figure(work="outside", title=title, unit="%", values=tuple(waiting), larger=False)

    return measure


def _prefill(length: int) -> Callable[[Bench], Iterator[Figure]]:
    def measure(bench: Bench) -> Iterator[Figure]:
        """Yield how fast a prompt is read."""
        runs = [bench.run([bench.prompt(length)], [1]) for _ in range(bench.effort.repeat)]
        rates = tuple(length / run.seconds for run in runs)
        yield Figure(work="prefill", title=f"prefill of {length:,} tokens", unit="tokens/s", values=rates)

    return measure


def _shared_prefix(bench: Bench) -> Iterator[Figure]:
    """Yield the second request's time to first token over the first's, most of the prompt being the same."""
    ratios = []
    for _ in range(bench.effort.repeat):
        shared = bench.prompt(SHARED)
        first, second = (bench.run([shared + bench.prompt(OWN)], [1]).firsts[0] for _ in range(2))
        ratios.append(second / first)
    title = f"second request with {SHARED:,} shared tokens, over the first"
    yield Figure(work="shared-prefix", title=title, unit="×", values=tuple(ratios), larger=False)


def _mixed(bench: Bench) -> Iterator[Figure]:
    """Yield the throughput of many requests of different lengths, made at once."""
    rng, count = random.Random(bench.effort.seed), bench.effort.requests  # noqa: S311 - the same lengths each time
    sizes = [(rng.randint(SHORTEST, LONGEST), rng.randint(SHORTEST, LONGEST)) for _ in range(count)]
    run = bench.run([bench.prompt(length) for length, _ in sizes], [new for _, new in sizes])
    title = f"{count} requests, {SHORTEST}–{LONGEST} tokens in and out"
    yield Figure(work="mixed", title=title, unit="tokens/s", values=(run.generated / run.seconds,))
    title = "time to first token among them, median"
    yield Figure(work="mixed", title=title, unit="s", values=(statistics.median(run.firsts),), larger=False)


def _memory(bench: Bench) -> Iterator[Figure]:
    """Yield the most memory that the process held; nothing where the platform does not tell."""
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    yield Figure(work="memory", title="most memory of the process", unit="MB", values=(peak,), larger=False)


def check_effort(effort: Effort) -> None:
    """Raise `InvalidArgument` for an effort that measures nothing."""
    for field in ("prompt", "repeat", "requests"):
        if getattr(effort, field) < 1:
            raise InvalidArgument.of(field, getattr(effort, field), "at least 1")
    if effort.new < 2:
        raise InvalidArgument.of("new", effort.new, "at least 2: the first token is the prompt's")
    if not effort.streams or min(effort.streams) < 1:
        raise InvalidArgument.of("streams", effort.streams, "numbers of at least 1")
