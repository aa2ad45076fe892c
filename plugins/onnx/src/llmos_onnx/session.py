"""Running a decoder graph: inputs, bindings and the cache, without copies.

Binding a value costs tens of microseconds and a graph has four or more per layer, so a binding is made once per
(first slot, rows, tokens per row) and kept.  Its small inputs are arrays that stay bound and are written in place
before each run.  The cache is bound to the same memory as input and as output, so it grows in place.

On a GPU the cache lies in its memory; the small inputs are copied there before each run, and the logits of the whole
batch back once after it.  Sampling sees host memory either way.

What a graph calls its inputs and outputs, and how it is told its rows' lengths, is a `Wiring`: `NativeWiring` here for
the contract of `llmos_onnx.graph`, others beside their layouts.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import numpy as np

from llmos_kernel.errors import KernelBug
from llmos_onnx.batch import Rows
from llmos_onnx.counts import Counts
from llmos_onnx.graph import cache_names

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime as ort

    from llmos_onnx.pool import KvPool

_KEPT_BINDINGS = 128
_ZERO_POINT = 128
MOST_PADDING: Final = 1 / 8
"""First prompts are padded to the longest of their run by at most this share of it."""


@attrs.define(eq=False, kw_only=True)
class Batch(Rows):
    """The inputs of one shape of run, bound once and written in place before each run."""

    binding: Any
    more: dict[str, npt.NDArray[Any]] = attrs.field(factory=dict)
    """Other arrays that its wiring has bound, by name."""

    bound: dict[str, npt.NDArray[Any]] = attrs.field(factory=dict)
    """The inputs of host memory, by name."""

    def bind(self, name: str, array: npt.NDArray[Any]) -> None:
        """Bind the input *name* to the memory of *array*, which must stay."""
        self.bound[name] = array
        self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def send(self) -> None:
        """Bind all inputs of host memory again: to a device, binding copies what they hold now."""
        for name, array in self.bound.items():
            self.bind(name, array)

    def bind_logits(self, name: str, array: npt.NDArray[Any], shape: Sequence[int]) -> None:
        """Let the output *name* of *shape* be written to the memory of *array*, which must stay."""
        self.binding.bind_output(name, "cpu", 0, array.dtype, shape, array.ctypes.data)


class Wiring(Protocol):
    """How the inputs and outputs of one kind of decoder graph are called, and how it is told its rows' lengths."""

    @property
    def cache(self) -> Sequence[tuple[str, str]]:
        """The names of past and present: layer 0 keys, layer 0 values, layer 1 keys, ..."""

    @property
    def padding(self) -> float:
        """First prompts may be padded to the longest of their run by this share of it."""

    def bind(self, batch: Batch) -> None:
        """Bind what stays bound of a new *batch*."""

    def feed(self, batch: Batch, longest: int) -> None:
        """Before each run: give the graph the lengths of *batch*, the greatest of which is *longest*."""

    def read(self, batch: Batch) -> None:
        """After each run: let ``batch.logits`` hold the logits of the positions ``batch.last``."""


class NativeWiring:
    """The contract of `llmos_onnx.graph`."""

    padding = MOST_PADDING

    def __init__(self, session: ort.InferenceSession) -> None:
        self._inputs = {value.name for value in session.get_inputs()}
        layers = sum(name.endswith("_k") and name.startswith("past_") for name in self._inputs)
        names = [cache_names(layer) for layer in range(layers)]
        self.cache = [pair for k, v, new_k, new_v in names for pair in ((k, new_k), (v, new_v))]

    def bind(self, batch: Batch) -> None:
        """Bind everything: all of it is written in place."""
        rows, tokens = batch.ids.shape
        batch.more["total"] = np.zeros((), np.int32)
        batch.more["zp_rows"] = np.full(rows * tokens, _ZERO_POINT, np.uint8)
        batch.more["zp_last"] = np.full(len(batch.last), _ZERO_POINT, np.uint8)
        values: dict[str, npt.NDArray[Any]]
        values = {"input_ids": batch.ids, "seqlens_k": batch.lengths, "last_index": batch.last, **batch.more}
        for name, array in values.items():
            if name in self._inputs:
                batch.bind(name, array)
        batch.bind_logits("logits", batch.logits, batch.logits.shape)

    def feed(self, batch: Batch, longest: int) -> None:
        """Write the greatest length."""
        batch.more["total"][...] = longest

    def read(self, batch: Batch) -> None:
        """Do nothing: the graph gives logits for ``batch.last`` only, and writes them in place."""


