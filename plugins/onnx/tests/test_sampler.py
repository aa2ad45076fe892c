"""The batch sampler against a plain one that does a row at a time, and against the distributions themselves."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_onnx.sampler import COLUMNS, Edit, Sampler, _keep_nucleus, apply_edits, uniforms

if TYPE_CHECKING:
    import numpy.typing as npt

VOCAB = 700


def column(**values: Any) -> npt.NDArray[Any]:
    """Return one row's parameters."""
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0, "position": 0}
    return np.array([tuple((defaults | values).values())], COLUMNS)


def plain_draw(logits: list[float], row: npt.NDArray[Any], uniform: float) -> list[int]:
    """Return the tokens that a straightforward reading of the parameters allows for *uniform*.

    More than one where *uniform* lies within rounding of the border between them.
    """
    if not row["temperature"]:
        return [max(range(len(logits)), key=lambda token: logits[token])]
    best = max(logits)
    weights = [math.exp((value - best) / float(row["temperature"])) for value in logits]
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    if row["top_k"]:
        order = order[: int(row["top_k"])]
    nucleus: list[int] = []
    total, mass = sum(weights[token] for token in order), 0.0
    for token in order:
        if nucleus and mass >= row["top_p"] * total:
            break
        nucleus.append(token)
        mass += weights[token]
    kept = sorted(token for token in nucleus if weights[token] >= row["min_p"] * weights[nucleus[0]])
    total = sum(weights[token] for token in kept)
    allowed, mass = [], 0.0
    for token in kept:
        low, high = mass / total, (mass + weights[token]) / total
        if low - 1e-5 <= uniform <= high + 1e-5 and weights[token] > 0:
            allowed.append(token)
        mass += weights[token]
    return allowed


rows = st.lists(
    st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.5]),
            "top_k": st.sampled_from([0, 1, 5, 60, VOCAB, 10_000]),
            "top_p": st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0]),
            "min_p": st.sampled_from([0.0, 0.02, 0.5, 1.0]),
            "seed": st.integers(0, 2**64 - 1),
            "position": st.integers(0, 10_000),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(rows, st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 4.0]))
def test_agrees_with_plain_sampler(params: list[dict[str, Any]], seed: int, spread: float) -> None:
    """Every row of a batch gets a token that the row-by-row reading of its parameters gives."""
    logits = (np.random.default_rng(seed).standard_normal((len(params), VOCAB)) * spread).astype(np.float32)
    columns = np.concatenate([column(**row) for row in params])
    uniform = uniforms(columns["seed"], columns["position"])
    allowed = [plain_draw(*row) for row in zip(logits.tolist(), columns, uniform.tolist(), strict=True)]
    tokens = Sampler(len(params), VOCAB).choose(logits, columns)

    assert all(token in some for token, some in zip(tokens.tolist(), allowed, strict=True)), (tokens, allowed)


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(0, 2**32))
def test_rows_do_not_depend_on_their_batch(params: list[dict[str, Any]], seed: int) -> None:
    """A row gets the same token alone as among others."""
    logits = (np.random.default_rng(seed).standard_normal((len(params), VOCAB)) * 3).astype(np.float32)
    columns = np.concatenate([column(**row) for row in params])
    sampler = Sampler(len(params), VOCAB)
    alone = [int(sampler.choose(logits[[row]], columns[[row]])[0]) for row in range(len(params))]

    assert alone == sampler.choose(logits, columns).tolist()


