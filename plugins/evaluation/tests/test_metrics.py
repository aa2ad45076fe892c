"""Metrics against what others computed or published."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_evaluation import METRICS, Item
from llmos_evaluation.metrics import SPEED, percentile, throughput
from llmos_evaluation.overlap import exact, exact_normalized, f1, rouge_l, rouge_n, words
from llmos_kernel.errors import InvalidArgument

REFERENCES = [
    ("The dog bit the man.", "The dog had bit the man."),
    ("It was not unexpected.", "No one was surprised."),
    ("The man bit him first.", "The man had bitten the dog."),
]
ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]


def items(answers: list[str] = ANSWERS) -> list[Item]:
    """Return the example of sacrebleu's documentation."""
    pairs = zip(answers, REFERENCES, strict=True)
    return [Item(number=n, answer=answer, expected=right) for n, (answer, right) in enumerate(pairs, 1)]


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        (" Paris\n", "Paris", 1), ("paris", "Paris", 0), ("caf\u0065\u0301", "caf\u00e9", 1),
        ("The  cat", "The cat", 0),
    ],
)  # fmt: skip
def test_exact(answer: str, reference: str, right: int) -> None:
    """White space at the ends and the form of Unicode are all that may differ."""
    assert right == exact(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "same", "score"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("in the year 1066", "1066", 0, 0.5),  # 1 shared of 3 and 1: 2 * (1/3 * 1) / (1/3 + 1)
        ("Denver Broncos won", "the Denver Broncos", 0, 0.8),  # 2 shared of 3 and 2
        ("a cat a cat", "cat", 0, 2 / 3),  # a word counts as often as both have it
        ("nothing", "", 0, 0),
        ("the", "", 1, 1),
    ],
)
def test_squad(answer: str, reference: str, same: int, score: float) -> None:
    """Exact match and F1 by the formula of SQuAD's paper, worked out by hand."""
    assert pytest.approx((same, score)) == (exact_normalized(answer, reference), f1(answer, reference))


ROUGE = [
    (
        "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.",
        0.705882, 0.266667, 0.588235,
    ),
    ("police killed the gunman", "police kill the gunman", 0.75, 0.333333, 0.75),
    ("police killed the gunman", "the gunman kill police", 0.75, 0.333333, 0.5),
    ("a b c d e f", "a b c", 0.666667, 0.571429, 0.666667),
    ("It's 10% more, isn't it?", "it is 10 percent more", 0.5, 0.0, 0.5),
    ("", "", 0.0, 0.0, 0.0),
    ("x", "y", 0.0, 0.0, 0.0),
]  # fmt: skip
"""Reference, answer, and what rouge-score 0.1.2 says; the second and third are the example of Lin 2004."""


@pytest.mark.parametrize(("reference", "answer", "one", "two", "longest"), ROUGE)
def test_rouge(reference: str, answer: str, one: float, two: float, longest: float) -> None:
    """The same as the package rouge-score, to six digits."""
    found = (rouge_n(answer, reference, 1), rouge_n(answer, reference, 2), rouge_l(answer, reference))

    assert pytest.approx((one, two, longest), abs=1e-6) == found


def test_words_of_east_asia() -> None:
    """Each character is a word, since nothing separates them."""
    assert ["红", "鸟", "abc", "12", "猫"] == words("红鸟ABC-12,猫。")


def test_bleu_and_chrf() -> None:
    """The example of sacrebleu's documentation, as its own program prints it."""
    bleu, chrf = (METRICS[name].figure(items()) for name in ("bleu", "chrf"))

    assert ("48.53", "59.73") == (f"{bleu.value:.2f}", f"{chrf.value:.2f}")
    assert bleu.low is not None
    assert bleu.high is not None
    assert bleu.low < bleu.high
    assert [100.0, 3] == [pytest.approx(METRICS["bleu"].score(items()[0])), bleu.n]


def test_bleu_of_two() -> None:
    """No difference is likely; the answers that are the references against none of their words are not."""
    right, wrong = items([one for one, _ in REFERENCES]), items(["x y z", "x y z", "x y z"])
    metric = METRICS["bleu"].corpus

    assert metric is not None
    assert 1.0 == metric.p_value(items(), items())
    assert 0.05 > metric.p_value(right * 5, wrong * 5)


