"""A model folder is opened whole and unchanged, or refused with one error that names what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.folder import open_folder, read_manifest, read_tokenizer, write_folder
from llmos_onnx.manifest import DATA, GRAPH, MANIFEST, TOKENIZER

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(model_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A model folder of one's own, to break."""
    return shutil.copytree(model_folder("nano", "w8a8"), tmp_path / "nano")


def edit(folder: Path, change: Edit) -> None:
    """Change the manifest."""
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    change(values)
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")


def refused(folder: Path) -> ModelUnavailable:
    """Open *folder*, which must fail, and return the error."""
    with pytest.raises(ModelUnavailable) as caught:
        read_tokenizer(folder, open_folder(folder).manifest)
    assert caught.value.fields["model"] == "nano"
    assert {"field", "value", "expected"} <= set(caught.value.fields)
    assert str(folder.parent) not in str(caught.value)
    return caught.value


def test_a_folder_opens_with_the_bytes_that_were_hashed(folder: Path) -> None:
    """What is returned are the files' bytes, and the arguments by which the runtime takes the weights."""
    opened = open_folder(folder)

    assert (folder / GRAPH).read_bytes() == opened.graph
    assert (folder / DATA).read_bytes() == opened.data
    assert (folder / TOKENIZER).read_bytes() == read_tokenizer(folder, opened.manifest)
    assert ([DATA], [opened.data], [len(opened.data)]) == opened.external_files()
    assert opened.data.readonly
    assert "llama" == opened.manifest.architecture


def test_the_manifest_alone_can_be_read(folder: Path) -> None:
    """Listing models needs no weights."""
    (folder / DATA).unlink()

    assert 512 == read_manifest(folder).shape.vocab


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, DATA, TOKENIZER])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """Each file of a folder is necessary."""
    (folder / name).unlink()

    assert name in str(refused(folder).fields["field"])


@pytest.mark.parametrize("name", [GRAPH, DATA, TOKENIZER])
def test_a_flipped_bit_is_found(folder: Path, name: str) -> None:
    """A file that differs in one bit from what was exported is refused."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    assert f"{name}: sha256" == refused(folder).fields["field"]


@pytest.mark.parametrize("size", [-1, 1])
def test_a_file_that_is_cut_or_grown_is_refused_before_it_is_read(folder: Path, size: int) -> None:
    """Sizes are compared first: nobody allocates for a file that cannot be right."""
    content = (folder / DATA).read_bytes()
    (folder / DATA).write_bytes(content[:size] if size < 0 else content + b"x")

    assert f"{DATA}: size" == refused(folder).fields["field"]


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, DATA, TOKENIZER])
def test_links_are_refused(folder: Path, name: str) -> None:
    """A file that is a link may lead anywhere."""
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")

    assert name == refused(folder).fields["field"]


@pytest.mark.parametrize("name", [MANIFEST, DATA])
def test_what_is_no_file_is_refused_at_once(folder: Path, name: str) -> None:
    """A pipe that nobody writes to does not hold the reader up, and a folder is no file."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert name == refused(folder).fields["field"]

    (folder / name).unlink()
    (folder / name).mkdir()
    assert name == refused(folder).fields["field"]


@pytest.mark.parametrize("name", ["../nano/model.onnx.data", "/etc/passwd", "sub/model.onnx.data", "model.pkl", ""])
def test_names_beyond_the_folders_own_are_refused(folder: Path, name: str) -> None:
    """The manifest cannot name files that climb, are absolute, or are none of a model folder's."""
    edit(folder, lambda values: values["files"].update({name: values["files"].pop(DATA)}))

    assert repr(name) == refused(folder).fields["value"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", 2),
        ("format", True),
        ("format", None),
        ("extra", 1),
        ("shape: architecture", "mamba"),
        ("shape: kv_heads", 3),
        ("shape: context", 2**40),
        ("shape: vocab", None),
        ("shape: more", 1),
        ("shape: rope: theta", -1),
        ("weights", "fp8"),
        ("kv", "float64"),
        ("tokens: bos", 512),
        ("tokens: eos", [1, True]),
        (f"files: {DATA}: sha256", "00"),
        (f"files: {DATA}: size", -1),
        (f"files: {DATA}", None),
        ("generation: temperature", "hot"),
        ("chat_template", 7),
    ],
    ids=str,
)
def test_a_wrong_manifest_names_its_field(folder: Path, place: str, value: object) -> None:
    """Unknown keys, versions, architectures and formats, values out of range, of the wrong kind, and missing."""
    *outer, last = place.split(": ")

    def change(values: dict[str, Any]) -> None:
        for key in outer:
            values = values[key]
        values[last] = value

    edit(folder, change)

    error = refused(folder)
    assert last in f"{error.fields['field']} {error.fields['value']}"
    assert ": ".join(outer) in str(error.fields["field"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b'{"format": ' + b"1" * 5000 + b"}",
        b'"' + b"x" * (1 << 20) + b'"',
    ],
    ids=lambda content: content[:16].decode("latin-1"),
)
def test_what_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    """Broken, deep, doubled, huge and odd JSON is one typed error."""
    (folder / MANIFEST).write_bytes(content)

    assert str(refused(folder).fields["field"]).startswith(MANIFEST)


def half_a_folder(target: Path) -> None:
    """Begin a folder and fail."""
    with write_folder(target) as writer:
        writer.add(GRAPH, b"some")
        raise RuntimeError("half-way")


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    """Whoever stops half-way leaves neither the folder nor its beginnings."""
    with pytest.raises(RuntimeError, match="half-way"):
        half_a_folder(tmp_path / "model")

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model", "none/model"])
def test_a_folder_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """A target that exists is refused before anything is written, and so is one whose parent does not."""
    (tmp_path / "model").mkdir()

    with pytest.raises(InvalidArgument) as caught:
        half_a_folder(tmp_path / name)

    assert "target" == caught.value.fields["field"]