@pytest.mark.parametrize(
    "params",
    [{}, {"temperature": 0.5}, {"top_k": 4}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 6, "top_p": 0.9, "min_p": 0.05}],
)
def test_follows_the_distribution(params: dict[str, float]) -> None:
    """Over many positions the tokens are as frequent as their probabilities say (chi-square at 0.1 %)."""
    logits = np.random.default_rng(1).standard_normal(10).astype(np.float32)
    draws = 20_000
    columns = np.repeat(column(seed=11, **params), draws)
    columns["position"] = np.arange(draws)
    seen = np.bincount(Sampler(draws, 10).choose(np.tile(logits, (draws, 1)), columns), minlength=10)
    order = np.argsort(-logits, kind="stable")
    weights = np.exp(logits.astype(np.float64) / params.get("temperature", 1.0))
    kept = order[: int(params.get("top_k", 10))]
    share = weights[kept] / weights[kept].sum()
    kept = kept[(np.cumsum(share) - share < params.get("top_p", 1.0))]
    kept = kept[weights[kept] >= params.get("min_p", 0.0) * weights[kept[0]]]
    expected = np.zeros(10)
    expected[kept] = weights[kept] / weights[kept].sum() * draws
    statistic = float(((seen[kept] - expected[kept]) ** 2 / expected[kept]).sum())
    # The 0.1 % points of chi-square for 1 to 9 degrees of freedom.
    limits = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88]

    assert draws == seen[kept].sum()
    assert statistic < limits[len(kept) - 2]


@pytest.mark.parametrize("stride", [1, 0x9E3779B97F4A7C15])
def test_random_numbers_are_uniform_over_seeds_and_positions(stride: int) -> None:
    """Neither neighbouring seeds nor those that differ by the generator's own step share their numbers."""
    seeds = np.arange(300, dtype=np.uint64) * np.uint64(stride)
    grid = uniforms(np.repeat(seeds, 300), np.tile(np.arange(300, dtype=np.uint64), 300))
    counts = np.bincount((grid * 64).astype(int), minlength=64)
    statistic = float(((counts - len(grid) / 64) ** 2 / (len(grid) / 64)).sum())

    assert len(grid) == len(np.unique(grid))
    assert statistic < 103.4  # 0.1 % point for 63 degrees of freedom
    assert 0 <= grid.min()
    assert grid.max() < 1


def test_greedy_takes_the_lowest_of_equals() -> None:
    """Equal logits are decided by the lower id, as argmax does everywhere."""
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, [90, 400]] = 1

    assert [90] == Sampler(1, VOCAB).choose(logits, column(temperature=0.0)).tolist()


def test_row_that_is_not_finite() -> None:
    """NaN, infinity or nothing but forbidden tokens give -1; other rows are not affected."""
    logits = np.zeros((5, VOCAB), np.float32)
    logits[0, 3], logits[1, 3], logits[2], logits[3:, 7] = np.nan, np.inf, -np.inf, 9
    columns = np.repeat(column(temperature=1e-3, top_p=0.5), 5)
    columns["temperature"][4] = 0

    assert [-1, -1, -1, 7, 7] == Sampler(5, VOCAB).choose(logits, columns).tolist()


def plain_edit(logits: list[float], edit: Edit) -> list[float]:
    """Apply the penalties one token at a time."""
    result = list(logits)
    for token in set(edit.seen.tolist()):
        result[token] = result[token] / edit.repetition if result[token] > 0 else result[token] * edit.repetition
    output = edit.output.tolist()
    for token in set(output):
        result[token] -= edit.presence + edit.frequency * output.count(token)
    for token, bias in zip(edit.bias_ids.tolist(), edit.bias.tolist(), strict=True):
        result[token] += bias
    for token in edit.banned.tolist():
        result[token] = -math.inf
    return result


def test_edits_agree_with_plain_ones() -> None:
    """Penalties, biases and bans of several rows at once are those of each row by itself."""
    chance = random.Random(5)
    logits = np.random.default_rng(5).standard_normal((4, 50)).astype(np.float32) * 3
    edits = []
    for row, (repetition, presence, frequency) in enumerate([(1.3, 0.0, 0.0), (1.0, 0.7, 0.2), (0.8, -0.5, 0.0)]):
        tokens = np.array([chance.randrange(50) for _ in range(30)])
        edits.append(
            Edit(
                row=row + 1, seen=tokens, output=tokens[10:], repetition=repetition, presence=presence,
                frequency=frequency, bias_ids=np.array([4, 9]), bias=np.array([2.0, -3.0], np.float32),
                banned=np.array([row, 40]),
            )
        )  # fmt: skip
    expected = [logits[0].tolist(), *(plain_edit(logits[edit.row].tolist(), edit) for edit in edits)]
    apply_edits(logits, edits)

    np.testing.assert_allclose(expected, logits, rtol=1e-5, atol=1e-5)


