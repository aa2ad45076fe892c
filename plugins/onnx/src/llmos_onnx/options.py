"""What can be asked of an export, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.fields import nearest
from llmos_onnx.manifest import ACCURACY_LEVELS, BLOCK_SIZES, GOALS, KV_FORMATS, WEIGHTS, Blocks

AUTO: Final = "auto"
HALF: Final = "fp16"
"""The weight format for GPUs."""
IN_BLOCKS: Final = ("q8", "q4")
"""Weight formats that round block by block."""


@attrs.frozen(kw_only=True)
class ExportOptions:
    """The options of an export, by the names that the command line and the plugin give them."""

    weights: str = "fp32"
    """One of `llmos_onnx.manifest.WEIGHTS`, or ``auto``: the fastest on this machine."""
    goal: str | None = None
    """What ``auto`` looks for: one of `llmos_onnx.manifest.GOALS`; ``balanced`` by default."""
    block_size: int | None = None
    """q8 and q4: inputs that share a scale, 16, 32, 64 or 128; 64 by default, less where a width asks for it."""
    asymmetric: bool = False
    """q8 and q4: each block has a zero point of its own: finer steps for a little more size."""
    search: bool = False
    """q8 and q4: look for the scales of least squared error."""
    accuracy_level: int | None = None
    """q8 and q4: 4 (default) rounds activations to 8 bits, several times faster; 1 keeps them as they are."""
    kv: str = "float32"
    """Type of the key and value cache: ``float32``, or ``int8``, a quarter of its size; fp16 weights have their own."""
    calibration: str | None = None
    """int8 cache: path of a text to read, up to 1 MiB; a built-in one by default."""
    context: int | None = None
    """Shortens the longest sequence, in tokens."""
    name: str | None = None
    """The model's name; by default the source folder's."""
    licence: str | None = None
    """By default what the model card says."""

    @classmethod
    def read(cls, values: Mapping[str, object]) -> ExportOptions:
        """Check *values*, of which None counts as absent; raise `InvalidArgument` naming the first that is wrong."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if name not in _TYPES:
                raise _wrong(name, value, f"one of the options {nearest(name, _TYPES)}")
            if type(value) is not _TYPES[name]:
                raise _wrong(name, value, _TYPES[name].__name__)
        options = cls(**given)  # type: ignore[arg-type]  # each type was compared with its field's
        options.check()
        return options

    def check(self) -> None:
        """Raise `InvalidArgument` for a value or a combination that means nothing."""
        _one_of("weights", self.weights, (*WEIGHTS, AUTO))
        _one_of("goal", self.goal, GOALS)
        if self.goal is not None and self.weights != AUTO:
            raise _wrong("goal", self.goal, f"nothing: {self.weights} weights were asked for by name")
        _one_of("block_size", self.block_size, BLOCK_SIZES)
        _one_of("accuracy_level", self.accuracy_level, ACCURACY_LEVELS)
        _one_of("kv", self.kv, KV_FORMATS)
        if self.kv != "float32" and (self.weights == HALF) != (self.kv == "float16"):
            raise _wrong("kv", self.kv, "float16 with fp16 weights, float32 or int8 with others")
        if self.calibration is not None and self.kv != "int8":
            raise _wrong("calibration", self.calibration, f"nothing: a {self.kv} cache needs none")
        if self.weights not in (*IN_BLOCKS, AUTO):
            for name in ("block_size", "asymmetric", "search", "accuracy_level"):
                if getattr(self, name) not in (None, False):
                    raise _wrong(
                        name, getattr(self, name), f"nothing: {self.weights} weights are not rounded in blocks"
                    )

    def given(self) -> dict[str, object]:
        """Return the options that differ from their defaults, for `read`."""
        return {name: value for name, value in attrs.asdict(self).items() if value != getattr(ExportOptions(), name)}

    def in_format(self, weights: str) -> ExportOptions:
        """Return these options for the format *weights*, without those that mean nothing to it."""
        found = attrs.evolve(self, weights=weights, goal=None)
        if weights in IN_BLOCKS:
            return found
        return attrs.evolve(found, block_size=None, asymmetric=False, search=False, accuracy_level=None)

    @property
    def cache(self) -> str:
        """Numpy type of the cache."""
        return "float16" if self.weights == HALF else self.kv

    @property
    def blocks(self) -> Blocks | None:
        """How weights are rounded block by block, if they are."""
        if self.weights not in IN_BLOCKS:
            return None
        default = Blocks()
        return Blocks(
            size=self.block_size or default.size,
            symmetric=not self.asymmetric,
            search=self.search,
            accuracy_level=self.accuracy_level or default.accuracy_level,
        )


_TYPES: Final[Mapping[str, type]] = {
    "weights": str,
    "goal": str,
    "block_size": int,
    "asymmetric": bool,
    "search": bool,
    "accuracy_level": int,
    "kv": str,
    "calibration": str,
    "context": int,
    "name": str,
    "licence": str,
}
"""The type of each option's value."""


def _one_of(name: str, value: object, known: Iterable[object]) -> None:
    choices = tuple(known)
    if value is not None and value not in choices:
        raise _wrong(name, value, f"one of {nearest(str(value), map(str, choices))}")


def _wrong(name: str, value: object, expected: str) -> InvalidArgument:
    message = f"option {name} is {value!r}, expected {expected}"
    return InvalidArgument(message, field=name, value=value, expected=expected)
