"""The decoder written a second time, in numpy and in double precision, with the rounding of each weight format.

It shares nothing with the graph but the formulas, so what both compute alike is what the formats say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from plugins.onnx.tests.checkpoint_writer import Recipe, narrow, tensors
from plugins.onnx.tests.numpy_styles import Style, capped, style

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


def half(values: Doubles) -> Doubles:
    """Round to half precision."""
    return values.astype(np.float16).astype(np.float64)


PRODUCTS: Final[dict[str, Product]] = {
    "fp16": lambda x, weights: half(half(x) @ half(weights).T),
    "fp32": lambda x, weights: x @ weights.T,
    "w8a8": product_w8a8,
    "q8": lambda x, weights: in_blocks(x, 8) @ in_blocks(weights, 8).T,
    "q4": lambda x, weights: in_blocks(x, 8) @ in_blocks(weights, 4).T,
}
"""``x @ weights.T`` in each format."""
TABLES: Final[dict[str, Callable[[Doubles], Doubles]]] = {
    "fp16": half,
    "fp32": lambda table: table,
    "w8a8": per_row,
    "q8": lambda table: in_blocks(table, 8),
    "q4": lambda table: in_blocks(table, 4),
}
"""The embedding table in each format."""


def stored(value: npt.NDArray[np.float32], dtype: str) -> Doubles:
    """Return *value* as a checkpoint of *dtype* keeps it."""
    kept = narrow(value, dtype)
    if dtype == "BF16":
        return (np.frombuffer(kept, "<u2").astype(np.uint32) << 16).view(np.float32).astype(float).reshape(value.shape)
    return np.frombuffer(kept, "<f2" if dtype == "F16" else "<f4").astype(float).reshape(value.shape)


@attrs.frozen
class NumpyDecoder:
    """The decoder of *recipe*, which has no biases but those of Qwen2."""

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
        values = {name: stored(value, recipe.dtype) for name, value in tensors(recipe)}
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

    @property
    def style(self) -> Style:
        """What sets the architecture apart."""
        return style(self.recipe)

    def logits(self, prompt: list[int]) -> Doubles:
        """Return the logits of every position."""
        style, table = self.style, self.values["model.embed_tokens.weight"]
        x = self.entries(table)[prompt] * style.embedding
        for layer in range(self.recipe.layers):
            name = f"model.layers.{layer}."
            norms = [f"{name}{norm}" if norm else "" for norm in style.norms]
            added = self._attention(self._norm(x, norms[0]), name + "self_attn.", layer)
            x = x + style.residual * self._norm(added, norms[1])
            added = self._feed_forward(self._norm(x, norms[2]), name + "mlp.")
            x = x + style.residual * self._norm(added, norms[3])
        head = table if self.recipe.tied else self.values["lm_head.weight"]
        return capped(self.product(self._norm(x, "model.norm"), head) * style.logits, style.logits_cap)

    def _linear(self, x: Doubles, name: str) -> Doubles:
        return self.product(x, self.values[f"{name}_proj.weight"]) + self.values.get(f"{name}_proj.bias", 0.0)

    def _split(self, x: Doubles, name: str, packed: str, widths: dict[str, int]) -> list[Doubles]:
        """Multiply by several layers' weights, packed in one matrix or not."""
        if f"{name}{packed}_proj.weight" in self.values:
            return np.split(self._linear(x, name + packed), np.cumsum(list(widths.values()))[:-1], axis=-1)
        return [self._linear(x, name + part) for part in widths]

    def _norm(self, x: Doubles, name: str) -> Doubles:
        if not name:
            return x
        scale: Doubles = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + self.style.epsilon)
        return x * scale * (self.values[f"{name}.weight"] + self.style.offset)

    def _attention(self, x: Doubles, name: str, layer: int) -> Doubles:
        recipe, style = self.recipe, self.style
        keys = recipe.kv_heads * recipe.head_dim
        parts = self._split(x, name, "qkv", {"q": recipe.heads * recipe.head_dim, "k": keys, "v": keys})
        q, k, v = (part.reshape(len(x), -1, recipe.head_dim) for part in parts)
        if style.wide_norms:
            q = self._norm(parts[0], name + "q_norm").reshape(q.shape)
            k = self._norm(parts[1], name + "k_norm").reshape(k.shape)
        if style.head_norms:
            q, k = self._norm(q, name + "q_norm"), self._norm(k, name + "k_norm")
        q, k = (_rotated(value, *style.turns[layer]) for value in (q, k))
        k, v = self._kept(k, "k", name), self._kept(v, "v", name)
        shared = recipe.heads // recipe.kv_heads
        scores = capped(np.einsum("ihd,jhd->hij", q, k.repeat(shared, 1)) * style.attention, style.attention_cap)
        back = np.arange(len(x))[:, None] - np.arange(len(x))
        scores = np.where((back >= 0) & (back < style.windows[layer]), scores, -np.inf)
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
        gate, up = self._split(x, name, "gate_up", {"gate": self.recipe.mlp, "up": self.recipe.mlp})
        return self._linear(self.style.gate(gate) * up, name + "down")


def _rotated(x: Doubles, angles: Doubles, magnitude: float) -> Doubles:
    """Turn each pair (i, i + len(angles)) of every head by its position's angle."""
    half = len(angles)
    turns = np.arange(len(x))[:, None, None] * angles
    cosines, sines = np.cos(turns) * magnitude, np.sin(turns) * magnitude
    first, second = x[..., :half], x[..., half : 2 * half]
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines, x[..., 2 * half :]], -1)
