"""The formats in which matrices are stored and multiplied, each a class that writes its nodes and tensors.

Every format keeps a checkpoint's own layout, one row per output column, so that weights stream through block by block,
and the embedding table and the head of a tied model are one tensor.

    fp32   `Gemm`; exact
    fp16   the same in half precision, for GPUs; activations too, except where `llmos_onnx.decoder` says otherwise
    w8a8   integers on both sides: activations with one scale per row of the batch, weights with one per output
    q8 q4  `MatMulNBits`: weights of 8 or 4 bits with one scale per block of inputs, activations of single precision

``DynamicQuantizeLinear`` and its kin are not used: they take one scale per batch, so that what a neighbour says would
change a row's numbers.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import numpy as np

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.graph import MICROSOFT, Graph
from llmos_onnx.manifest import BLOCK_SIZES, Blocks, Manifest
from llmos_onnx.quantise import Rounding, quantise_blocks, quantise_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class Matrix(Protocol):
    """A matrix ``[rows, columns]`` that is read block by block; a linear layer has one row per output."""

    @property
    def name(self) -> str:
        """Name of the tensor; equal names are equal matrices."""

    @property
    def rows(self) -> int:
        """Outputs of a linear layer, or entries of a table."""

    @property
    def columns(self) -> int:
        """Inputs of a linear layer, or width of a table's entries."""

    def blocks(self) -> Iterator[Floats]:
        """Yield all rows in order, some at a time, as finite float32 ``[n, columns]``."""