class Runner:
    """One ONNX Runtime session over one KV pool."""

    whole = False
    """Prompts may be cut."""
    prefix: tuple[int, ...] = ()
    """No encoder reads prompts."""

    def __init__(
        self, session: ort.InferenceSession, options: ort.RunOptions, wiring: Wiring, pool: KvPool, vocab: int, *,
        positions: int = 0,
    ) -> None:  # fmt: skip
        """Keep room for the logits of every slot, or of so many *positions* where that is more."""
        self._session = session
        self.counts = Counts()
        """What was done so far."""
        self._pool = pool
        self._wiring = wiring
        self._batches: OrderedDict[tuple[int, int, int, bool], Batch] = OrderedDict()
        self._logits = np.zeros((max(pool.size.slots, positions), vocab), np.float32)
        self._options = options
        self.seconds = 0.0
        """Time of the last run."""

    @property
    def padding(self) -> float:
        """First prompts may be padded to the longest of their run by this share of it."""
        return self._wiring.padding

    def batch(self, first: int, rows: int, tokens: int, *, every: bool = False) -> Batch:
        """Return the inputs for *rows* adjacent slots from *first* on, *tokens* tokens each.

        The last position of each row gets logits, or *every* one.
        """
        key = (first, rows, tokens, every)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = self._bind(*key)
            if len(self._batches) > _KEPT_BINDINGS:
                self._batches.popitem(last=False)
        else:
            self._batches.move_to_end(key)
        return batch

    def run(self, batch: Rows) -> bool:
        """Compute *batch*; return False if `terminate` cut it short.

        Raises `KernelBug` for lengths that do not fit: the runtime would read what is not there.
        """
        if not isinstance(batch, Batch):
            raise KernelBug("a batch of another runner", rows=len(batch.ids))
        rows, tokens = batch.ids.shape
        longest = int(batch.lengths.max()) + 1
        if not tokens <= longest <= self._pool.size.context or int(batch.lengths.min()) < 0:
            raise KernelBug("lengths of a run do not fit", rows=rows, tokens=tokens, lengths=batch.lengths.tolist())
        self._wiring.feed(batch, longest)
        if self._pool.device != "cpu":
            batch.send()
        self.counts.runs += 1
        begun = time.perf_counter()
        try:
            self._session.run_with_iobinding(batch.binding, self._options)
        except Exception:  # the runtime's own exception classes have no public base
            if self._options.terminate:
                return False
            raise
        finally:
            self.seconds = time.perf_counter() - begun
            self.counts.run_seconds += self.seconds
        self._wiring.read(batch)
        return True

    def terminate(self) -> None:
        """Cut the current run short, and refuse further ones until `rearm`.  Any thread."""
        self._options.terminate = True

    def rearm(self) -> None:
        """Let runs run again after `terminate`."""
        if self._options.terminate:
            self._options.terminate = False

    def _bind(self, first: int, rows: int, tokens: int, every: bool) -> Batch:
        """Bind a batch; *rows* and *tokens* are at least 1 (an empty batch kills the process)."""
        if not (rows >= 1 and tokens >= 1 and first >= 0 and first + rows <= self._pool.size.slots):
            raise KernelBug("impossible batch", first=first, rows=rows, tokens=tokens)
        last = np.arange(rows * tokens) if every else np.arange(rows) * tokens + tokens - 1
        if len(last) > len(self._logits):
            raise KernelBug("no room for the logits of a run", wanted=len(last), room=len(self._logits))
        batch = Batch(
            ids=np.zeros((rows, tokens), np.int64),
            lengths=np.zeros(rows, np.int32),
            last=last.astype(np.int64),
            prompts=np.zeros(rows, np.int64),
            logits=self._logits[: len(last)],
            binding=self._session.io_binding(),
        )
        self._wiring.bind(batch)
        shape, dtype = (rows, *self._pool.row_shape), self._pool.dtype
        for (past, present), pointer in zip(self._wiring.cache, self._pool.pointers(first), strict=True):
            batch.binding.bind_input(past, self._pool.device, 0, dtype, shape, pointer)
            batch.binding.bind_output(present, self._pool.device, 0, dtype, shape, pointer)
        return batch
