"""Running decoders whose graphs return their whole cache, as optimum writes them: row by row.

Such a graph takes past keys and values and returns them longer by the new tokens, so each run copies a sequence's cache
three times: out of the pool, within the graph, and the new tokens back.  It computes logits of every position.  Rows of
different lengths cannot share a run without padding in the middle of the cache, which the graph's own arithmetic would
have to bear; alone, a row's numbers depend on nothing but its own tokens.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug, ModelUnavailable
from llmos_onnx.batch import Rows
from llmos_onnx.counts import Counts
from llmos_onnx.fields import refusal
from llmos_onnx.imported import ENCODER_GRAPH, FIRST_GRAPH, NEXT_GRAPH
from llmos_onnx.manifest import GRAPH
from llmos_onnx.providers import run_options

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt
    import onnxruntime

    from llmos_onnx.imported import CacheFacts
    from llmos_onnx.pool import KvPool

    Floats = npt.NDArray[np.float32]


class Cut(Exception):
    """The run was terminated."""


@attrs.frozen(eq=False)
class Graphs:
    """The sessions of a folder, and what is known of their inputs and outputs."""

    model: str
    sessions: Mapping[str, onnxruntime.InferenceSession]
    inputs: Mapping[str, frozenset[str]]
    cache: CacheFacts
    vocab: int
    options: onnxruntime.RunOptions
    counts: Counts

    @classmethod
    def of(
        cls, ort: ModuleType, model: str, sessions: Mapping[str, onnxruntime.InferenceSession],
        inputs: Mapping[str, frozenset[str]], cache: CacheFacts, vocab: int,
    ) -> Graphs:  # fmt: skip
        """Return the graphs of *sessions* with run options of their own."""
        return cls(model, sessions, inputs, cache, vocab, run_options(ort), Counts())

    def run(
        self, graph: str, feeds: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
    ) -> list[Floats]:
        """Return the outputs named in *shapes*, which must have those shapes; *feeds* the graph lacks are left out.

        Raises `Cut` when it was terminated, and `ModelUnavailable` where the graph fails or gives something else.
        """
        given = {name: value for name, value in feeds.items() if name in self.inputs[graph]}
        self.counts.runs += 1
        begun = time.perf_counter()
        try:
            outputs: list[Floats] = self.sessions[graph].run(list(shapes), given, self.options)
        except Exception as error:  # the runtime's own exception classes have no public base
            if self.options.terminate:
                raise Cut from error
            expected = "a graph that runs with ids of its vocabulary, within the memory that imported graphs may have"
            message = f"{graph} of {self.model!r} failed, expected {expected}: {error}"
            raise ModelUnavailable(message, model=self.model, field=graph, value="failed", expected=expected) from error
        finally:
            self.counts.run_seconds += time.perf_counter() - begun
        for (name, shape), output in zip(shapes.items(), outputs, strict=True):
            if output.shape != shape or output.dtype != np.float32:
                raise refusal(self.model, f"{graph}: {name}", list(output.shape), str(list(shape)))
        return outputs

    def parts(self, names: str, tokens: int) -> dict[str, tuple[int, ...]]:
        """Return the names of all keys and values, *names* with the layer and the kind in it, and their shape."""
        shape = (1, self.cache.kv_heads, tokens, self.cache.head_dim)
        return {names.format(layer, kind): shape for layer in range(self.cache.layers) for kind in ("key", "value")}

    def try_it(self, runner: RowRunner, prompt: int) -> None:
        """Run a prompt of *prompt* tokens and one token more, so that a graph whose shapes lie is refused at once."""
        for tokens, length in ((prompt, prompt), (1, prompt + 1)):
            batch = runner.batch(0, 1, tokens)
            batch.lengths[0], batch.prompts[0] = length - 1, prompt
            runner.run(batch)
            for error in batch.errors.values():
                raise error
        self.counts.runs, self.counts.run_seconds = 0, 0.0


class RowRunner(abc.ABC):
    """Computes batches row by row.  A row that fails is reported in `Rows.errors`, and the others go on."""

    whole = True
    padding = 1.0
    """Nothing is computed of it, so there may be any."""

    def __init__(self, graphs: Graphs, pool: KvPool) -> None:
        self._graphs = graphs
        self.counts = graphs.counts
        """What was done so far."""
        self.seconds = 0.0
        """Time of the last run."""
        self._pool = pool

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that answers begin with."""
        return self._graphs.cache.prefix

    def batch(self, first: int, rows: int, tokens: int, *, every: bool = False) -> RowBatch:
        """Return the arrays of a run; nobody may ask for the logits of *every* position."""
        if every or not (rows >= 1 and tokens >= 1 and first >= 0 and first + rows <= self._pool.size.slots):
            raise KernelBug("impossible batch", first=first, rows=rows, tokens=tokens)
        return RowBatch(
            ids=np.zeros((rows, tokens), np.int64),
            lengths=np.zeros(rows, np.int32),
            last=np.arange(rows, dtype=np.int64) * tokens + tokens - 1,
            prompts=np.zeros(rows, np.int64),
            logits=np.full((rows, self._graphs.vocab), np.nan, np.float32),
            first=first,
        )

    def run(self, batch: Rows) -> bool:
        """Compute the rows of *batch* that have a prompt; return False if `terminate` cut it short."""
        begun = time.perf_counter()
        try:
            return self._run(batch)
        finally:
            self.seconds = time.perf_counter() - begun

    def _run(self, batch: Rows) -> bool:
        if not isinstance(batch, RowBatch):
            raise KernelBug("a batch of another runner", rows=len(batch.ids))
        batch.errors.clear()
        for row, prompt in enumerate(batch.prompts.tolist()):
            end, width = int(batch.lengths[row]) + 1, batch.ids.shape[1]
            tokens = int(batch.last[row]) - row * width + 1
            if not prompt:
                continue
            if not (1 <= tokens <= end <= self._pool.size.context and tokens <= width):
                raise KernelBug("lengths of a run do not fit", tokens=tokens, end=end, width=width)
            try:
                batch.logits[row] = self._row(batch.first + row, batch.ids[row, :tokens], end - tokens, prompt)
            except Cut:
                return False
            except ModelUnavailable as error:
                batch.errors[row] = error
        return True

    def terminate(self) -> None:
        """Cut the current run short, and refuse further ones until `rearm`.  Any thread."""
        self._graphs.options.terminate = True

    def rearm(self) -> None:
        """Let runs run again after `terminate`."""
        if self._graphs.options.terminate:
            self._graphs.options.terminate = False

    @abc.abstractmethod
    def _row(self, slot: int, ids: npt.NDArray[np.int64], past: int, prompt: int) -> Floats:
        """Compute *ids* after *past* tokens in *slot*, keep their cache there, and return the last one's logits."""

    def _past(self, names: str, cache: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return *cache* (``[2 * layers, kv_heads, tokens, head_dim]``) by the names of the graph's inputs."""
        return {name: part[None] for name, part in zip(self._graphs.parts(names, 0), cache, strict=True)}


@attrs.define(eq=False, kw_only=True)
class RowBatch(Rows):
    """The arrays of one run."""

    first: int
    """The first slot."""


class DecoderRows(RowRunner):
    """The layout ``decoder``: one graph for prompts and further tokens."""

    def _row(self, slot: int, ids: npt.NDArray[np.int64], past: int, prompt: int) -> Floats:
        graphs, end = self._graphs, past + len(ids)
        feeds = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(past, end, dtype=np.int64)[None],
            **self._past("past_key_values.{}.{}", self._pool.save(slot, past)),
        }
        shapes = {"logits": (1, len(ids), graphs.vocab), **graphs.parts("present.{}.{}", end)}
        logits, *present = graphs.run(GRAPH, feeds, shapes)
        self._pool.write(slot, past, [part[0, :, past:] for part in present])
        return _last(logits)