class Format(abc.ABC):
    """Writes linear layers and tables of one weight format."""

    zero_points: bool = False
    """The graph needs the inputs ``zp_rows`` and ``zp_last``."""
    number: Final[npt.DTypeLike] = np.float32
    """Type of the activations that layers take and give."""

    @abc.abstractmethod
    def linear(self, graph: Graph, x: str, matrix: Matrix, *, bias: str = "", zero_points: str = "zp_rows") -> str:
        """Return ``x @ matrix.T + bias`` for *x* ``[n, columns]`` of the type `number`.

        *zero_points* names the uint8 input of n elements for formats that need one.
        """

    @abc.abstractmethod
    def table(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        """Return the rows *ids* (int64 ``[n]``) of *matrix* as `number` ``[n, columns]``."""


@attrs.frozen
class Float(Format):
    """Weights of one floating type: single precision holds those of every checkpoint exactly."""

    number: npt.DTypeLike = np.float32  # type: ignore[misc]  # a field here

    def linear(self, graph: Graph, x: str, matrix: Matrix, *, bias: str = "", zero_points: str = "zp_rows") -> str:
        """See `Format.linear`."""
        inputs = [x, self._store(graph, matrix), *([bias] if bias else [])]
        return graph.node("Gemm", inputs, transB=1)

    def table(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        """See `Format.table`."""
        return graph.node("Gather", [self._store(graph, matrix), ids])

    def _store(self, graph: Graph, matrix: Matrix) -> str:
        if graph.has(matrix.name):
            return matrix.name
        blocks = (fitting(matrix.name, block, self.number) for block in matrix.blocks())
        return graph.stored(matrix.name, self.number, (matrix.rows, matrix.columns), blocks)


class RowInt8(Format):
    """8-bit integers on both sides (W8A8), the sums exact in 32 bits.

    A row of activations becomes ``round(x * 127 / max|x|) + 128``, so its numbers depend on nothing but itself;
    unsigned times signed is what x86 multiplies fast.
    """

    zero_points = True

    def linear(self, graph: Graph, x: str, matrix: Matrix, *, bias: str = "", zero_points: str = "zp_rows") -> str:
        """See `Format.linear`."""
        weights, scales = self._store(graph, matrix)
        quantised, scale = self._rows(graph, x, zero_points)
        one, middle = graph.scalar("one", 1.0), graph.scalar("middle", 128, np.uint8)
        zeros = graph.constant(f"zeros_{matrix.rows}", np.zeros(matrix.rows, np.int8))
        products = graph.node("QGemm", [quantised, one, middle, weights, scales, zeros], domain=MICROSOFT, transB=1)
        y = graph.node("Mul", [products, scale])
        return graph.node("Add", [y, bias]) if bias else y

    def _rows(self, graph: Graph, x: str, zero_points: str) -> tuple[str, str]:
        """Return *x* as integers and the scale of each row ``[n, 1]``, written once however many layers read *x*."""
        quantised, scale = f"{x}:int8", f"{x}:scale"
        if not graph.made(quantised):
            last = graph.integers(-1)
            greatest = graph.node("ReduceMax", [graph.node("Abs", [x]), last], keepdims=1)
            graph.node("Mul", [greatest, graph.scalar("one_127th", 1 / 127)], name=scale)
            inputs = [x, graph.node("Squeeze", [scale, last]), zero_points]
            graph.node("QuantizeLinear", inputs, axis=0, name=quantised)
        return quantised, scale

    def table(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        """See `Format.table`."""
        weights, scales = self._store(graph, matrix)
        entries = graph.node("Cast", [graph.node("Gather", [weights, ids])], to=1)
        factors = graph.node("Unsqueeze", [graph.node("Gather", [scales, ids]), graph.integers(-1)])
        return graph.node("Mul", [entries, factors])

    def _store(self, graph: Graph, matrix: Matrix) -> tuple[str, str]:
        weights, scales = f"{matrix.name}.int8", f"{matrix.name}.scale"
        if not graph.has(weights):
            found: list[Floats] = []
            blocks = _collect(map(quantise_rows, matrix.blocks()), found)
            graph.stored(weights, np.int8, (matrix.rows, matrix.columns), blocks)
            graph.stored(scales, np.float32, (matrix.rows,), found)
        return weights, scales


@attrs.frozen
class BlockInt(Format):
    """Weights of *bits* (4 or 8) with one scale per block of inputs; activations stay single precision."""

    bits: int
    blocks: Blocks = attrs.field(factory=Blocks)

    def linear(self, graph: Graph, x: str, matrix: Matrix, *, bias: str = "", zero_points: str = "zp_rows") -> str:
        """See `Format.linear`."""
        rounding = self._rounding(matrix)
        shape = (matrix.rows, matrix.columns // rounding.size, rounding.size * self.bits // 8)
        if graph.has(self._stored_name(matrix)):  # the table of a tied model, which has two dimensions
            weights, *others = self._names(matrix)
            weights = graph.node("Reshape", [weights, graph.integers(*shape)])
        else:
            weights, *others = self._store(graph, matrix, shape)
        y = graph.node(
            "MatMulNBits",
            [x, weights, *others],
            domain=MICROSOFT,
            K=matrix.columns,
            N=matrix.rows,
            bits=self.bits,
            block_size=rounding.size,
            accuracy_level=self.blocks.accuracy_level,
        )
        return graph.node("Add", [y, bias]) if bias else y

    def table(self, graph: Graph, ids: str, matrix: Matrix) -> str:
        """See `Format.table`."""
        weights, scales, *zeros = self._store(graph, matrix, (matrix.rows, matrix.columns * self.bits // 8))
        return graph.node(
            "GatherBlockQuantized",
            [weights, ids, scales, *zeros],
            domain=MICROSOFT,
            bits=self.bits,
            block_size=self._rounding(matrix).size,
            gather_axis=0,
            quantize_axis=1,
        )

    def _rounding(self, matrix: Matrix) -> Rounding:
        blocks, size = self.blocks, block_size(matrix, self.blocks.size)
        return Rounding(bits=self.bits, size=size, symmetric=blocks.symmetric, search=blocks.search)

    def _stored_name(self, matrix: Matrix) -> str:
        return f"{matrix.name}.int{self.bits}"

    def _names(self, matrix: Matrix) -> list[str]:
        zeros = [] if self.blocks.symmetric else [f"{matrix.name}.zero"]
        return [self._stored_name(matrix), f"{matrix.name}.scale", *zeros]

    def _store(self, graph: Graph, matrix: Matrix, shape: tuple[int, ...]) -> list[str]:
        """Store integers, scales and, for asymmetric blocks, zero points; return their names."""
        rounding, names = self._rounding(matrix), self._names(matrix)
        count = matrix.columns // rounding.size
        scales: list[Floats] = []
        zeros: list[npt.NDArray[np.uint8]] = []
        graph.stored(names[0], np.uint8, shape, _packed(matrix, rounding, scales, zeros))
        graph.stored(names[1], np.float32, (matrix.rows, count), scales)
        if not self.blocks.symmetric:
            graph.stored(names[2], np.uint8, (matrix.rows, -(-count * self.bits // 8)), zeros)
        return names


FORMATS: Final[dict[str, Format]] = {
    "fp32": Float(),
    "fp16": Float(np.float16),
    "w8a8": RowInt8(),
    "q8": BlockInt(8),
    "q4": BlockInt(4),
}
"""Weight formats by the name that the manifest gives them."""


def fitting(name: str, values: Floats, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return *values* as *dtype*; raise `InvalidArgument` where one is too large for it."""
    if np.dtype(dtype) == values.dtype:
        return values
    with np.errstate(over="ignore"):
        found = values.astype(dtype, copy=False)
    if np.isfinite(found).all():
        return found
    expected = f"another: {name} has values above 65504, the largest of half precision"
    message = f"option weights is 'fp16', expected {expected}"
    raise InvalidArgument(message, field="weights", value="fp16", expected=expected)


def weight_format(manifest: Manifest) -> Format:
    """Return the format in which the folder of *manifest* stores its weights."""
    form = FORMATS[manifest.weights]
    if isinstance(form, BlockInt) and manifest.blocks is not None:
        return attrs.evolve(form, blocks=manifest.blocks)
    return form


def block_size(matrix: Matrix, most: int) -> int:
    """Return how many inputs share a scale: *most*, or the greatest smaller power of two that divides the width.

    Raises `InvalidArgument` where the matrix's width is no multiple of 16.
    """
    if matrix.columns % BLOCK_SIZES[0]:
        expected = f"fp32 or w8a8: {matrix.name} is {matrix.columns} wide, not a multiple of {BLOCK_SIZES[0]}"
        raise InvalidArgument(
            f"weights are q4 or q8, expected {expected}", field="weights", value="q4", expected=expected
        )
    return max(size for size in BLOCK_SIZES if size <= most and matrix.columns % size == 0)


def _packed(
    matrix: Matrix, rounding: Rounding, scales: list[Floats], zeros: list[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the integers of *matrix* block by block, and keep its *scales* and *zeros*."""
    for block in matrix.blocks():
        rounded = quantise_blocks(block, rounding)
        scales.append(rounded.scales)
        zeros.append(rounded.zeros)
        yield rounded.packed


def _collect(pairs: Iterator[tuple[npt.NDArray[Any], Floats]], scales: list[Floats]) -> Iterator[npt.NDArray[Any]]:
    """Yield the first of each pair and keep the second in *scales*."""
    for integers, factors in pairs:
        scales.append(factors)
        yield integers