def test_bleu_of_chinese() -> None:
    """Characters are its words: 3 of 4 single ones, 2 of 3 pairs and 1 of 2 triples are right, by hand.

    The only run of four is wrong, and is smoothed to half a right one.
    """
    one = Item(number=1, answer="红鸟看猫", expected=("红鸟看狗",))
    by_hand = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)

    assert pytest.approx(by_hand) == METRICS["bleu-zh"].figure([one]).value
    assert 0 == METRICS["bleu"].figure([one]).value


def test_references_of_different_number() -> None:
    """A record with fewer references than another has only its own."""
    one = Item(number=1, answer="a b c d", expected=("a b c d",))
    two = Item(number=2, answer="e f g h", expected=("x", "e f g h"))

    assert pytest.approx(100.0) == METRICS["bleu"].figure([one, two]).value


def test_sacrebleu_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, what to install is said."""
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(InvalidArgument, match=r"llmos-evaluation\[bleu\]"):
        METRICS["bleu"].score(items()[0])


def test_the_best_reference_counts() -> None:
    """In per cent; a record that failed has 0."""
    metric = METRICS["exact"]
    right = Item(number=1, answer="b", expected=("a", "b"))
    failed = Item(number=2, answer=None, expected=("",), error={"error": "Overloaded"})

    assert (100.0, 0.0) == (metric.score(right), metric.score(failed))
    assert (50.0, 2) == (metric.figure([right, failed]).value, metric.figure([right, failed]).n)


def test_perplexity() -> None:
    """Of all tokens together: exp(-(ln 1/2 + ln 1/8 + ln 1/8) / 3), and not the mean of two records'."""
    metric = METRICS["perplexity"]
    first = Item(number=1, likelihood=(math.log(1 / 2), 1))
    second = Item(number=2, likelihood=(2 * math.log(1 / 8), 2))
    unknown = Item(number=3)

    assert pytest.approx(128 ** (1 / 3)) == metric.figure([first, second, unknown]).value
    assert [pytest.approx(2.0), pytest.approx(8.0), None] == [metric.score(one) for one in (first, second, unknown)]


def test_speed() -> None:
    """Times are the kernel's: queued and prefill to the first token, then decode over the pauses."""
    usage = {"generated": 5, "queued": 0.1, "prefill": 0.2, "decode": 0.4}
    one = Item(number=1, answer="x", usage=usage)
    single = Item(number=2, answer="y", usage={"generated": 1, "queued": 0.0, "prefill": 0.1, "decode": 0.0})
    found = {metric.name: metric.figure([one, single, Item(number=3)]) for metric in SPEED}

    assert (200.0, 2, 100.0, 300.0) == pytest.approx(
        tuple(getattr(found["first-token"], name) for name in ("value", "n", "p50", "p95"))
    )
    assert (100.0, 1) == pytest.approx((found["between-tokens"].value, found["between-tokens"].n))
    assert pytest.approx(400.0) == found["total-time"].value
    assert (3.0, "tokens/s") == (throughput([one, single], 2.0).value, throughput([one], 2.0).unit)


@pytest.mark.parametrize(("percent", "right"), [(5, 15), (30, 20), (40, 20), (50, 35), (95, 50), (100, 50)])
def test_percentiles(percent: int, right: int) -> None:
    """The nearest rank, on the textbook's example."""
    assert right == percentile([15, 20, 35, 40, 50], percent)


def test_nothing_to_measure() -> None:
    """A figure of no records is 0, of 0 records, and not an error."""
    figure = METRICS["perplexity"].figure([Item(number=1)])

    assert (0.0, 0, None) == (figure.value, figure.n, figure.low)


TEXTS = st.lists(st.sampled_from(["a", "the", "B", "c!", "猫", "x9"]), max_size=8).map(" ".join)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(TEXTS, TEXTS)
def test_overlap_is_a_share(one: str, other: str) -> None:
    """From 0 to 1, the same both ways, 1 for a text with words and itself, and none is above the F1 of single words."""
    for compare in (exact_normalized, f1, rouge_l, lambda a, b: rouge_n(a, b, 1), lambda a, b: rouge_n(a, b, 2)):
        assert 0 <= compare(one, other) <= 1
        assert compare(one, other) == pytest.approx(compare(other, one))
    assert rouge_l(one, other) <= rouge_n(one, other, 1) + 1e-9
    assert not words(one) or 1 == rouge_l(one, one) == rouge_n(one, one, 1)
    assert exact_normalized(one, other) <= f1(one, other)
