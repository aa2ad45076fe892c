"""Which layout a model folder has, and who loads it.

native    `llmos_onnx.manifest`: the decoder that our own exporter writes; batched, cached in one pool
encoder   `llmos_onnx.encoder`: vectors and labels
decoder   `llmos_onnx.imported_decoder`: a graph that returns its whole cache, as optimum writes it
seq2seq   the same for an encoder and a decoder
genai     `llmos_onnx.genai_layout`: what onnxruntime-genai's builder wrote, as it is; batched and cached as native
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from llmos_onnx.encoder import EncoderLayout
from llmos_onnx.fields import nearest, read_json, refusal
from llmos_onnx.folder import read_file
from llmos_onnx.imported_decoder import ImportedDecoderLayout
from llmos_onnx.genai import is_genai
from llmos_onnx.genai_layout import GenaiLayout
from llmos_onnx.manifest import MANIFEST

if TYPE_CHECKING:
    from llmos_kernel.contracts import Footprint, StepExecutor
    from llmos_onnx.backend import Options


class Layout(Protocol):
    """Measures and loads folders of one layout."""

    def measure(self, path: Path, options: Options, *, model: str) -> Footprint:
        """Say what `load` will take, from the manifest alone."""

    def load(self, path: Path, options: Options, *, model: str) -> StepExecutor:
        """Read, verify and load the folder at *path*; raise `ModelUnavailable` naming what is wrong."""


IMPORTED: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        "encoder": EncoderLayout(),
        "decoder": ImportedDecoderLayout(),
        "seq2seq": ImportedDecoderLayout(),
    }
)
"""Every layout but the native one."""


def imported_layout(path: Path) -> Layout | None:
    """Return who loads the folder at *path*; None for a native folder.

    Raises `ModelUnavailable` where the manifest is missing, malformed, or names a layout that nobody knows.
    """
    if is_genai(path):
        return GenaiLayout()
    model = path.absolute().name
    fields = read_json(bytes(read_file(path, MANIFEST, None, model)), model=model, where=MANIFEST)
    if not fields.has("layout"):
        return None
    name = fields.text("layout", 100)
    if name not in IMPORTED:
        raise refusal(model, f"{MANIFEST}: layout", name, f"one of {nearest(name, IMPORTED)}")
    return IMPORTED[name]
