"""Choosing the next token of a whole batch at once.

    edit       penalties, biases and bans change a few logits of the rows that ask for them
    temperature → top_k → top_p → min_p → one draw     (the order of transformers' logits processors)

**Same tokens, whoever else is in the batch.**  A row's random number depends on its seed and on its position in the
output alone: it is the position-th output of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators").  Sums whose length depends on the batch are running sums, which trailing zeros do not change;
pairwise sums are taken over fixed lengths only.

**Speed.**  Sorting 50,000 logits per row costs more than the model's own step, so it is avoided: the k-th greatest of
the maxima of V / 64 groups is a lower bound of the k-th greatest logit, and few logits lie above it.  Only those
candidates are sorted.  A draw inverts the running sum in the order of ids: first a block of 64 tokens, then a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int64]

COLUMNS: Final = np.dtype(
    [
        ("temperature", np.float32), ("top_k", np.int64), ("top_p", np.float64), ("min_p", np.float64),
        ("seed", np.uint64), ("position", np.uint64),
    ]
)  # fmt: skip
"""What drawing needs to know of a row; ``position`` counts the tokens that the row has generated."""

_BLOCK: Final = 64
_NUCLEUS: Final = 256
"""Candidates tried first for a row with top_p and without top_k."""
_BUCKET_BITS: Final = np.uint32(18)
"""Lower bits of a weight that do not count for its bucket; 14 remain, of which a quarter occurs."""


@attrs.frozen(eq=False)
class Edit:
    """What changes one row's logits before the draw."""

    row: int
    seen: Ids
    """Prompt and output: what the repetition penalty applies to."""
    output: Ids
    """Output alone, repeats included: what presence and frequency penalties apply to."""
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias_ids: Ids = attrs.field(factory=lambda: np.zeros(0, np.int64))
    bias: Floats = attrs.field(factory=lambda: np.zeros(0, np.float32))
    banned: Ids = attrs.field(factory=lambda: np.zeros(0, np.int64))
    """Tokens that must not be chosen."""
    allowed: npt.NDArray[np.uint32] | None = None
    """A bit per token, the lowest first: the only tokens that may be chosen."""


@attrs.frozen
class LogProb:
    """Log probabilities of one position, from the model's own distribution (before penalties and temperature)."""

    chosen: float
    top: tuple[tuple[int, float], ...]
    """(token, log probability) of the most likely tokens, most likely first."""


