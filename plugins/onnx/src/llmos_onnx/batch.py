"""What the executor asks of whoever runs a decoder's graph, whatever the graph looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from llmos_kernel.errors import KernelError
    from llmos_onnx.counts import Counts


@attrs.define(eq=False)
class Rows:
    """One run over adjacent slots: arrays that the executor fills before it, and the logits after it."""

    ids: npt.NDArray[np.int64]
    """Token ids ``[rows, tokens]``, right-padded."""
    lengths: npt.NDArray[np.int32]
    """Tokens of each row after the run, minus one: ``[rows]``."""
    last: npt.NDArray[np.int64]
    """Which of the rows * tokens positions get logits: the last of each row that is no padding, unless all do."""
    prompts: npt.NDArray[np.int64]
    """Prompt tokens of each row's task ``[rows]``; 0 for a row that only lies between others."""
    logits: npt.NDArray[np.float32]
    """``[positions in last, vocab]``, valid until the next run."""
    errors: dict[int, KernelError] = attrs.field(factory=dict, kw_only=True)
    """Why rows could not be computed, where others could; their logits are NaN."""


class DecoderRunner(Protocol):
    """Computes rows.  One thread, except where a method says so."""

    seconds: float
    """Time of the last run."""

    @property
    def counts(self) -> Counts:
        """What was done so far."""

    @property
    def padding(self) -> float:
        """First prompts may be padded to the longest of their run by this share of it."""

    @property
    def whole(self) -> bool:
        """Prompts are computed in one run each, and what was computed of one is never taken for another.

        For graphs of which nobody knows that pieces round as the whole does.
        """

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that answers begin with, where an encoder reads what is before them; empty for other decoders."""

    def batch(self, first: int, rows: int, tokens: int, *, every: bool = False) -> Rows:
        """Return the arrays of a run of *rows* adjacent slots from *first* on, *tokens* tokens each: none is 0.

        The last position of each row gets logits, or *every* one.
        """

    def run(self, batch: Rows) -> bool:
        """Compute what this runner's `batch` returned; return False if `terminate` cut it short."""

    def terminate(self) -> None:
        """Cut the current run short, and refuse further ones until `rearm`.  Any thread."""

    def rearm(self) -> None:
        """Let runs run again after `terminate`."""
