"""A checkpoint as Hugging Face publishes it: configuration, safetensors in one file or in shards, tokenizer.

Nothing is ever run from it: no module, no pickle.  Tensors stream through in blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs
import numpy as np

from llmos_onnx.fields import MAX_JSON_BYTES, Fields, nearest, read_json, refusal
from llmos_onnx.safetensors import FLOATS, TensorFile, open_regular

if TYPE_CHECKING:
    import numpy.typing as npt

CONFIG: Final = "config.json"
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
MAX_INDEX_BYTES: Final = 16 << 20
MAX_CARD: Final = 1 << 20
"""Most bytes of a model card."""

_BLOCK_BYTES: Final = 16 << 20
_SHARD_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.safetensors")
# Old checkpoints keep tables that the configuration already determines.
_DERIVED: Final = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|(\w+\.)?embeddings\.position_ids")
_LICENCE: Final = re.compile(r"^license:\s*['\"]?([^'\"\s]{1,100})", re.MULTILINE)

Progress = Callable[[str, int, int], None]
"""``progress(tensor, done, total)``: bytes of weights read so far, and in all."""


@attrs.frozen
class StackedMatrix:
    """Tensors of one width, row upon row; read from the checkpoint each time `blocks` is called."""

    checkpoint: Checkpoint
    parts: tuple[str, ...]
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """The first part's name, and how many more there are."""
        return self.parts[0] if len(self.parts) == 1 else f"{self.parts[0]}+{len(self.parts) - 1}"

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield all rows in order as float32 ``[n, columns]``."""
        for part in self.parts:
            yield from self.checkpoint.blocks(part)


class Checkpoint:
    """An open checkpoint; a context manager.  *model* is the name that errors give it."""

    def __init__(self, path: Path, *, model: str, progress: Progress | None = None) -> None:
        """Open the folder *path*; raise `ModelUnavailable` where a file is missing or malformed."""
        self.model = model
        self._path = path
        self._progress = progress
        self._files = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._where = self._open(opened)
            self._files = opened.pop_all()
        self._total = sum(file.tensors[name].size for name, file in self._where.items())
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def json(self, name: str, *, required: bool = False, limit: int = MAX_JSON_BYTES) -> Fields:
        """Read the JSON file *name*; where it does not exist and is not *required*, an empty object."""
        content = self.read(name, limit)
        if content is None and required:
            raise refusal(self.model, name, "missing", "a file of the checkpoint")
        return read_json(content or b"{}", model=self.model, where=name, limit=limit)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the file *name* of at most *limit* bytes, or None where it does not exist.

        What is read here may end in the exported folder, so a link must not lead to a file of the person who exports.
        """
        try:
            with BufferedReader(open_regular(self._path / name, model=self.model)) as file:
                self._refuse_stranger(name, file.fileno())
                content = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal(self.model, name, error.strerror, "a readable file") from error
        if len(content) > limit:
            raise refusal(self.model, f"{name}: size", f"more than {limit}", f"at most {limit} bytes")
        return content

    def _refuse_stranger(self, name: str, opened: int) -> None:
        """Refuse a link that leads out of the checkpoint, or of the cache of published ones that it lies in."""
        folder, target = self._path.resolve(), (self._path / name).resolve()
        homes = [folder, folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [folder]
        inside = any(target.is_relative_to(home) for home in homes)
        if not (inside and os.path.samestat(os.fstat(opened), target.stat())):
            raise refusal(self.model, name, "a link that leads elsewhere", "a file of the checkpoint")

    @property
    def names(self) -> Iterable[str]:
        """The names of all tensors."""
        return self._where.keys()

    def expect(self, shapes: dict[str, tuple[int, ...]], optional: frozenset[str] = frozenset()) -> None:
        """Refuse a checkpoint whose tensors are not those of *shapes* (and of *optional*, which nobody reads)."""
        for name, shape in shapes.items():
            if name not in self._where:
                raise refusal(self.model, f"tensor {name}", "missing", f"a tensor of shape {list(shape)}")
            info = self._where[name].tensors[name]
            found = info.shape
            if info.dtype not in FLOATS:
                raise refusal(self.model, f"tensor {name}: dtype", info.dtype, f"one of {', '.join(FLOATS)}")
            if found != shape:
                raise refusal(self.model, f"tensor {name}: shape", list(found), f"{list(shape)}, as {CONFIG} says")
        for name in self._where:
            if name not in shapes and name not in optional and not _DERIVED.fullmatch(name):
                close = nearest(name, shapes).split(", ")[0]
                raise refusal(self.model, "tensor", name, f"only the tensors of this architecture, such as {close}")

    def matrix(self, *names: str) -> StackedMatrix:
        """Return the two-dimensional tensors *names*, stacked row upon row."""
        shapes = [self._where[name].tensors[name].shape for name in names]
        return StackedMatrix(self, names, sum(shape[0] for shape in shapes), shapes[0][1])

    def vector(self, *names: str) -> npt.NDArray[np.float32]:
        """Return the one-dimensional tensors *names*, one after another."""
        return np.concatenate([block for name in names for block in self.blocks(name)])

    def blocks(self, name: str) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the tensor *name* as float32 in blocks of at most 16 MiB along its first dimension."""
        file = self._where[name]
        width = 4 if file.tensors[name].dtype == "F32" else 2
        for block in file.blocks(name, _BLOCK_BYTES):
            yield block
            self._done += block.size * width
            if self._progress is not None:
                self._progress(name, self._done, self._total)

    def _open(self, opened: contextlib.ExitStack) -> dict[str, TensorFile]:
        """Open the one file or the shards, and return which file holds which tensor."""
        index = self.json(INDEX, limit=MAX_INDEX_BYTES)
        if not index.values:
            file = opened.enter_context(TensorFile(self._path / SINGLE, model=self.model))
            return dict.fromkeys(file.tensors, file)
        shards: dict[str, TensorFile] = {}
        where: dict[str, TensorFile] = {}
        placed = index.inner("weight_map")
        for name in placed.values:
            shard = placed.text(name, 220)
            if not _SHARD_NAME.fullmatch(shard):
                raise placed.refuse(name, "the plain name of a safetensors file in the checkpoint")
            if shard not in shards:
                shards[shard] = opened.enter_context(TensorFile(self._path / shard, model=self.model))
            if name not in shards[shard].tensors:
                raise placed.refuse(name, "a file that holds this tensor")
            where[name] = shards[shard]
        for shard, file in shards.items():
            for name in file.tensors:
                if where.get(name) is not file:
                    raise refusal(
                        self.model, f"{shard}: {name}", "not in the index", f"listed in {INDEX} for this file"
                    )
        return where


def read_licence(card: bytes | None) -> str:
    """Return the licence that a model card's front matter names."""
    parts = (card or b"").decode("utf-8", "replace").split("---", 2)
    found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found[1] if found else "unknown"
