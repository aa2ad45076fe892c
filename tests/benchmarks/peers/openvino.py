"""OpenVINO GenAI: the continuous-batching pipeline, on a model that optimum-intel converted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.progress import Engine, Progress

_ARGUMENTS = {
    "fp32": ["--weight-format", "fp32"],
    "int8": ["--weight-format", "int8"],
    # 64 divides the widths of these models, 128 (the default) does not; every layer, not some of them at 8 bits.
    "int4": ["--weight-format", "int4", "--sym", "--group-size", "64", "--ratio", "1.0"],
}
_CACHE_GB = 2


def prepare(checkpoint: Path, folder: Path, form: str) -> None:
    """Convert with ``optimum-cli export openvino``."""
    program = Path(sys.executable).with_name("optimum-cli")
    task = ["--task", "text-generation-with-past"]
    subprocess.run(
        [program, "export", "openvino", "-m", checkpoint, *task, *_ARGUMENTS[form], folder / form], check=True
    )


def load(folder: Path, form: str, *, threads: int, slots: int, context: int) -> Engine:
    """Load ``folder/FORMAT``; the precision of the computation is OpenVINO's choice for this CPU."""
    return _OpenVino(folder / form, threads, slots)


class _OpenVino:
    def __init__(self, folder: Path, threads: int, slots: int) -> None:
        import openvino_genai as genai  # noqa: PLC0415 - this module is called like a package that it needs

        schedule = genai.SchedulerConfig()
        schedule.cache_size, schedule.max_num_seqs = _CACHE_GB, slots
        schedule.enable_prefix_caching = True
        self._pipe = genai.ContinuousBatchingPipeline(str(folder), schedule, "CPU", {"INFERENCE_NUM_THREADS": threads})

    def generate(self, prompts: list[list[int]], lengths: list[int]) -> dict[str, Any]:
        """Add every request and step until all have ended."""
        import numpy as np  # noqa: PLC0415 - the same
        import openvino as ov  # noqa: PLC0415 - the same
        import openvino_genai as genai  # noqa: PLC0415 - the same

        progress = Progress(lengths)
        handles = []
        for request, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            how = genai.GenerationConfig(max_new_tokens=length, ignore_eos=True, do_sample=False)
            handles.append(self._pipe.add_request(request, ov.Tensor(np.array([prompt], np.int64)), how))
        while self._pipe.has_non_finished_requests():
            self._pipe.step()
            for request, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        for token in output.generated_ids:
                            progress.add(request, token)
        return progress.report()
