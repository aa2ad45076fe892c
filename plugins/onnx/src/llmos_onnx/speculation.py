"""Several tokens in one run: what followed the last tokens where they stood before is guessed to follow them again.

(Saxena 2023, "Prompt Lookup Decoding".)  The decoder runs over the next token and the guess together and gives logits
after each of them.  From the first position on, the sampler chooses as it always does, with the random number that the
row has for that position; the choice ends the run's use where it is not the guess.  So each token is one that the model
would have chosen after those before it, and there are as many of them as guesses were right, and one more.  Leviathan,
Kalman and Matias (2023, "Fast Inference from Transformers via Speculative Decoding") accept guesses so that the
distribution stays the model's own; with a guess that is certain of each token, that is what choosing first amounts to.

**The same tokens, up to rounding.**  Attention over several tokens, and some products, round differently from those
over one.  Where two tokens are closer than that, another may be chosen, so the engine does it only when told.

**Only where it pays.**  A run over several tokens costs more than one over a single token: a little where weights are
read from memory anyhow, several times as much where products of 4 bits are computed row by row.  So both are measured
as they happen, and a sequence whose guesses do not bring more tokens per second stops guessing, and tries again later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]

LONGEST: Final = 3
"""Tokens that must agree for a place to be the best one to guess from."""
SHORTEST: Final = 2
"""Fewest tokens that must agree."""
TRIAL: Final = 4
"""Guesses after which a sequence's gain is judged."""
_MEMORY: Final = 8
"""Of so many past steps an average mostly consists."""
_BEGIN, _GO_ON = 1.1, 1.0
"""The gain that a trial must bring, and the one below which guessing stops.  Between them nothing changes."""
_FIRST_REST, _LONGEST_REST = 16, 512
"""Tokens without guesses after a first trial that did not pay, and after many."""


def look_up(tokens: Ids, most: int) -> Ids:
    """Return up to *most* tokens that followed the last `LONGEST` of *tokens*, or as few as `SHORTEST`, elsewhere.

    Of several places it is the last one that *most* tokens follow, or the first one if so many follow none.  Returns no
    tokens where there is no such place.
    """
    ends, agreeing = np.flatnonzero(tokens[:-1] == tokens[-1]), 1
    while agreeing < LONGEST:
        earlier = ends[ends >= agreeing]
        longer = earlier[tokens[earlier - agreeing] == tokens[-1 - agreeing]] if len(earlier) else earlier
        if not len(longer):
            break
        ends, agreeing = longer, agreeing + 1
    if agreeing < SHORTEST or most < 1:
        return tokens[:0]
    followed = ends[ends + most < len(tokens)]
    begin = int(followed[-1] if len(followed) else ends[0]) + 1
    return tokens[begin : begin + most]


@attrs.define
class Average:
    """A mean that forgets."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Take one more *value*: the mean of the first few, then an exponential one."""
        self.count += 1
        self.value += (value - self.value) / min(self.count, _MEMORY)


@attrs.define
class Trust:
    """How far the guesses of one sequence are worth a run."""

    width: int = 4
    """Tokens of the next guess."""
    resting: int = 0
    """Tokens that are still decoded one by one before the next trial."""
    _rest: int = _FIRST_REST
    _pays: bool = False
    _seconds: Average = attrs.field(factory=Average)
    _tokens: Average = attrs.field(factory=Average)

    def decoded(self) -> None:
        """Note that a token was decoded without a guess."""
        self.resting = max(self.resting - 1, 0)

    def checked(self, guessed: int, right: int, seconds: float, plain: float) -> None:
        """Note a run of *seconds* in which *right* of the *guessed* tokens were so; *plain* is a run of one token."""
        # As in transformers' assisted generation: longer by two after a guess that was right, shorter by one otherwise.
        self.width = max(self.width, guessed + 2) if right == guessed else max(self.width - 1, 1)
        self._seconds.add(seconds)
        self._tokens.add(right + 1)
        if self._tokens.count < TRIAL:
            return
        gain = plain * self._tokens.value / self._seconds.value
        if gain >= (_GO_ON if self._pays else _BEGIN):
            self._pays, self._rest = True, _FIRST_REST
            return
        self.resting, self._rest = self._rest, min(2 * self._rest, _LONGEST_REST)
        self.width, self._pays = 4, False
        self._seconds, self._tokens = Average(), Average()


@attrs.define
class Speculation:
    """What one executor guesses: *most* tokens at once, none where it is 0."""

    most: int
    _plain: Average = attrs.field(factory=Average)
    """Seconds of a run of one token of one sequence."""

    def guess(self, trust: Trust, tokens: Ids, most: int) -> Ids:
        """Return up to *most* tokens that may follow *tokens*; none where that does not pay, or is not known yet."""
        most = min(most, self.most, trust.width)
        if most < 1 or trust.resting or not self._plain.count:
            return tokens[:0]
        return look_up(tokens, most)

    def decoded(self, trust: Trust, seconds: float) -> None:
        """Note a run of one token of one sequence."""
        self._plain.add(seconds)
        trust.decoded()

    def checked(self, trust: Trust, guessed: int, right: int, seconds: float) -> None:
        """Note a run of *seconds* in which *right* of the *guessed* tokens were so."""
        trust.checked(guessed, right, seconds, self._plain.value)
