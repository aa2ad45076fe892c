"""What ``config.json`` says of rotary positions, as a `Rope`.

Old files say it in ``rope_theta`` and ``rope_scaling``, newer ones in ``rope_parameters``, which may hold one object
for each kind of layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import attrs

from llmos_onnx.fields import Fields
from llmos_onnx.shape import MAX_CONTEXT, MAX_HEAD, Rope

_LONG: Final = 1 << 40


@attrs.frozen(kw_only=True)
class RopeSource:
    """Where the numbers of a rotation come from, and what they may be."""

    config: Fields
    head_dim: int
    context: int
    """Tokens for which the model is exported."""
    theta: float = 10_000.0
    """Base where the file gives none."""
    partial: bool = False
    """``partial_rotary_factor`` is read."""
    longrope: bool = False
    """The old names ``su`` and ``yarn`` mean ``longrope`` (Phi-3)."""

    def read(self) -> Rope:
        """Return the one rotation of all layers; raise `ModelUnavailable` naming what is not understood."""
        newer = self.config.has("rope_parameters")
        return self.rotation(self.inner("rope_parameters" if newer else "rope_scaling"), self.base)

    def read_kinds(self, *, local_theta: float) -> tuple[Rope, Rope]:
        """Return the rotations of layers that see everything and of layers with a window.

        In old files ``rope_scaling`` is that of the first; the second has the base *local_theta* and none.
        """
        if not self.config.has("rope_parameters"):
            return self.rotation(self.inner("rope_scaling"), self.base), Rope(theta=local_theta)
        both = self.config.inner("rope_parameters")
        both.only(("full_attention", "sliding_attention"))
        full, local = (
            self.rotation(both.inner(name) if both.has(name) else attrs.evolve(both, values={}), theta)
            for name, theta in (("full_attention", self.base), ("sliding_attention", local_theta))
        )
        return full, local

    def inner(self, name: str) -> Fields:
        """Return the object under *name*, empty where there is none."""
        return self.config.inner(name) if self.config.has(name) else attrs.evolve(self.config, values={})

    def rotation(self, fields: Fields, theta: float) -> Rope:
        """Read one rotation of base *theta* unless *fields* has its own."""
        known = dict.fromkeys(("su", "yarn"), "longrope") if self.longrope else {}
        key = "rope_type" if fields.has("rope_type") else "type"
        kind = fields.choice(key, (*known, "default", *_READERS), default="default")
        # A logarithm of the base divides by zero where that is 1.
        base = fields.number("rope_theta", 1.001, 1e12, default=theta)
        rope = Rope(theta=base, width=self._width(fields))
        return _READERS[known.get(kind, kind)](self, fields, rope) if kind != "default" else rope

    def original(self, fields: Fields) -> int:
        """Return the context in tokens before the stretching."""
        outer = self.config.has("original_max_position_embeddings")
        longest = self.config.integer("max_position_embeddings", 1, _LONG)
        where = self.config if outer else fields
        return where.integer("original_max_position_embeddings", 2, MAX_CONTEXT, default=min(longest, MAX_CONTEXT))

    @property
    def base(self) -> float:
        """The base that ``rope_theta`` says."""
        return self.config.number("rope_theta", 1.001, 1e12, default=self.theta)

    def _width(self, fields: Fields) -> int:
        """Return how many dimensions of a head are turned; 0 is all."""
        name = "partial_rotary_factor"
        where = fields if fields.has(name) else self.config
        part = where.number(name, 0.0, 1.0, default=1.0)
        if part == 1:
            return 0
        width = int(self.head_dim * part)
        if not self.partial or not width or width % 16:
            expected = (
                f"1.0, or a part of {self.head_dim} dimensions that is a multiple of 16" if self.partial else "1.0"
            )
            raise where.refuse(name, expected)
        return width


def _linear(_: RopeSource, fields: Fields, rope: Rope) -> Rope:
    return attrs.evolve(rope, scaling="linear", factor=fields.number("factor", 1e-3, 1e6))


def _dynamic(source: RopeSource, fields: Fields, rope: Rope) -> Rope:
    """Beyond ``max_position_embeddings`` the angles would depend on how long a sequence is; up to there they do not."""
    fields.number("factor", 1.0, 1e6)
    if source.config.has("original_max_position_embeddings") or fields.has("original_max_position_embeddings"):
        raise fields.refuse("rope_type", "one of linear, llama3, longrope, yarn")
    return rope


def _llama3(source: RopeSource, fields: Fields, rope: Rope) -> Rope:
    low = fields.number("low_freq_factor", 1e-3, 1e6)
    high = fields.number("high_freq_factor", 1e-3, 1e6)
    if high <= low:
        raise fields.refuse("high_freq_factor", f"more than low_freq_factor ({low:g})")
    return attrs.evolve(
        rope,
        scaling="llama3",
        factor=fields.number("factor", 1.0, 1e6),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=source.original(fields),
    )


def _yarn(source: RopeSource, fields: Fields, rope: Rope) -> Rope:
    factor = fields.number("factor", 1.0, 1e6)
    parts = [fields.number(name, 0.0, 1e3, default=0.0) for name in ("mscale", "mscale_all_dim")]
    over, under = parts if all(parts) else (1.0, 0.0)
    implied = (0.1 * over * math.log(factor) + 1) / (0.1 * under * math.log(factor) + 1)
    return attrs.evolve(
        rope,
        scaling="yarn",
        factor=factor,
        original_context=source.original(fields),
        beta_fast=fields.number("beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=fields.number("beta_slow", 1e-3, 1e6, default=1.0),
        truncate=fields.flag("truncate", default=True),
        magnitude=fields.number("attention_factor", 1e-3, 1e3, default=implied),
    )


def _longrope(source: RopeSource, fields: Fields, rope: Rope) -> Rope:
    """Choose the factors once, by the context of the export.

    The reference turns a sequence by the short ones until it is longer than the original context, and then all of it
    by the long ones: what is cached would have to be computed again, and rows of one batch would need different tables.
    """
    original = source.original(fields)
    longest = source.config.integer("max_position_embeddings", 1, _LONG)
    factor = fields.number("factor", 1e-3, 1e6, default=longest / original)
    implied = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    chosen = "long_factor" if source.context > original else "short_factor"
    factors = fields.numbers(chosen, 1e-3, 1e6, most=MAX_HEAD // 2)
    pairs = (rope.width or source.head_dim) // 2
    if len(factors) != pairs:
        raise fields.refuse(chosen, f"{pairs} numbers, one for each pair of dimensions")
    return attrs.evolve(
        rope,
        scaling="longrope",
        factor=factor,
        original_context=original,
        factors=factors,
        magnitude=fields.number("attention_factor", 1e-3, 1e3, default=implied),
    )


_READERS: Final[dict[str, Callable[[RopeSource, Fields, Rope], Rope]]] = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
