"""Running the decoder graph: inputs, bindings and the cache, without copies.

Binding a value costs tens of microseconds and a graph has four or more per layer, so a binding is made once per
(first slot, rows, tokens per row) and kept.  Its small inputs are arrays that stay bound and are written in place
before each run.  The cache is bound to the same memory as input and as output, so it grows in place.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime as ort

    from llmos_onnx.counts import Counts
    from llmos_onnx.pool import KvPool

_KEPT_BINDINGS = 128
_ZERO_POINT = 128


@attrs.frozen(eq=False)
class Batch:
    """The inputs of one shape of run, bound once and written in place before each run."""

    ids: npt.NDArray[np.int64]
    """Token ids ``[rows, tokens]``."""
    lengths: npt.NDArray[np.int32]
    """Tokens of each row after the run, minus one: ``[rows]``."""
    total: npt.NDArray[np.int32]
    """The longest row after the run: a scalar."""
    last: npt.NDArray[np.int64]
    """Which of the rows * tokens positions get logits: ``[rows]``, one per row."""
    logits: npt.NDArray[np.float32]
    """``[rows, vocab]``, valid until the next run."""
    binding: Any
    kept: tuple[npt.NDArray[Any], ...] = ()
    """Other bound arrays, kept alive."""


class Runner:
    """One ONNX Runtime session over one KV pool."""

    def __init__(
        self, session: ort.InferenceSession, options: ort.RunOptions, pool: KvPool, vocab: int, counts: Counts
    ) -> None:
        self._session = session
        self._counts = counts
        self._pool = pool
        self._batches: OrderedDict[tuple[int, int, int], Batch] = OrderedDict()
        self._logits = np.zeros((pool.size.slots, vocab), np.float32)
        self._inputs = {value.name for value in session.get_inputs()}
        self._layers = sum(name.endswith("_k") and name.startswith("past_") for name in self._inputs)
        self._options = options

    def batch(self, first: int, rows: int, tokens: int) -> Batch:
        """Return the inputs for *rows* adjacent slots from *first* on, *tokens* tokens each."""
        key = (first, rows, tokens)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = self._bind(first, rows, tokens)
            if len(self._batches) > _KEPT_BINDINGS:
                self._batches.popitem(last=False)
        else:
            self._batches.move_to_end(key)
        return batch

    def run(self, batch: Batch) -> bool:
        """Compute *batch*; return False if `terminate` cut it short.

        Raises `KernelBug` for lengths that do not fit: the runtime would read what is not there.
        """
        rows, tokens = batch.ids.shape
        longest = int(batch.lengths.max()) + 1
        if not tokens <= longest <= self._pool.size.context or int(batch.lengths.min()) < 0:
            raise KernelBug("lengths of a run do not fit", rows=rows, tokens=tokens, lengths=batch.lengths.tolist())
        batch.total[...] = longest
        self._counts.runs += 1
        begun = time.perf_counter()
        try:
            self._session.run_with_iobinding(batch.binding, self._options)
        except Exception:  # the runtime's own exception classes have no public base
            if self._options.terminate:
                return False
            raise
        finally:
            self._counts.run_seconds += time.perf_counter() - begun
        return True

    def terminate(self) -> None:
        """Cut the current run short, and refuse further ones until `rearm`.  Any thread."""
        self._options.terminate = True

    def rearm(self) -> None:
        """Let runs run again after `terminate`."""
        if self._options.terminate:
            self._options.terminate = False

    def _bind(self, first: int, rows: int, tokens: int) -> Batch:
        """Bind a batch; *rows* and *tokens* are at least 1 (an empty batch kills the process)."""
        if not (rows >= 1 and tokens >= 1 and first >= 0 and first + rows <= self._pool.size.slots):
            raise KernelBug("impossible batch", first=first, rows=rows, tokens=tokens)
        binding = self._session.io_binding()
        zero_points = [np.full(rows * tokens, _ZERO_POINT, np.uint8), np.full(rows, _ZERO_POINT, np.uint8)]
        batch = Batch(
            ids=np.zeros((rows, tokens), np.int64),
            lengths=np.zeros(rows, np.int32),
            total=np.zeros((), np.int32),
            last=np.arange(rows, dtype=np.int64) * tokens + tokens - 1,
            logits=self._logits[:rows],
            binding=binding,
            kept=tuple(zero_points),
        )
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": batch.ids, "seqlens_k": batch.lengths, "total": batch.total, "last_index": batch.last,
            "zp_rows": zero_points[0], "zp_last": zero_points[1],
        }  # fmt: skip
        for name, array in values.items():
            if name in self._inputs:
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        logits = batch.logits
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._bind_cache(binding, first, rows)
        return batch

    def _bind_cache(self, binding: Any, first: int, rows: int) -> None:  # noqa: ANN401 - the runtime's own type
        shape, dtype = (rows, *self._pool.row_shape), self._pool.dtype
        names = (f"{layer}_{part}" for layer in range(self._layers) for part in "kv")
        for name, pointer in zip(names, self._pool.pointers(first), strict=True):
            binding.bind_input(f"past_{name}", "cpu", 0, dtype, shape, pointer)
            binding.bind_output(f"present_{name}", "cpu", 0, dtype, shape, pointer)
