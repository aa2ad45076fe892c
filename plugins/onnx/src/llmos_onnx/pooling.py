"""From the last hidden state of an encoder to one vector per text, and from scores to probabilities.

The formulas are those of sentence-transformers (Reimers and Gurevych 2019, "Sentence-BERT", section 3, and the modules
``Pooling`` and ``Normalize`` of its implementation): padding takes no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


def pool(hidden: Floats, lengths: npt.NDArray[np.int64], how: str, *, normalize: bool) -> Floats:
    """Return one vector per row: ``[rows, width]`` of *hidden* ``[rows, positions, width]``.

    *lengths* says how many positions of each row are no padding; *how* is ``mean``, ``cls`` (the first position),
    ``last`` (of those that are no padding) or ``max``.
    """
    rows = np.arange(len(hidden))
    real = np.arange(hidden.shape[1])[None, :] < lengths[:, None]
    if how == "cls":
        vectors = hidden[:, 0]
    elif how == "last":
        vectors = hidden[rows, lengths - 1]
    elif how == "max":
        vectors = np.where(real[..., None], hidden, -np.inf).max(axis=1)
    else:
        vectors = np.einsum("bsh,bs->bh", hidden, real.astype(np.float32)) / lengths[:, None].astype(np.float32)
    if normalize:
        length = np.sqrt(np.einsum("bh,bh->b", vectors, vectors))
        vectors = vectors / np.maximum(length, 1e-12)[:, None]
    return np.asarray(vectors, np.float32)


def probabilities(logits: Floats, how: str) -> Floats:
    """Return ``softmax`` over each row of *logits*, or the ``sigmoid`` of each of them."""
    if how == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)  # the same, without overflow
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)