class Seq2SeqRows(RowRunner):
    """The layout ``seq2seq``: an encoder reads the prompt, and the decoder looks at what it found.

    A sequence is the source, then the tokens that answers begin with (together the prompt), then the output.  In its
    slot the source's positions hold the keys and values by which the decoder looks at the source, and the other
    positions the decoder's own: so moving, saving and forgetting a slot is the same as for any decoder.
    """

    def _row(self, slot: int, ids: npt.NDArray[np.int64], past: int, prompt: int) -> Floats:
        source = prompt - len(self._graphs.cache.prefix)
        if source > 0 and past == 0 and len(ids) == prompt:
            return self._begin(slot, ids[:source], ids[source:])
        if past < prompt or len(ids) != 1:
            raise KernelBug("a prompt was cut, or has no source", past=past, tokens=len(ids), prompt=prompt)
        return self._go_on(slot, ids, past, source)

    def _begin(self, slot: int, source: npt.NDArray[np.int64], prefix: npt.NDArray[np.int64]) -> Floats:
        graphs, mask = self._graphs, np.ones((1, len(source)), np.int64)
        shapes = {"last_hidden_state": (1, len(source), graphs.cache.width)}
        (hidden,) = graphs.run(ENCODER_GRAPH, {"input_ids": source[None], "attention_mask": mask}, shapes)
        feeds: dict[str, npt.NDArray[Any]] = {
            "input_ids": prefix[None],
            "encoder_hidden_states": hidden,
            "encoder_attention_mask": mask,
        }
        seen, own = (
            graphs.parts("present.{}.encoder.{}", len(source)),
            graphs.parts("present.{}.decoder.{}", len(prefix)),
        )
        logits, *present = graphs.run(FIRST_GRAPH, feeds, {"logits": (1, len(prefix), graphs.vocab), **seen, **own})
        self._keep(slot, 0, present[: len(seen)])
        self._keep(slot, len(source), present[len(seen) :])
        return _last(logits)

    def _go_on(self, slot: int, ids: npt.NDArray[np.int64], past: int, source: int) -> Floats:
        graphs, cache = self._graphs, self._pool.save(slot, past)
        feeds: dict[str, npt.NDArray[Any]] = {
            "input_ids": ids[None],
            "encoder_attention_mask": np.ones((1, source), np.int64),
            **self._past("past_key_values.{}.encoder.{}", cache[:, :, :source]),
            **self._past("past_key_values.{}.decoder.{}", cache[:, :, source:]),
        }
        own = graphs.parts("present.{}.decoder.{}", past - source + 1)
        logits, *present = graphs.run(NEXT_GRAPH, feeds, {"logits": (1, 1, graphs.vocab), **own})
        self._keep(slot, past, [part[:, :, -1:] for part in present])
        return _last(logits)

    def _keep(self, slot: int, begin: int, present: Sequence[Floats]) -> None:
        self._pool.write(slot, begin, [part[0] for part in present])


def _last(logits: Floats) -> Floats:
    """Return the logits of the last position of the one row."""
    found: Floats = logits[0, -1]
    return found
