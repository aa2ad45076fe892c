"""The safetensors reader returns what was written, and believes no header that does not describe its file exactly."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.safetensors import MAX_HEADER, TensorFile, parse_header
from plugins.onnx.tests.checkpoint_writer import write_safetensors

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
shapes = st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple)


def write_raw(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    """Write a file with that *header* (an object or the bytes themselves), and a header length that may lie."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    """Return what a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def refused(path: Path) -> ModelUnavailable:
    """Open *path*, which must fail, and return the error."""
    with pytest.raises(ModelUnavailable) as caught:
        TensorFile(path, model="some")
    return caught.value


@on_disk
@given(
    sizes=st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), shapes, max_size=4),
    dtype=st.sampled_from(["F32", "F16", "BF16"]),
    most=st.integers(1, 200),
)
def test_tensors_come_back_as_they_were_written(
    tmp_path: Path, sizes: dict[str, tuple[int, ...]], dtype: str, most: int
) -> None:
    """Integers, which every type holds exactly, survive in blocks of any size, and blocks stay within it."""
    stored = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 100 for name, shape in sizes.items()}
    write_safetensors(tmp_path / "x.safetensors", sizes, iter(stored.items()), dtype)

    with TensorFile(tmp_path / "x.safetensors", model="some") as file:
        found = {name: list(file.blocks(name, most)) for name in sizes}

    for name, blocks in found.items():
        assert all(block.nbytes <= most or len(block) == 1 for block in blocks)
        assert stored[name].tobytes() == b"".join(block.tobytes() for block in blocks)
        assert all(block.dtype == np.float32 for block in blocks)


def test_small_types_widen_exactly(tmp_path: Path) -> None:
    """Half precision and bfloat16 become the single precision number that they stand for."""
    path = write_raw(
        tmp_path / "x.safetensors",
        {"half": entry(0, 4, [2], "F16"), "brain": entry(4, 8, [2], "BF16")},
        np.array([1.5, 6e-8], "<f2").tobytes() + bytes.fromhex("c03f0100"),
    )

    with TensorFile(path, model="some") as file:
        half, brain = next(file.blocks("half", 100)), next(file.blocks("brain", 100))

    assert [1.5, np.float32(np.float16(6e-8))] == half.tolist()
    assert [1.5, np.float32(2.0**-133)] == brain.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_are_finite(tmp_path: Path, value: float) -> None:
    """NaN and infinity are refused by the tensor's name."""
    path = write_raw(tmp_path / "x.safetensors", {"w": entry(0, 8, [2])}, np.array([0, value], "<f4").tobytes())

    with TensorFile(path, model="some") as file, pytest.raises(ModelUnavailable) as caught:
        list(file.blocks("w", 100))

    assert "x.safetensors: w" == caught.value.fields["field"]


@pytest.mark.parametrize(
    ("header", "field"),
    [
        pytest.param({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, "b: data_offsets", id="overlap"),
        pytest.param({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, "b: data_offsets", id="gap"),
        pytest.param({"a": entry(4, 12, [2])}, "a: data_offsets", id="gap at the start"),
        pytest.param({"a": entry(0, 8, [2])}, "size", id="bytes left over"),
        pytest.param({"a": entry(0, 16, [4])}, "size", id="beyond the end"),
        pytest.param({"a": entry(0, 12, [4])}, "data_offsets", id="size and shape disagree"),
        pytest.param({"a": entry(12, 0, [3])}, "data_offsets", id="backwards"),
        pytest.param({"a": entry(-12, 0, [3])}, "data_offsets", id="negative"),
        pytest.param({"a": entry(0, 12, [2**40, 2**40, 0])}, "data_offsets", id="huge times nothing"),
        pytest.param({"a": entry(0, 12, [3], "I8")}, "dtype", id="another type"),
        pytest.param({"a": entry(0, 12, [3]) | {"more": 1}}, "a", id="another key"),
        pytest.param({"a": {"dtype": "F32", "shape": 3, "data_offsets": [0, 12]}}, "shape", id="shape is a number"),
        pytest.param({"a": 3}, "a", id="entry is a number"),
        pytest.param([], "x.safetensors", id="list"),
        pytest.param(b'{"a": {}, "a": {}}', "x.safetensors", id="doubled key"),
        pytest.param(b"{" * 5000, "x.safetensors", id="deep"),
    ],
)
def test_a_header_describes_exactly_its_file(tmp_path: Path, header: object, field: str) -> None:
    """Overlaps, gaps, lying offsets and shapes, unknown types and doubled keys in a file with 12 bytes of tensors."""
    assert str(refused(write_raw(tmp_path / "x.safetensors", header, bytes(12))).fields["field"]).endswith(field)


@pytest.mark.parametrize("length", [0, 1, 3, 2**63, MAX_HEADER + 1])
def test_a_headers_length_is_within_the_file(tmp_path: Path, length: int) -> None:
    """A length that is too short, too long, or more than eight megabytes is refused before anything is read."""
    path = write_raw(tmp_path / "x.safetensors", b"{}", length=length)

    assert "x.safetensors: header length" == refused(path).fields["field"]


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 8])
def test_a_file_without_header_is_refused(tmp_path: Path, content: bytes) -> None:
    """Eight bytes are the least."""
    (tmp_path / "x.safetensors").write_bytes(content)

    assert "x.safetensors: header length" == refused(tmp_path / "x.safetensors").fields["field"]


def test_a_file_that_shrinks_is_refused(tmp_path: Path) -> None:
    """What is no longer there when it is read is named."""
    path = write_raw(tmp_path / "x.safetensors", {"a": entry(0, 12, [3])}, bytes(12))

    with TensorFile(path, model="some") as file:
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(ModelUnavailable):
            list(file.blocks("a", 100))


@given(st.binary(max_size=60), st.integers(0, 100))
def test_arbitrary_headers_are_the_typed_error_or_tensors(header: bytes, size: int) -> None:
    """No header surprises the parser, and what it accepts covers the file."""
    try:
        found = parse_header(header, size, model="some", where="x")
    except ModelUnavailable:
        return

    assert size == sum(info.size for info in found.values())


@given(st.dictionaries(st.text(max_size=3), st.builds(entry, st.integers(0, 9), st.integers(0, 9), st.just([1]))))
def test_plausible_headers_are_the_typed_error_or_cover_the_file(header: dict[str, Any]) -> None:
    """Entries of four bytes at arbitrary offsets are accepted only side by side."""
    try:
        found = parse_header(json.dumps(header).encode(), 4, model="some", where="x")
    except ModelUnavailable:
        return

    assert 1 == len(found)
