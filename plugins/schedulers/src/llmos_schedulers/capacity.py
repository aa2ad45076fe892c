"""How many users a model can hold: queueing theory for a server that batches.

The tasks in service share each step, so the machine is one server whose speed depends on how many there are: a
birth-death process with the rate of ends

    rate(n) = n / (steps of a task * seconds of a step with n tasks)      up to the number of places, then as with all

and the steps' times from a measured profile (`llmos.StepProfile`).  Tasks beyond the places wait in order of arrival.
Kleinrock, "Queueing Systems", volume I (1975), chapter 3, and Gelenbe and Mitrani, "Analysis and Synthesis of Computer
Systems" (1980), have the process.  Users are of one of two sorts:

    think                  each waits for the answer, thinks for a while, and asks again: a closed network with a
                           load-dependent server (Reiser and Lavenberg, JACM 27, 1980); who asks finds the state that
                           the network would have with one user fewer (Sevcik and Mitrani, JACM 28, 1981)
    requests_per_minute    each asks at random, answered or not: arrivals are Poisson, and find the state as it is

A task that finds `n` tasks, with `c` places, waits for `n - c + 1` ends, an Erlang time.  With a place free it waits
for the end of the running step and for prompts that are computed first, as before a server with constant times.  So
percentiles come from the distribution and not from the mean.  Services that vary more or less than exponential ones
make the line beyond the places longer or shorter: its probabilities change by factors to the power 2 / (1 + squared
coefficient of variation), as in the diffusion limit (Kleinrock, volume II, 1976, section 2.8), which for one server has
Pollaczek's and Khinchine's mean.

The steps of a task are the pieces of its prompt and one for each further token; a step holds as many pieces as there
are on average, at random, and no more prompt tokens than `chunk`.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, exp, inf
from typing import Any

import attrs

from llmos import StepProfile
from llmos_kernel.api import MAX_SECONDS, check_number, number
from llmos_kernel.errors import InvalidArgument

MOST_USERS = 100_000
"""Users beyond which nobody is looked for."""
BUSIEST = 0.98
"""The most of the time that prompts are taken to be computed in: with more, the line is that before the places."""
NEGLIGIBLE = 1e-12
"""Part of the whole probability that is left out at the end of a distribution."""
STATES = 2 * MOST_USERS
CHUNK = 512
"""Prompt tokens in one step, if nothing else is said: what the schedulers do."""

_tokens = number(1, 2**30, whole=False)
_rate = attrs.validators.optional(number(1e-6, 1e6, whole=False))


@attrs.frozen(kw_only=True)
class Usage:
    """What one user does."""

    prompt: float = attrs.field(validator=_tokens)
    """Mean tokens of a prompt that are not cached."""
    output: float = attrs.field(validator=_tokens)
    """Mean tokens of an answer."""
    variability: float = attrs.field(default=1.0, validator=number(0, 10, whole=False))
    """Deviation of an answer's length by its mean: 0 if all are alike, 1 if they vary as by chance."""
    think: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(1e-3, MAX_SECONDS, whole=False))
    )
    """Mean seconds from an answer to the next request; or else `requests_per_minute`."""
    requests_per_minute: float | None = attrs.field(default=None, validator=_rate)

    def __attrs_post_init__(self) -> None:
        if (self.think is None) == (self.requests_per_minute is None):
            other = "is given as well: one of them" if self.think is not None else "is given"
            raise InvalidArgument.of("think", self.think, f"a number of seconds, unless requests_per_minute {other}")


