"""How long prompts and outputs are, in tokens: distributions to draw from.

    Fixed         always the same
    Uniform       every length of a range as often
    Exponential   many short, few long
    LogNormal     the same with a longer tail: what prompts and answers of real services look like
    Empirical     the lengths that were seen, as often as they were seen

A draw is a whole number of at least one.  `most` clips: longer draws count as that, so that a context is never
exceeded; means and deviations are those before clipping and rounding.
"""

from __future__ import annotations

import abc
from functools import cached_property
from itertools import accumulate
from math import log, sqrt
from random import Random
from typing import Any

import attrs

from llmos_kernel.api import check_number, listed, number
from llmos_kernel.errors import InvalidArgument

MOST = 2**31
"""The longest length that is accepted, in tokens."""
_tokens = number(1, MOST)
_positive = number(1e-6, MOST, whole=False)


class Lengths(abc.ABC):
    """A distribution of lengths."""

    @abc.abstractmethod
    def draw(self, random: Random) -> int:
        """Return a length, in tokens, at least one."""


@attrs.frozen(kw_only=True)
class Fixed(Lengths):
    """Always the same."""

    value: int = attrs.field(validator=_tokens)

    def draw(self, random: Random) -> int:
        """Return it."""
        return self.value


@attrs.frozen(kw_only=True)
class Uniform(Lengths):
    """Every length from `low` to `high`, both included, as often."""

    low: int = attrs.field(validator=_tokens)
    high: int = attrs.field(validator=_tokens)

    def __attrs_post_init__(self) -> None:
        if self.high < self.low:
            raise InvalidArgument.of("high", self.high, f"at least low, which is {self.low}")

    def draw(self, random: Random) -> int:
        """Return a length from the range."""
        return random.randint(self.low, self.high)


@attrs.frozen(kw_only=True)
class Exponential(Lengths):
    """Many short, few long."""

    mean: float = attrs.field(validator=_positive)
    most: int = attrs.field(default=MOST, validator=_tokens)

    def draw(self, random: Random) -> int:
        """Return a length."""
        return _whole(random.expovariate(1 / self.mean), self.most)


@attrs.frozen(kw_only=True)
class LogNormal(Lengths):
    """Lengths whose logarithms are normal."""

    mean: float = attrs.field(validator=_positive)
    """Of the lengths, not of their logarithms."""
    deviation: float = attrs.field(validator=_positive)
    """Standard deviation of the lengths."""
    most: int = attrs.field(default=MOST, validator=_tokens)

    def draw(self, random: Random) -> int:
        """Return a length."""
        spread = log(1 + (self.deviation / self.mean) ** 2)
        return _whole(random.lognormvariate(log(self.mean) - spread / 2, sqrt(spread)), self.most)


@attrs.frozen(kw_only=True)
class Empirical(Lengths):
    """The lengths that were seen, `weights` saying how often; without weights each as often."""

    values: tuple[int, ...] = attrs.field(converter=listed)
    weights: tuple[float, ...] = attrs.field(default=(), converter=listed)

    @values.validator
    def _check_values(self, attribute: attrs.Attribute[Any], values: object) -> None:
        if not isinstance(values, tuple) or not values:
            raise InvalidArgument.of("values", values, "a list of lengths, at least one")
        for value in values:
            check_number("values", value, 1, MOST)

    @weights.validator
    def _check_weights(self, attribute: attrs.Attribute[Any], weights: object) -> None:
        if not isinstance(weights, tuple) or len(weights) not in (0, len(self.values)):
            raise InvalidArgument.of("weights", weights, f"a list of as many numbers as values ({len(self.values)})")
        for weight in weights:
            check_number("weights", weight, 0, MOST, whole=False)
        if weights and not sum(weights) > 0:
            raise InvalidArgument.of("weights", weights, "numbers of which at least one is above 0")

    @cached_property
    def _sums(self) -> tuple[float, ...]:
        return tuple(accumulate(self.weights or (1.0,) * len(self.values)))

    def draw(self, random: Random) -> int:
        """Return one of the lengths."""
        return random.choices(self.values, cum_weights=self._sums)[0]


def _whole(length: float, most: int) -> int:
    return max(1, round(min(length, most)))


KINDS: dict[str, type[Fixed | Uniform | Exponential | LogNormal | Empirical]] = {
    "fixed": Fixed, "uniform": Uniform, "exponential": Exponential, "lognormal": LogNormal, "empirical": Empirical,
}  # fmt: skip
"""The distributions, by the names that workload files use."""
