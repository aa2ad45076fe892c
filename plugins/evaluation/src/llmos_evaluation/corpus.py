"""BLEU and chrF as sacrebleu computes them: of all records together, with its own resampling (Post 2018).

sacrebleu takes a third of a second to import and is an extra: it is imported when one of the two is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llmos_evaluation.items import Item
from llmos_kernel.errors import InvalidArgument

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Scorer
    from sacrebleu.significance import Result

_HOW = "pip install 'llmos-evaluation[bleu]'"


@attrs.frozen
class Corpus:
    """One of sacrebleu's metrics; its scores are from 0 to 100."""

    name: str
    _make: Callable[[Any, bool], Scorer]
    """Makes it from sacrebleu's module of metrics, for all records or for single ones."""

    def sentence(self, item: Item) -> float:
        """Return the score of one record alone."""
        scorer = self._make(_sacrebleu(self.name), True)
        return float(scorer.sentence_score(item.said, list(item.expected)).score)

    def figure(self, items: Sequence[Item]) -> tuple[float, float, float]:
        """Return the score of all records together, and the bounds that 95 of 100 resampled scores lie between."""
        found = self._tested([items])[0]
        mean, reach = found.mean or 0.0, found.ci or 0.0
        return float(found.score), float(mean - reach), float(mean + reach)

    def p_value(self, first: Sequence[Item], second: Sequence[Item]) -> float:
        """Return the probability of so large a difference by chance: sacrebleu's paired bootstrap (Koehn 2004).

        Its test takes no difference at all for a certain one; here that is what chance always makes.
        """
        one, other = self._tested([first, second])
        return 1.0 if one.score == other.score else float(other.p_value or 0.0)

    def _tested(self, answers: Sequence[Sequence[Item]]) -> list[Result]:
        metrics = _sacrebleu(self.name)
        from sacrebleu.significance import PairedTest, Result  # noqa: PLC0415 - it is there, or the line above has raised

        systems: list[tuple[str, Sequence[str]]] = [
            (str(number), [item.said for item in items]) for number, items in enumerate(answers)
        ]
        most = max(len(item.expected) for item in answers[0])
        references = [[_nth(item.expected, at) for item in answers[0]] for at in range(most)]
        test = PairedTest(systems, {self.name: self._make(metrics, False)}, references, test_type="bs")
        return [one for column in test()[1].values() for one in column if isinstance(one, Result)]


def _nth(references: Sequence[str], at: int) -> Any:  # noqa: ANN401 - sacrebleu takes None for one that is missing
    return references[at] if at < len(references) else None


def _sacrebleu(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        from sacrebleu import metrics  # noqa: PLC0415 - a third of a second that only these metrics pay
    except ImportError as error:
        message = f"{name} needs the package sacrebleu: {_HOW}"
        raise InvalidArgument(message, field="metrics", value=name, expected=_HOW) from error
    return metrics


BLEU = Corpus("bleu", lambda metrics, alone: metrics.BLEU(effective_order=alone))
"""With a single record, orders that it is too short for do not count."""
BLEU_ZH = Corpus("bleu-zh", lambda metrics, alone: metrics.BLEU(effective_order=alone, tokenize="zh"))
"""Each Chinese character is a word; by default a sentence of them would be one."""
CHRF = Corpus("chrf", lambda metrics, alone: metrics.CHRF())
