"""optimum-onnx: a decoder whose cache is concatenated at every step, and transformers' ``generate``."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.peers.hugging import Generate
from tests.benchmarks.peers.progress import Engine


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Export with optimum's own exporter."""
    from optimum.exporters.onnx import main_export  # noqa: PLC0415 - only the preparation needs it

    main_export(str(checkpoint), folder / form, task="text-generation-with-past", do_validation=False)


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Load ``folder/FORMAT``."""
    import onnxruntime  # noqa: PLC0415 - beside the package that this module is called like
    from optimum.onnxruntime import ORTModelForCausalLM  # noqa: PLC0415 - the same

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return Generate(ORTModelForCausalLM.from_pretrained(folder / form, session_options=options), slots)
