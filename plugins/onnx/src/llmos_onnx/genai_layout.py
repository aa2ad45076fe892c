"""The layout ``genai``: folders of onnxruntime-genai's model builder, run by the same engine as native ones."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from llmos_kernel.contracts import Footprint
from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.cache import device_of, memory_of, untouched
from llmos_onnx.assembly import STEP_TOKENS, assemble, control_ids, footprint, pool_size
from llmos_onnx.counts import Counts
from llmos_onnx.fields import refusal
from llmos_onnx.genai import GENAI_CONFIG, GenaiFiles, GenaiManifest, read_genai
from llmos_onnx.genai_check import GenaiGraph, check_genai, stated_cache
from llmos_onnx.imported_folder import open_bytes
from llmos_onnx.invariance import product_is_alone
from llmos_onnx.pool import KvPool, PoolSize
from llmos_onnx.profile import cores
from llmos_onnx.providers import CPU, provider_for, run_options, runs_on, runtime
from llmos_onnx.session import MOST_PADDING, Batch, Runner
from llmos_onnx.text import Codec
from llmos_onnx.tokens import read_named_settings

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.backend import Options
    from llmos_onnx.executor import OnnxExecutor

_TRIAL: Final = 4
_ALIKE: Final = 1e-2
"""Logits of a row alone and beside a longer one may differ by this share of the largest: no more than rounding."""


class GenaiLayout:
    """Loads folders whose manifest is ``genai_config.json``."""

    def measure(self, path: Path, options: Options, *, model: str) -> Footprint:
        """Return the bytes of the weights, the KV pool and a step's logits; reads the manifest and the graph."""
        manifest = read_genai(path)
        kv = stated_cache(GenaiFiles(path, model).graph(manifest.graph), manifest, model=model)
        size = pool_size(manifest, kv, options, model=model)
        weights = sum(_size(path / name) for name in (manifest.graph, manifest.data))
        device = device_of(_provider(kv, options, model=model))
        positions = options.step_tokens or STEP_TOKENS
        return footprint(weights, size, manifest.vocab, positions=positions, device=device)

    def load(self, path: Path, options: Options, *, model: str) -> OnnxExecutor:
        """Read, check and load the folder at *path*."""
        manifest, files = read_genai(path), GenaiFiles(path, model)
        text = read_named_settings(files, manifest.tokens, manifest.generation, manifest.vocab)
        manifest = attrs.evolve(manifest, tokens=text.tokens, chat_template=text.chat_template)
        content, data = files.graph(manifest.graph), files.data(manifest.data)
        graph = check_genai(content, manifest, len(data), model=model)
        if options.speculate and graph.last_only:
            expected = f"0: {manifest.graph} gives logits for the last position only"
            raise refusal(model, "options: speculate", options.speculate, expected)
        size, ort = pool_size(manifest, graph.kv, options, model=model), runtime(model)
        threads = options.threads or min(cores(), manifest.heads)
        how = {"spinning": options.spinning, "arena": options.arena, "prepacking": options.prepacking}
        provider = _provider(graph.kv, options, model=model)
        session = open_bytes(ort, content, data, threads, graph=manifest.graph, model=model, provider=provider, how=how)
        pool = KvPool(manifest, size, graph.kv, memory_of(provider, model=model))
        wiring, room = GenaiWiring(manifest, graph, size), options.speculate + 1
        runner = Runner(session, run_options(ort), wiring, pool, manifest.vocab, positions=room)
        _try(runner, manifest, size, model=model)
        runner.counts = Counts()
        facts = {
            **_facts(manifest, graph),
            "provider": runs_on(session),
            "runtime": ort.__version__,
            "threads": threads,
            **how,
            "batch_invariant": threads <= manifest.heads and _rows_are_alone(ort, graph),
        }
        codec = Codec(text.tokenizer, model=model, vocab=manifest.vocab, control=control_ids(manifest))
        return assemble(
            manifest,
            codec,
            runner,
            pool,
            step_tokens=options.step_tokens,
            speculate=options.speculate,
            facts=facts,
            model=model,
        )


