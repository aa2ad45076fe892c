"""Opening an imported model folder, and sessions for its graphs.

Files are read once, hashed, checked and given to the runtime as bytes, as those of a native folder are.  Sessions of
imported graphs share one allocator with a limit: a graph whose tensors grow beyond it with the sizes of its inputs is
an error of that run, not the end of the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import attrs

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.fields import refusal
from llmos_onnx.folder import read_file
from llmos_onnx.imported import ImportedManifest, data_name
from llmos_onnx.imported_check import Port, check_imported
from llmos_onnx.manifest import MANIFEST, TOKENIZER
from llmos_onnx.providers import CPU, runs_on, session_options
from llmos_onnx.tokens import load_tokenizer

if TYPE_CHECKING:
    import onnxruntime

    from llmos_onnx.backend import Options

ARENA_BYTES: Final = 8 << 30
"""Most memory for the tensors that imported graphs make while they run, all together; at most 3/4 of the machine's."""

Contract = tuple[Iterable[Port], Iterable[Port]]
"""The inputs and outputs of a graph."""


@attrs.frozen(eq=False, repr=False)
class ImportedFolder:
    """A verified folder, held in memory."""

    manifest: ImportedManifest
    graphs: Mapping[str, bytes]
    data: Mapping[str, memoryview]
    """The large tensors of each graph, by the graph's name."""
    inputs: Mapping[str, frozenset[str]]
    """The names of each graph's inputs."""
    tokenizer: bytes


def read_imported(path: Path) -> ImportedManifest:
    """Read only ``llmos.json``: enough to list a model, not to trust it."""
    model = path.absolute().name
    return ImportedManifest.from_json(bytes(read_file(path, MANIFEST, None, model)), model=model)


def open_imported(path: Path, contracts: Mapping[str, Contract]) -> ImportedFolder:
    """Read and verify the folder at *path*; *contracts* has the inputs and outputs of each graph by its name.

    Raises `ModelUnavailable` naming the file or field, its value and what would be right, and `OutOfMemory` where the
    weights do not fit.
    """
    manifest, model = read_imported(path), path.absolute().name
    data = {name: _data(path, data_name(name), manifest, model) for name in manifest.graphs}
    graphs = {name: bytes(read_file(path, name, manifest.files[name], model)) for name in manifest.graphs}
    inputs = {
        name: check_imported(
            content,
            graph=name,
            data=data_name(name),
            data_size=len(data[name]),
            inputs=contracts[name][0],
            outputs=contracts[name][1],
            model=model,
        )
        for name, content in graphs.items()
    }
    tokenizer = bytes(read_file(path, TOKENIZER, manifest.files[TOKENIZER], model))
    load_tokenizer(tokenizer, manifest.vocab, model=model)
    return ImportedFolder(manifest, graphs, data, inputs, tokenizer)


def _data(path: Path, name: str, manifest: ImportedManifest, model: str) -> memoryview:
    return memoryview(read_file(path, name, manifest.files[name], model)).toreadonly()


def runtime_flags(options: Options, *, model: str) -> dict[str, bool]:
    """Return the flags of `session_options` that *options* ask for; raise `ModelUnavailable` where they want CUDA."""
    if options.provider == "cuda":
        raise refusal(model, "options: provider", "cuda", "cpu or auto: folders of this layout run on the CPU")
    return {"spinning": options.spinning, "arena": options.arena, "prepacking": options.prepacking}


def open_session(
    ort: ModuleType, folder: ImportedFolder, graph: str, threads: int, *, model: str, **how: bool
) -> onnxruntime.InferenceSession:
    """Create a session of *graph* from the folder's bytes, as `open_bytes` does."""
    return open_bytes(ort, folder.graphs[graph], folder.data[graph], threads, graph=graph, model=model, how=how)


def open_bytes(
    ort: ModuleType,
    content: bytes,
    data: memoryview,
    threads: int,
    *,
    graph: str,
    model: str,
    provider: str = CPU,
    how: Mapping[str, bool] | None = None,
) -> onnxruntime.InferenceSession:
    """Create a session of *content*, whose large tensors are *data*, on *provider*; *graph* is its file's name.

    *how* are flags of `session_options`.  Raises `ModelUnavailable` where the runtime refuses it.
    """
    _limit_memory(ort)
    options = session_options(ort, threads, **(how or {}))
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Weights go back to the system with their session; the shared allocator would keep them.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if len(data):
        options.add_external_initializers_from_files_in_memory([data_name(graph)], [data], [len(data)])
    try:
        session: onnxruntime.InferenceSession = ort.InferenceSession(content, options, providers=[provider])
    except Exception as error:  # the runtime's exception classes have no public base
        expected = "a graph that this runtime loads"
        message = f"ONNX Runtime refuses {graph} of {model!r}, expected {expected}: {error}"
        raise ModelUnavailable(message, model=model, field=graph, value="refused", expected=expected) from error
    if runs_on(session) != provider:
        raise refusal(model, "provider", runs_on(session), provider)
    return session


@functools.cache
def _limit_memory(ort: ModuleType) -> None:
    """Register the allocator that sessions of imported graphs share; once per process."""
    limit = ARENA_BYTES
    if hasattr(os, "sysconf"):
        limit = min(limit, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 * 3)
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # 1: extend by what is asked for, not by powers of two.
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": 1}))
