"""The layouts ``decoder`` and ``seq2seq``: decoders that others exported, under the engine's own executor.

They are slow beside the native layout (`llmos_onnx.row_runner` says why) and the same to whoever uses them: sampling,
structured output, preemption and limits are those of `llmos_onnx.executor`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import attrs

from llmos_kernel.errors import KernelBug
from llmos_onnx.assembly import assemble, control_ids, footprint, pool_size
from llmos_onnx.fields import refusal
from llmos_onnx.imported import ENCODER_GRAPH, FIRST_GRAPH, NEXT_GRAPH, CacheFacts, ImportedManifest
from llmos_onnx.imported_check import FLOAT, INTEGERS, Port
from llmos_onnx.imported_folder import (
    Contract, ImportedFolder, open_imported, open_session, read_imported, runtime_flags,
)  # fmt: skip
from llmos_onnx.manifest import GRAPH
from llmos_onnx.pool import KvPool, PoolSize
from llmos_onnx.profile import cores
from llmos_onnx.providers import runs_on, runtime
from llmos_onnx.row_runner import DecoderRows, Graphs, RowRunner, Seq2SeqRows
from llmos_onnx.text import Codec

if TYPE_CHECKING:
    from llmos_kernel.contracts import Footprint
    from llmos_onnx.backend import Options
    from llmos_onnx.executor import OnnxExecutor

_COPIES: Final = 3
"""How often a running sequence's cache exists besides the pool: taken out, within the graph, and returned."""
_TRIAL: Final = 3


def contracts(manifest: ImportedManifest) -> dict[str, Contract]:
    """Return the inputs and outputs of each graph of a decoder's folder, by the names that optimum gives them."""
    cache, logits = _cache(manifest), Port("logits", FLOAT, (None, None, manifest.vocab))
    ids = Port("input_ids", INTEGERS, (None, None))
    if manifest.layout == "decoder":
        inputs = [ids, _optional("attention_mask"), _optional("position_ids"), *_parts(cache, "past_key_values.{}.{}")]
        return {GRAPH: (inputs, [logits, *_parts(cache, "present.{}.{}")])}
    hidden, mask = (None, None, cache.width), _optional("encoder_attention_mask")
    own, seen = _parts(cache, "present.{}.decoder.{}"), _parts(cache, "present.{}.encoder.{}")
    past = [*_parts(cache, "past_key_values.{}.decoder.{}"), *_parts(cache, "past_key_values.{}.encoder.{}")]
    return {
        ENCODER_GRAPH: ([ids, _optional("attention_mask")], [Port("last_hidden_state", FLOAT, hidden)]),
        FIRST_GRAPH: ([ids, mask, Port("encoder_hidden_states", FLOAT, hidden)], [logits, *own, *seen]),
        NEXT_GRAPH: ([ids, mask, *past], [logits, *own]),
    }


def _optional(name: str) -> Port:
    return Port(name, INTEGERS, (None, None), optional=True)


def _parts(cache: CacheFacts, names: str) -> list[Port]:
    shape = (None, cache.kv_heads, None, cache.head_dim)
    return [Port(names.format(layer, kind), FLOAT, shape) for layer in range(cache.layers) for kind in ("key", "value")]


def _cache(manifest: ImportedManifest) -> CacheFacts:
    if manifest.cache is None:
        raise KernelBug("the manifest of a decoder says nothing of its cache", model=manifest.name)
    return manifest.cache


@attrs.frozen
class _Sizes:
    """The sizes that a pool depends on."""

    layers: int
    kv_heads: int
    head_dim: int
    context: int


def _pool_size(manifest: ImportedManifest, options: Options, *, model: str) -> PoolSize:
    cache = _cache(manifest)
    if options.speculate:
        expected = f"0: the layout {manifest.layout} guesses no tokens"
        raise refusal(model, "options: speculate", options.speculate, expected)
    sizes = _Sizes(cache.layers, cache.kv_heads, cache.head_dim, manifest.context)
    size = pool_size(sizes, "float32", options, model=model)
    least = len(cache.prefix) + 2
    if size.context < least:
        expected = f"at least {least}: one token to read, those that an answer begins with, and one to write"
        raise refusal(model, "context", size.context, expected)
    return size


class ImportedDecoderLayout:
    """Loads folders of the layouts ``decoder`` and ``seq2seq``."""

    def measure(self, path: Path, options: Options, *, model: str) -> Footprint:
        """Return the bytes of weights, KV pool, and the longest run; reads only the manifest."""
        manifest = read_imported(path)
        size = _pool_size(manifest, options, model=model)
        weights = sum(entry.size for entry in manifest.files.values())
        copies = _COPIES * size.nbytes // size.slots
        return footprint(weights + copies, size, manifest.vocab, positions=size.context)

    def load(self, path: Path, options: Options, *, model: str) -> OnnxExecutor:
        """Read, verify and load the folder at *path*, and try it."""
        manifest = read_imported(path)
        size = _pool_size(manifest, options, model=model)
        folder = open_imported(path, contracts(manifest))
        return _executor(runtime(model), folder, size, options, model=model)


def _executor(ort: ModuleType, folder: ImportedFolder, size: PoolSize, options: Options, *, model: str) -> OnnxExecutor:
    manifest, cache = folder.manifest, _cache(folder.manifest)
    threads, how = options.threads or cores(), runtime_flags(options, model=model)
    sessions = {name: open_session(ort, folder, name, threads, model=model, **how) for name in manifest.graphs}
    graphs = Graphs.of(ort, manifest.name, sessions, folder.inputs, cache, manifest.vocab)
    pool = KvPool(cache, size)
    runner: RowRunner = Seq2SeqRows(graphs, pool) if cache.prefix else DecoderRows(graphs, pool)
    graphs.try_it(runner, min(_TRIAL + len(cache.prefix), size.context - 1))
    return assemble(
        manifest,
        Codec(folder.tokenizer, model=model, vocab=manifest.vocab, control=control_ids(manifest)),
        runner,
        pool,
        step_tokens=options.step_tokens or size.context,
        facts={
            "model": manifest.name,
            "layout": manifest.layout,
            "architecture": manifest.architecture,
            "weights": manifest.weights,
            "exporter": manifest.exporter,
            "provider": runs_on(sessions[manifest.graphs[0]]),
            "runtime": ort.__version__,
            "threads": threads,
            **how,
            "batch_invariant": True,
            "chat": manifest.chat_template is not None,
        },
        model=model,
    )