class GenaiWiring:
    """Names as ``genai_config.json`` gives them, lengths as the row sums of a mask as wide as the longest."""

    def __init__(self, manifest: GenaiManifest, graph: GenaiGraph, size: PoolSize) -> None:
        self._names = manifest.names
        self._vocab = manifest.vocab
        self._last_only = graph.last_only
        self._dtype = np.dtype(graph.logits)
        self._positions = np.arange(size.context, dtype=np.int32)
        self._mask = np.zeros(size.slots * size.context, np.int64)
        self._wide: npt.NDArray[Any] = np.zeros((0, self._vocab), self._dtype)
        self.cache = manifest.names.cache(manifest.layers)
        # Where the last position is taken, a shorter row's is another; and attention over windows takes no padding.
        self.padding = 0.0 if graph.last_only or graph.windowed else MOST_PADDING

    def bind(self, batch: Batch) -> None:
        """Bind ids, positions, and logits where those that the graph gives are those that are wanted."""
        batch.bind(self._names.input_ids, batch.ids)
        if self._names.position_ids is not None:
            batch.more["positions"] = np.zeros(batch.ids.shape, np.int64)
            batch.bind(self._names.position_ids, batch.more["positions"])
        if self._direct(batch):
            batch.bind_logits(self._names.logits, batch.logits, self._shape(batch))

    def feed(self, batch: Batch, longest: int) -> None:
        """Write the mask, the positions, and bind room for the logits of all positions."""
        rows, tokens = batch.ids.shape
        mask = self._mask[: rows * longest].reshape(rows, longest)
        np.less_equal(self._positions[:longest], batch.lengths[:, None], out=mask)
        batch.bind(self._names.attention_mask, mask)
        if self._names.position_ids is not None:
            begin = np.maximum(batch.lengths + 1 - tokens, 0)
            np.add(begin[:, None], self._positions[:tokens], out=batch.more["positions"])
        if not self._direct(batch):
            shape = self._shape(batch)
            if len(self._wide) < shape[0] * shape[1]:
                self._wide = untouched((shape[0] * shape[1], self._vocab), self._dtype)
            batch.bind_logits(self._names.logits, self._wide, shape)

    def read(self, batch: Batch) -> None:
        """Take the logits of the wanted positions out of those of all."""
        if not self._direct(batch):
            batch.logits[...] = self._wide[: len(batch.logits)] if self._last_only else self._wide[batch.last]

    def _direct(self, batch: Batch) -> bool:
        return self._dtype == np.float32 and (self._last_only or batch.ids.shape[1] == 1)

    def _shape(self, batch: Batch) -> tuple[int, int, int]:
        rows, tokens = batch.ids.shape
        return rows, 1 if self._last_only else tokens, self._vocab


def _provider(kv: str, options: Options, *, model: str) -> str:
    """Return the provider that a folder with a cache of the type *kv* is to run on; see `provider_for`."""
    half = kv == "float16"
    if not half and options.provider == "auto":
        return CPU  # found without the runtime, which takes long to load
    return provider_for(runtime(model), options.provider, half=half, model=model)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _facts(manifest: GenaiManifest, graph: GenaiGraph) -> dict[str, Any]:
    return {
        "model": manifest.name,
        "layout": "genai",
        "architecture": manifest.architecture,
        "weights": graph.weights,
        "kv": graph.kv,
        "exporter": graph.producer,
        "chat": manifest.chat_template is not None,
    }


def _rows_are_alone(ort: ModuleType, graph: GenaiGraph) -> bool:
    """Say whether the products of *graph* give a row the same bits alone and among others."""
    return graph.kv == "float32" and all(product_is_alone(ort, *product) for product in graph.products)


def _try(runner: Runner, manifest: GenaiManifest, size: PoolSize, *, model: str) -> None:
    """Run a prompt alone and beside a longer one, and one token more of each.

    Raises `ModelUnavailable` where shapes are not as declared, or a row depends on its neighbour.
    """
    if size.context < _TRIAL:
        raise refusal(model, "options: context", size.context, f"at least {_TRIAL}, the length of a trial run")
    try:
        alone = _tried(runner, 1, manifest)
        beside = _tried(runner, min(size.slots, 2), manifest)
    except Exception as error:  # the runtime's exception classes have no public base
        expected = f"a graph that gives what it declares and {GENAI_CONFIG} says"
        message = f"a trial run of {model!r} failed, expected {expected}: {error}"
        raise ModelUnavailable(message, model=model, field=manifest.graph, value="failed", expected=expected) from error
    largest = float(np.abs(alone).max())
    apart = float(np.abs(alone - beside).max())
    if not apart <= _ALIKE * largest:
        expected = f"at most {_ALIKE * largest:g}: rows of different lengths that do not see each other"
        raise refusal(model, f"{manifest.graph}: difference of a row alone and beside another", apart, expected)


def _tried(runner: Runner, rows: int, manifest: GenaiManifest) -> npt.NDArray[np.float32]:
    """Return the logits of the first of *rows* after a prompt of two tokens, and after one more."""
    lengths = np.arange(2, 2 + rows, dtype=np.int32)
    together = [range(rows)] if runner.padding else [range(row, row + 1) for row in range(rows)]
    found = []
    for group in together:
        batch = runner.batch(group[0], len(group), int(lengths[group[-1]]))
        batch.ids[...] = np.arange(1, 1 + batch.ids.shape[1]) % manifest.vocab
        batch.lengths[...] = lengths[group] - 1
        batch.last[...] = np.arange(len(group)) * batch.ids.shape[1] + batch.lengths
        runner.run(batch)
        found.append(batch.logits[0].copy())
    batch = runner.batch(0, rows, 1)
    batch.ids[...], batch.lengths[...] = 0, lengths
    runner.run(batch)
    return np.array([found[0], batch.logits[0]])