@attrs.frozen(kw_only=True)
class Batching:
    """A model that batches, as its profile says, used in one way."""

    profile: StepProfile
    usage: Usage
    chunk: int = attrs.field(default=CHUNK, validator=number(1, 2**20))
    """Most prompt tokens in one step."""

    def __attrs_post_init__(self) -> None:
        longest = self.usage.prompt + self.usage.output
        if longest > self.profile.context:
            expected = f"at most {self.profile.context:g} with the output: what the model's context holds"
            raise InvalidArgument.of("prompt", self.usage.prompt, expected)
        if self.seconds(1) <= 0:
            raise InvalidArgument.of("profile", self.profile.model, "one of a model whose steps take time")

    @property
    def piece(self) -> int:
        """Most prompt tokens of one task in a step."""
        return min(self.chunk, self.profile.tokens)

    @property
    def pieces(self) -> int:
        """Steps that compute a prompt; the last one yields the first token."""
        return ceil(self.usage.prompt / self.piece)

    @property
    def turn(self) -> float:
        """Steps that are taken up by one prompt: its pieces, or its part of a step that several fit into whole."""
        return self.pieces if self.pieces > 1 else 1 / (self.piece // self.usage.prompt)

    @property
    def steps(self) -> float:
        """Mean steps of a task."""
        return self.pieces + self.usage.output - 1

    @property
    def variation(self) -> float:
        """The squared coefficient of variation of the steps of a task."""
        return (self.usage.variability * self.usage.output / self.steps) ** 2

    def begun(self, tasks: int) -> float:
        """Return how many tasks begin per step, on average, when so many are in service."""
        return min(min(tasks, self.profile.rows) / self.steps, 1 / self.turn)

    def seconds(self, tasks: int, prompts: float | None = None) -> float:
        """Return the mean seconds of a step with *tasks* in service, or of one with so many pieces of *prompts*.

        None is any step: one with the pieces that there are, or without any.
        """
        begun, usage, profile = self.begun(tasks), self.usage, self.profile
        if prompts is None:
            part = self.mixed(tasks)
            with_prompts = self.seconds(tasks, self.together(tasks))
            return part * with_prompts + (1 - part) * self.seconds(tasks, 0.0)
        decoding = begun * (usage.output - 1)
        # The cache before the task's tokens: its prompt and, on average over its steps, what it has said.
        second = usage.output**2 * (1 + usage.variability**2)
        held = begun * ((usage.output - 1) * usage.prompt + max(second - usage.output, 0.0) / 2)
        tokens = prompts * usage.prompt / self.pieces
        before = prompts * usage.prompt * (self.pieces - 1) / (2 * self.pieces)
        pairs = prompts * usage.prompt / self.pieces * max(usage.prompt - 1, 0) / 2
        least = profile.fixed + profile.per_row * (decoding + prompts) + profile.per_context_token * (held + before)
        if not prompts:
            return least
        passes = max(prompts, 1) + 1 - exp(-decoding)
        more = profile.per_prompt_token * tokens + profile.per_prompt_context * pairs
        return least + profile.prompt_fixed + profile.per_pass * (passes - 1) + more

    def mixed(self, tasks: int) -> float:
        """Return the part of steps that compute a piece of a prompt."""
        return 1 - exp(-self.begun(tasks) * self.pieces)

    def together(self, tasks: int) -> float:
        """Return how many pieces of prompts a step computes that computes any."""
        return self.begun(tasks) * self.pieces / self.mixed(tasks)

    def rate(self, tasks: int) -> float:
        """Return how many tasks end per second when so many are in service."""
        return self.begun(tasks) / self.seconds(tasks)

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """By the number of tasks, from none to as many as there are places."""
        return (0.0, *(self.rate(tasks) for tasks in range(1, self.profile.places + 1)))

    @property
    def most(self) -> float:
        """Tasks per second that can be served."""
        return self.rates[-1]


@attrs.frozen(kw_only=True)
class Load:
    """What so many users get.  Seconds; `inf` where the line grows without end."""

    users: int
    utilisation: float
    """Tasks per second, as a share of what can be served."""
    tasks: float
    """Tasks per second."""
    mean_wait: float
    """Until the first step of a task."""
    wait: float
    """What the share of the tasks that was asked for waits at most."""
    first: float
    """Mean time to the first token."""


@attrs.frozen
class _Waits:
    """Waits, from the state that arrivals find and from how many come per second."""

    batching: Batching
    found: tuple[float, ...]
    """The probability of each number of tasks."""
    rate: float
    """Tasks of others per second."""

    @cached_property
    def _steps(self) -> list[tuple[float, float, float]]:
        """By tasks: the seconds of a step without and with prompts, and the share of the time that is in the latter."""
        batching, made = self.batching, [(0.0, 0.0, 0.0)]
        for tasks in range(1, batching.profile.places):
            part = batching.mixed(tasks)
            plain, mixed = batching.seconds(tasks, 0.0), batching.seconds(tasks, batching.together(tasks))
            made.append((plain, mixed, part * mixed / (part * mixed + (1 - part) * plain)))
        return made

    @cached_property
    def _prompts(self) -> tuple[float, float]:
        """Return the probability that other prompts are computed first, and the mean time for that, as in M/D/1."""
        tasks = sum(chance * min(count, self.batching.profile.places) for count, chance in enumerate(self.found))
        usual = max(1, round(tasks))
        seconds = self.batching.turn * self.batching.seconds(usual, self.batching.together(usual))
        busy = min(self.rate * seconds, BUSIEST)
        return busy, busy * seconds / (2 * (1 - busy))

    @cached_property
    def mean(self) -> float:
        """Mean seconds until the first step."""
        places, (busy, seconds) = self.batching.profile.places, self._prompts
        running = sum(
            chance * (share * mixed + (1 - share) * plain) / 2
            for chance, (plain, mixed, share) in zip(self.found, self._steps, strict=False)
        )
        ends = sum(chance * (count + 1) for count, chance in enumerate(self.found[places:]))
        return running + ends / self.batching.most + busy * seconds

    def beyond(self, seconds: float) -> float:
        """Return the probability of waiting for longer."""
        late, places = 0.0, self.batching.profile.places
        for chance, (plain, mixed, share) in zip(self.found, self._steps, strict=False):
            late += chance * ((1 - share) * self._begins(plain, seconds) + share * self._begins(mixed, seconds))
        ends = self.batching.most * seconds
        term, tail = exp(-ends), 0.0
        for count, chance in enumerate(self.found[places:]):
            tail = min(tail + term, 1.0)
            late += chance * tail
            term *= ends / (count + 1)
        return late

    def _begins(self, step: float, seconds: float) -> float:
        """Return the probability of waiting for longer for the end of a running *step*, and for other prompts."""
        if not step:
            return 0.0
        busy, mean = self._prompts
        rest = max(1 - seconds / step, 0.0)
        if not mean:
            return rest
        both = rest + mean / step * (exp(-max(seconds - step, 0.0) / mean) - exp(-seconds / mean))
        return (1 - busy) * rest + busy * both

    def percentile(self, share: float) -> float:
        """Return what *share* of the tasks wait at most."""
        if self.beyond(0.0) <= 1 - share:
            return 0.0
        low, high = 0.0, self.mean + 1e-9
        while self.beyond(high) > 1 - share:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.beyond(middle) > 1 - share else (low, middle)
        return high


def load(batching: Batching, users: int, share: float = 0.95) -> Load:
    """Return what so many *users* get; *share* is the percentile of the wait.  Raises `InvalidArgument`."""
    check_number("users", users, 1, MOST_USERS)
    check_number("share", share, 0.01, 0.9999, whole=False)
    usage, rate = batching.usage, 0.0
    if usage.requests_per_minute is not None:
        rate = users * usage.requests_per_minute / 60
        if rate >= batching.most * (1 - 1e-6):
            return Load(
                users=users, utilisation=rate / batching.most, tasks=batching.most, mean_wait=inf, wait=inf, first=inf
            )
        found = seen = _states(batching, users, rate)
    else:
        found, seen = _states(batching, users, 0.0), _states(batching, users - 1, 0.0)
        rate = sum(chance * batching.rates[min(tasks, batching.profile.places)] for tasks, chance in enumerate(found))
    others = 1.0 if usage.think is None else (users - 1) / users
    waits = _Waits(batching, seen, rate * others)
    prefill = sum(chance * _prefill(batching, tasks) for tasks, chance in enumerate(seen))
    mean = waits.mean
    return Load(
        users=users, utilisation=rate / batching.most, tasks=rate, mean_wait=mean, wait=waits.percentile(share),
        first=mean + prefill,
    )  # fmt: skip


def _prefill(batching: Batching, tasks: int) -> float:
    """Return the seconds of the prompt of one who finds so many *tasks*."""
    with_it = min(tasks + 1, batching.profile.places)
    others = batching.begun(with_it) * batching.pieces * (with_it - 1) / with_it
    return batching.pieces * batching.seconds(with_it, min(1 + others, max(1.0, 1 / batching.turn)))


def _states(batching: Batching, users: int, rate: float) -> tuple[float, ...]:
    """Return the probability of each number of tasks, of *users* who think, or with arrivals at *rate*."""
    weights, total, places = [1.0], 1.0, batching.profile.places
    think, power = batching.usage.think, 2 / (1 + batching.variation)
    most = STATES if think is None else users
    for tasks in range(most):
        coming = rate if think is None else (users - tasks) / think
        ends = batching.rates[min(tasks + 1, places)]
        weights.append(weights[-1] * (coming / ends) ** (power if tasks >= places else 1.0))
        total += weights[-1]
        if weights[-1] > 1e200:
            weights, total = [weight / 1e200 for weight in weights], total / 1e200
        if coming < ends and tasks > places and weights[-1] < NEGLIGIBLE * total * (1 - coming / ends):
            break
    return tuple(weight / total for weight in weights)


def capacity(batching: Batching, wait: float, share: float = 0.95) -> Load | None:
    """Return the load of as many users as there can be if *share* of their tasks is to wait *wait* seconds at most.

    None if it is too much to ask for one; `MOST_USERS` are the most that are looked for.
    """
    check_number("wait", wait, 0, MAX_SECONDS, whole=False)
    if (best := load(batching, 1, share)).wait > wait:
        return None
    users, step = 1, 1
    while users < MOST_USERS and step:
        found = load(batching, min(users + step, MOST_USERS), share)
        if found.wait <= wait:
            users, best = found.users, found
            step *= 2
        else:
            break
    while step > 1:
        step //= 2
        found = load(batching, min(users + step, MOST_USERS), share)
        if found.wait <= wait:
            users, best = found.users, found
    return best


def points(batching: Batching, best: int, share: float = 0.95, count: int = 10) -> list[Load]:
    """Return loads of fewer users than *best*, and of some more."""
    users = {max(1, round(best * at * 1.5 / count)) for at in range(1, count + 1)} | {best}
    return [load(batching, one, share) for one in sorted(users) if one <= MOST_USERS]


def plain(one: Load) -> dict[str, Any]:
    """Return *one* for JSON: None where the line grows without end."""
    return {name: None if value == inf else value for name, value in attrs.asdict(one).items()}