def words(allowed: list[int], vocab: int) -> npt.NDArray[np.uint32]:
    """Return a bit per token, 32 in a word."""
    found = np.zeros(-(-vocab // 32), np.uint32)
    for token in allowed:
        found[token // 32] |= np.uint32(1 << token % 32)
    return found


@settings(max_examples=60)
@given(rows, st.integers(0, 2**32), st.integers(1, 40))
def test_only_allowed_tokens(params: list[dict[str, Any]], seed: int, count: int) -> None:
    """Rows with a mask get what the plain sampler gives for the allowed tokens; other rows are as without them."""
    chance = np.random.default_rng(seed)
    logits = (chance.standard_normal((len(params), VOCAB)) * 3).astype(np.float32)
    columns = np.concatenate([column(**row) for row in params])
    free = Sampler(len(params), VOCAB).choose(logits.copy(), columns).tolist()
    masks = {row: chance.choice(VOCAB, count, replace=False).tolist() for row in range(0, len(params), 2)}
    none = np.zeros(0, np.int64)
    edits = [Edit(row=row, seen=none, output=none, allowed=words(some, VOCAB)) for row, some in masks.items()]
    uniform = uniforms(columns["seed"], columns["position"])
    expected = []
    for row, token in enumerate(free):
        some = set(masks.get(row, range(VOCAB)))
        scores = [value if at in some else -1e30 for at, value in enumerate(logits[row].tolist())]
        expected.append(plain_draw(scores, columns[row], uniform[row]) if row in masks else [token])
    tokens = Sampler(len(params), VOCAB).choose(logits, columns, edits).tolist()

    assert all(token in some for token, some in zip(tokens, expected, strict=True)), (tokens, expected)


def test_log_probs() -> None:
    """Log probabilities sum to one, and the most likely tokens come first."""
    logits = np.random.default_rng(2).standard_normal((2, VOCAB)).astype(np.float32) * 4
    full, few = Sampler(2, VOCAB).log_probs(logits, np.array([5, 6]), [VOCAB, 3])

    assert math.isclose(1.0, sum(math.exp(value) for _, value in full.top), rel_tol=1e-6)
    assert math.isclose(dict(full.top)[5], full.chosen, rel_tol=1e-6)
    assert np.argsort(-logits[1], kind="stable")[:3].tolist() == [token for token, _ in few.top]


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.5, 0.9, 0.999]), st.sampled_from([0.0, 0.1, 1.0, 8.0]))
def test_nucleus_without_sorting(seed: int, top_p: float, spread: float) -> None:
    """The fewest greatest weights that reach the share are kept, of equal ones the lower ids, as sorting finds them."""
    chance = np.random.default_rng(seed)
    scores = np.round(chance.standard_normal(VOCAB) * spread, int(chance.integers(0, 4)))
    weights = np.exp(scores - scores.max()).astype(np.float32)
    order = sorted(range(VOCAB), key=lambda token: (-weights[token], token))
    total, mass, kept = math.fsum(weights.tolist()), 0.0, 0
    while not kept or mass < top_p * total * (1 - 1e-9):
        mass, kept = mass + float(weights[order[kept]]), kept + 1
    _keep_nucleus(weights, top_p)

    assert set(order[:kept]) == set(np.flatnonzero(weights).tolist())


@pytest.mark.parametrize("top_p", [0.5, 0.99])
def test_nucleus_wider_than_the_first_candidates(top_p: float) -> None:
    """A flat distribution's nucleus is found whole, however many tokens it takes."""
    vocab, draws = 2048, 1000
    columns = np.repeat(column(top_p=top_p, seed=3), draws)
    columns["position"] = np.arange(draws)
    tokens = Sampler(draws, vocab).choose(np.zeros((draws, vocab), np.float32), columns)

    assert tokens.max() < math.ceil(vocab * top_p)
    assert tokens.max() > vocab * top_p * 0.98
