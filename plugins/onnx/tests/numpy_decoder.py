"""The decoder written a second time, in numpy and in double precision, with the rounding of each weight format.

It shares nothing with the graph but the formulas, so what both compute alike is what the formats say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from plugins.onnx.tests.checkpoint_writer import Recipe, tensors

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]
    Product = Callable[[Doubles, Doubles], Doubles]


def per_row(values: Doubles, levels: int = 127) -> Doubles:
    """Round each row to integers of at most *levels* in magnitude times a scale of its own."""
    scales = np.abs(values).max(-1, keepdims=True) / levels
    scales[scales == 0] = 1
    rounded: Doubles = np.rint(values / scales) * scales
    return rounded


def in_blocks(values: Doubles, bits: int, size: int = 64) -> Doubles:
    """Round each block of *size* columns to *bits*; four bits count from the value of greatest magnitude as -8."""
    blocks = values.reshape(len(values), -1, size)
    if bits == 8:
        return per_row(blocks).reshape(values.shape)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = extreme / -8
    return (np.clip(np.rint(blocks / scales), -8, 7) * scales).reshape(values.shape)


def product_w8a8(x: Doubles, weights: Doubles) -> Doubles:
    """Both sides rounded per row."""
    return per_row(x) @ per_row(weights).T


PRODUCTS: Final[dict[str, Product]] = {
    "fp32": lambda x, weights: x @ weights.T,
    "w8a8": product_w8a8,
    "q8": lambda x, weights: in_blocks(x, 8) @ in_blocks(weights, 8).T,
    "q4": lambda x, weights: in_blocks(x, 8) @ in_blocks(weights, 4).T,
}
"""``x @ weights.T`` in each format."""
TABLES: Final[dict[str, Callable[[Doubles], Doubles]]] = {
    "fp32": lambda table: table,
    "w8a8": per_row,
    "q8": lambda table: in_blocks(table, 8),
    "q4": lambda table: in_blocks(table, 4),
}
"""The embedding table in each format."""


@attrs.frozen
class NumpyDecoder:
    """A tied Llama of *recipe* with plain rotation and no biases."""

    recipe: Recipe
    values: dict[str, Doubles]
    product: Product
    """``x @ weights.T``."""
    entries: Callable[[Doubles], Doubles]
    """The embedding table as it is read."""
    cache: dict[str, Doubles] = attrs.field(factory=dict)
    """Scales of an int8 cache by the names of the graph, each ``[1, kv_heads, 1, head_dim]``; empty without one."""

    @classmethod
    def of(cls, recipe: Recipe, weights: str) -> NumpyDecoder:
        """Take the tensors that the checkpoint writer writes, and round them to nearest."""
        values = {name: value.astype(np.float64) for name, value in tensors(recipe)}
        return cls(recipe, values, PRODUCTS[weights], TABLES[weights])

    @classmethod
    def restored(cls, recipe: Recipe, stored: dict[str, Doubles], size: int | None) -> NumpyDecoder:
        """Take the matrices *stored* in a model folder; round activations to 8 bits in blocks of *size*, if any."""
        values = {name: value.astype(np.float64) for name, value in tensors(recipe)}
        for name, matrix in stored.items():
            first, _, more = name.partition("+")
            names = list(values)
            parts = names[names.index(first) :][: 1 + int(more or 0)]
            edges = np.cumsum([len(values[part]) for part in parts])[:-1]
            values |= dict(zip(parts, np.split(matrix, edges), strict=True))

        def product(x: Doubles, weights: Doubles) -> Doubles:
            return (in_blocks(x, 8, size) if size else x) @ weights.T

        return cls(recipe, values, product, TABLES["fp32"])

    def logits(self, prompt: list[int]) -> Doubles:
        """Return the logits of every position."""
        table = self.values["model.embed_tokens.weight"]
        x = self.entries(table)[prompt]
        for layer in range(self.recipe.layers):
            name = f"model.layers.{layer}."
            x = x + self._attention(self._norm(x, name + "input_layernorm"), name + "self_attn.")
            x = x + self._feed_forward(self._norm(x, name + "post_attention_layernorm"), name + "mlp.")
        return self.product(self._norm(x, "model.norm"), table)

    def _linear(self, x: Doubles, name: str) -> Doubles:
        return self.product(x, self.values[f"{name}_proj.weight"])

    def _norm(self, x: Doubles, name: str) -> Doubles:
        scale: Doubles = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return x * scale * self.values[f"{name}.weight"]

    def _attention(self, x: Doubles, name: str) -> Doubles:
        recipe = self.recipe
        heads = {kind: self._linear(x, name + kind).reshape(len(x), -1, recipe.head_dim) for kind in "qkv"}
        q, k, v = _rotated(heads["q"]), self._kept(_rotated(heads["k"]), "k", name), self._kept(heads["v"], "v", name)
        shared = recipe.heads // recipe.kv_heads
        scores = np.einsum("ihd,jhd->hij", q, k.repeat(shared, 1)) * recipe.head_dim**-0.5
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", shares, v.repeat(shared, 1))
        return self._linear(mixed.reshape(len(x), -1), name + "o")

    def _kept(self, values: Doubles, kind: str, name: str) -> Doubles:
        """Return *values* ``[n, kv_heads, head_dim]`` as the cache keeps them."""
        if not self.cache:
            return values
        scale = self.cache[f"{kind}_scale_{name.split('.')[2]}"][:, :, 0]
        kept: Doubles = np.clip(np.rint(values / scale), -128, 127) * scale
        return kept

    def _feed_forward(self, x: Doubles, name: str) -> Doubles:
        gate = self._linear(x, name + "gate")
        return self._linear(gate / (1 + np.exp(-gate)) * self._linear(x, name + "up"), name + "down")


def _rotated(x: Doubles) -> Doubles:
    """Turn each pair (i, i + width / 2) of every head by its position's angle."""
    half = x.shape[-1] // 2
    turns = np.arange(len(x))[:, None, None] * 10_000.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    parts: list[Any] = [first * np.cos(turns) - second * np.sin(turns), second * np.cos(turns) + first * np.sin(turns)]
    return np.concatenate(parts, -1)