class Sampler:
    """Draws tokens for up to *rows* rows over *vocab* tokens.  Not for concurrent use: it reuses its memory."""

    def __init__(self, rows: int, vocab: int) -> None:
        self._vocab = vocab
        self._blocks = -(-vocab // _BLOCK)
        self._scratch = np.zeros((rows, self._blocks * _BLOCK), np.float32)

    def choose(self, logits: Floats, columns: npt.NDArray[Any], edits: Sequence[Edit] = ()) -> Ids:
        """Return a token per row of *logits* (float32 ``[rows, vocab]``, changed in place); *columns* are `COLUMNS`.

        A row whose logits are not finite gets -1.
        """
        if edits:
            apply_edits(logits, edits)
        tokens: Ids = logits.argmax(axis=1)
        best = logits[np.arange(len(tokens)), tokens]
        finite = np.isfinite(best)
        drawn = np.flatnonzero((columns["temperature"] > 0) & finite)
        if len(drawn):
            some = logits if len(drawn) == len(tokens) else logits[drawn]
            some -= best[drawn, None]
            tokens[drawn] = self._draw(some, columns[drawn])
        tokens[~finite] = -1
        return tokens

    def _draw(self, scores: Floats, columns: npt.NDArray[Any]) -> Ids:
        """Draw for rows with a temperature; *scores* are logits less their row's greatest."""
        with np.errstate(over="ignore", invalid="ignore"):
            scores /= columns["temperature"][:, None]
        uniform = uniforms(columns["seed"], columns["position"])
        narrow = (columns["top_k"] > 0) | (columns["top_p"] < 1)
        tokens = np.empty(len(scores), np.int64)
        for rows, draw in ((np.flatnonzero(narrow), self._draw_narrow), (np.flatnonzero(~narrow), self._draw_wide)):
            if len(rows):
                some = scores if len(rows) == len(scores) else scores[rows]
                tokens[rows] = draw(some, columns[rows], uniform[rows])
        return tokens

    def _draw_wide(self, scores: Floats, columns: npt.NDArray[Any], uniform: npt.NDArray[np.float64]) -> Ids:
        """Draw among all tokens, or those that ``min_p`` leaves."""
        weights = self._exponentials(scores)
        if np.any(columns["min_p"] > 0):
            weights *= weights >= columns["min_p"].astype(np.float32)[:, None]
        return self._pick(weights, uniform)

    def _draw_narrow(self, scores: Floats, columns: npt.NDArray[Any], uniform: npt.NDArray[np.float64]) -> Ids:
        """Draw among the most likely tokens, for rows with top_k or top_p."""
        limited = columns["top_k"] > 0
        wanted = np.minimum(np.where(limited, columns["top_k"], _NUCLEUS), self._vocab)
        ids, values = self._candidates(scores, wanted)
        values[limited[:, None] & (np.arange(values.shape[1]) >= wanted[:, None])] = -np.inf
        weights = np.exp(values)
        sums = np.cumsum(weights, axis=1)
        total = sums[:, -1].copy()
        if not limited.all():
            whole = np.flatnonzero(~limited)
            total[whole] = self._block_sums(self._exponentials(scores[whole]))[1][:, -1]
        kept = sums - weights < (columns["top_p"] * total)[:, None]
        kept &= (weights >= columns["min_p"][:, None]) & (values > -np.inf)
        kept[:, 0] = True
        # In the order of ids, as every other draw.
        order = np.argsort(np.where(kept, ids, self._vocab), axis=1, kind="stable")
        sums = np.cumsum(np.take_along_axis(np.where(kept, weights, 0), order, axis=1), axis=1)
        rows = np.arange(len(ids))
        tokens: Ids = ids[rows, order[rows, _invert(sums, uniform * sums[:, -1])]]
        # A nucleus may be wider than the candidates.
        wide = np.flatnonzero(~limited & (wanted < self._vocab) & (kept.sum(axis=1) >= wanted))
        if len(wide):
            tokens[wide] = self._draw_nucleus(scores[wide], columns[wide], uniform[wide])
        return tokens

    def _draw_nucleus(self, scores: Floats, columns: npt.NDArray[Any], uniform: npt.NDArray[np.float64]) -> Ids:
        """Draw for rows with top_p whose nucleus may be anything up to the whole vocabulary."""
        weights = self._exponentials(scores)
        for row, top_p in zip(weights, columns["top_p"].tolist(), strict=True):
            _keep_nucleus(row, top_p)
        weights *= weights >= columns["min_p"].astype(np.float32)[:, None]
        return self._pick(weights, uniform)

    def _pick(self, weights: Floats, uniform: npt.NDArray[np.float64]) -> Ids:
        """Return a token per row with the probability of its *weights*: first a block, then one of its tokens."""
        blocks, sums = self._block_sums(weights)
        rows = np.arange(len(weights))
        target = uniform * sums[:, -1]
        block = _invert(sums, target)
        before = np.where(block > 0, sums[rows, block - 1], 0.0)
        inner = np.cumsum(blocks[rows, block], axis=1, dtype=np.float64)
        return block * _BLOCK + _invert(inner, target - before)

    def log_probs(self, logits: Floats, tokens: Ids, counts: Sequence[int]) -> list[LogProb]:
        """Return per row the log probability of ``tokens[row]`` and of the ``counts[row]`` most likely tokens.

        *logits* are float32 ``[rows, vocab]`` and stay as they are.
        """
        with np.errstate(invalid="ignore"):
            scores = logits - logits.max(axis=1, keepdims=True)
        total = np.log(self._block_sums(self._exponentials(scores))[1][:, -1:])
        ids, values = self._candidates(scores, np.array(counts, np.int64))
        values -= total
        chosen = scores[np.arange(len(tokens)), tokens] - total[:, 0]
        return [
            LogProb(
                float(chosen[row]), tuple(zip(ids[row, :count].tolist(), values[row, :count].tolist(), strict=True))
            )
            for row, count in enumerate(counts)
        ]

    def _candidates(self, scores: Floats, wanted: Ids) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Return ids and scores of at least ``wanted[row]`` greatest scores per row, greatest (then lowest id) first.

        Both are ``[rows, most]``; shorter rows end in -inf.
        """
        rows, groups = len(scores), self._vocab // _BLOCK
        lowest = np.full(rows, -np.inf, np.float32)
        if groups:
            greatest = scores[:, : groups * _BLOCK].reshape(rows, _BLOCK, groups).max(axis=1)
            greatest.sort(axis=1)
            lowest = greatest[np.arange(rows), np.clip(groups - wanted, 0, groups - 1)]
        lowest[wanted > groups] = -np.inf
        # What is forbidden is no candidate, however few there are.
        np.maximum(lowest, np.finfo(np.float32).min, out=lowest)
        flat = np.flatnonzero(scores >= lowest[:, None])
        row, column = np.divmod(flat, self._vocab)
        value = scores.reshape(-1)[flat].astype(np.float64)
        order = np.lexsort((column, -value, row))
        counts = np.bincount(row, minlength=rows)
        rank = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = np.zeros((rows, int(counts.max())), np.int64)
        values = np.full(ids.shape, -np.inf)
        ids[row, rank], values[row, rank] = column[order], value[order]
        return ids, values

    def _exponentials(self, scores: Floats) -> Floats:
        """Return e to the *scores* in this sampler's own memory, rows filled up with zeros to whole blocks."""
        weights = self._scratch[: len(scores)]
        np.exp(scores, out=weights[:, : self._vocab])
        return weights

    def _block_sums(self, weights: Floats) -> tuple[Floats, npt.NDArray[np.float64]]:
        """Return *weights* as ``[rows, blocks, 64]`` and the running sums over the blocks."""
        blocks = weights.reshape(len(weights), self._blocks, _BLOCK)
        return blocks, np.cumsum(blocks.sum(axis=2), axis=1, dtype=np.float64)


def _keep_nucleus(weights: Floats, top_p: float) -> None:
    """Set to zero, in place, what is not among the fewest greatest *weights* (0 … 1) that have a share of *top_p*.

    Sorting is spared: the upper bits of a positive float order it, so tokens are added up in buckets by those bits,
    and only the bucket in which the share is reached is sorted.  Of equal weights, the lower ids are kept.
    """
    buckets = weights.view(np.uint32) >> _BUCKET_BITS
    reached = np.cumsum(np.bincount(buckets, weights)[::-1])
    target = max(top_p * reached[-1], np.finfo(np.float64).tiny)
    above = int(np.searchsorted(reached, target))
    inside = np.flatnonzero(buckets == len(reached) - 1 - above)
    order = inside[np.argsort(-weights[inside], kind="stable")]
    greater = reached[above - 1] if above else 0.0
    sums = greater + np.cumsum(weights[order], dtype=np.float64)
    count = max(int((sums - weights[order] < target).sum()), 1)
    weights *= buckets >= len(reached) - 1 - above
    weights[order[count:]] = 0


def _invert(sums: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> Ids:
    """Return per row the first index whose running sum exceeds *target*; at most the last one that adds anything."""
    last = (sums < sums[:, -1:]).sum(axis=1)
    found: Ids = np.minimum((sums <= target[:, None]).sum(axis=1), last)
    return found


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniforms(seed: npt.NDArray[np.uint64], position: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1), each a function of its *seed* and *position* only."""
    # Mixing the seed first keeps near seeds apart: plain SplitMix64 streams of related seeds overlap.
    state = _mix(seed + np.uint64(0x9E3779B97F4A7C15)) + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def apply_edits(logits: Floats, edits: Sequence[Edit]) -> None:
    """Change *logits* in place: repetition penalty (Keskar et al. 2019, "CTRL"), presence and frequency, bias, bans.

    What is forbidden comes last, so that nothing makes it possible again.
    """
    seen, scale = _flatten(edits, "seen", "repetition", 1.0)
    if len(seen[0]):
        values = logits[seen]
        logits[seen] = np.where(values > 0, values / scale, values * scale)
    output, amount = _flatten(edits, "output", "presence", 0.0)
    if len(output[0]):
        # Gathered before anything is written, so a token that repeats is written the same value again.
        logits[output] = logits[output] - amount
    output, amount = _flatten(edits, "output", "frequency", 0.0)
    if len(output[0]):
        np.subtract.at(logits, output, amount)
    for edit in edits:
        if len(edit.bias_ids):
            logits[edit.row, edit.bias_ids] += edit.bias
        if len(edit.banned):
            logits[edit.row, edit.banned] = -np.inf
    bound = [(edit.row, edit.allowed) for edit in edits if edit.allowed is not None]
    if bound:
        _apply_masks(logits, bound)


def _apply_masks(logits: Floats, bound: Sequence[tuple[int, npt.NDArray[np.uint32]]]) -> None:
    """Forbid, per (row, bits), the tokens whose bit is not set."""
    words = np.stack([words for _, words in bound]).astype("<u4", copy=False)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, : logits.shape[1]]
    forbidden = bits == 0
    for (row, _), some in zip(bound, forbidden, strict=True):
        logits[row][some] = -np.inf


def _flatten(edits: Sequence[Edit], tokens: str, amount: str, idle: float) -> tuple[tuple[Ids, Ids], Floats]:
    """Return ((rows, token ids), amounts) of the edits whose *amount* is not *idle*, one entry per token."""
    active = [edit for edit in edits if getattr(edit, amount) != idle]
    lengths = [len(getattr(edit, tokens)) for edit in active]
    rows = np.repeat(np.array([edit.row for edit in active], np.int64), lengths)
    ids = np.concatenate([np.zeros(0, np.int64), *(getattr(edit, tokens) for edit in active)])
    return (rows, ids), np.repeat(np.array([getattr(edit, amount) for edit in active], np.float32), lengths)
