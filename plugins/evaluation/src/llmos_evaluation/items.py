"""What became of one record: the answer, what it cost, how likely what is right was, and the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Item:
    """One record of a run."""

    number: int
    """Counted from 1, as in the suite."""
    id: str = ""
    group: str = ""
    input: Any = None
    expected: tuple[str, ...] = ()
    answer: str | None = None
    """What the model said; the likeliest label of a classification; None where it was not asked, or failed."""
    finish: str = ""
    """Why the answer ended: ``stop``, ``length``, or what the backend says."""
    usage: Mapping[str, float] = attrs.field(factory=dict)
    """Tokens of the prompt, cached and generated; seconds queued, in prefill and in decode."""
    likelihood: tuple[float, int] | None = None
    """Sum of the natural logarithms of the probabilities of the first reference's tokens, and how many they are."""
    error: Mapping[str, Any] | None = None
    """Why there is no answer: an error as it goes over the wire."""
    likelihood_error: Mapping[str, Any] | None = None
    """Why there is no likelihood, the same."""
    scores: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def failed(self) -> bool:
        """Whether something that was asked for is missing."""
        return self.error is not None or self.likelihood_error is not None

    @property
    def said(self) -> str:
        """The answer; nothing where there is none."""
        return self.answer or ""

    @property
    def first(self) -> float:
        """Seconds from acceptance to the first token."""
        return self.usage.get("queued", 0.0) + self.usage.get("prefill", 0.0)

    @property
    def total(self) -> float:
        """Seconds from acceptance to the last token."""
        return self.first + self.usage.get("decode", 0.0)

    @property
    def pauses(self) -> int:
        """How many pauses between tokens there were."""
        return max(0, int(self.usage.get("generated", 0)) - 1)
