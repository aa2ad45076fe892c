"""``python -m tests.benchmarks.operators FOLDER … --out FILE``: where the time of a run goes, operator by operator.

The figures are ONNX Runtime's own profile of the session that the engine would make of a native model folder, with one
thread by default: what several threads share can only be told apart in their sum.  A run's time outside of operators is
not in it; `llmos bench` reports that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import attrs
import onnxruntime as ort

from llmos.cli.machine import machine
from llmos_onnx.folder import ModelFolder, open_folder
from llmos_onnx.pool import KvPool, PoolSize
from llmos_onnx.providers import CPU, session_options
from llmos_onnx.session import NativeWiring, Runner

_RUNS: Final = 9
_PRODUCTS: Final = frozenset({"FusedMatMul", "Gemm", "MatMul", "MatMulIntegerToFloat", "MatMulNBits", "QGemm"})


@attrs.frozen
class Case:
    """A run of *rows* rows of *tokens* tokens each, after *past* tokens of each row."""

    title: str
    rows: int
    tokens: int
    past: int


CASES: Final = (
    Case("decode, 1 row after 140 tokens", 1, 1, 140),
    Case("decode, 16 rows after 140 tokens", 16, 1, 140),
    Case("decode, 16 rows after 600 tokens", 16, 1, 600),
    Case("the first 256 tokens of a prompt", 1, 256, 0),
    Case("256 tokens after 768", 1, 256, 768),
)


@attrs.frozen(kw_only=True)
class Spent:
    """Milliseconds of a run in operators: the median of several."""

    model: str
    weights: str
    case: str
    tokens: int
    """Tokens of all rows."""
    attention: float
    products: float
    """With weights."""
    rest: float
    operators: dict[str, float]

    @property
    def whole(self) -> float:
        """Milliseconds of all operators."""
        return self.attention + self.products + self.rest


def spent(folder: Path, case: Case, threads: int) -> Spent:
    """Profile one case of the model in *folder*."""
    opened = open_folder(folder)
    with tempfile.TemporaryDirectory() as place:
        events = _profile(opened, case, threads, Path(place) / "run")
    runs = _by_run(events)[1:]  # the first one allocates
    names = {name for run in runs for name in run}
    operators = {name: statistics.median(run.get(name, 0.0) for run in runs) / 1e3 for name in sorted(names)}
    attention = operators.get("GroupQueryAttention", 0.0)
    products = sum(value for name, value in operators.items() if name in _PRODUCTS)
    return Spent(
        model=opened.manifest.name, weights=opened.manifest.weights, case=case.title, tokens=case.rows * case.tokens,
        attention=attention, products=products, rest=sum(operators.values()) - attention - products,
        operators=operators,
    )  # fmt: skip


def _profile(folder: ModelFolder, case: Case, threads: int, prefix: Path) -> list[dict[str, Any]]:
    options = session_options(ort, threads)
    options.enable_profiling, options.profile_file_prefix = True, str(prefix)
    options.add_external_initializers_from_files_in_memory(*folder.external_files())
    session = ort.InferenceSession(folder.graph, options, providers=[CPU])
    shape = folder.manifest.shape
    pool = KvPool(shape, PoolSize(case.rows, case.past + case.tokens, 0), folder.manifest.kv)
    runner = Runner(session, ort.RunOptions(), NativeWiring(session), pool, shape.vocab)
    batch = runner.batch(0, case.rows, case.tokens)
    batch.lengths[:] = case.past + case.tokens - 1
    for _ in range(_RUNS + 1):
        runner.run(batch)
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return events


def _by_run(events: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the microseconds of each operator in each run, in the order of the runs."""
    ends = sorted(event["ts"] + event["dur"] for event in events if event.get("name") == "model_run")
    runs: list[dict[str, float]] = [defaultdict(float) for _ in ends]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            number = sum(end < event["ts"] for end in ends)
            runs[number][event["args"]["op_name"]] += event["dur"]
    return runs


def markdown(path: Path) -> str:
    """Return the table of the figures in the file at *path*."""
    data = json.loads(path.read_text("utf-8"))
    lines = ["| weights | run | ms | attention | products | the rest |", "|---|---|---|---|---|---|"]
    for one in (Spent(**fields) for fields in data["spent"]):
        shares = " | ".join(f"{value / one.whole:.0%}" for value in (one.attention, one.products, one.rest))
        lines.append(f"| {one.weights} | {one.case} | {one.whole:.1f} | {shares} |")
    facts, name = data["machine"], data["spent"][0]["model"]
    where = f"{facts['cpu']}, one run's {data['threads']} thread(s), onnxruntime {data['runtime']}, {facts['date']}."
    return "\n".join([*lines, "", f"`{name}`, {where}"])


def main() -> None:
    """Profile every case of every folder, print the shares, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.operators", description="Profile the operators.")
    parser.add_argument("folders", nargs="+", type=Path, help="native model folders")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = [spent(folder, case, options.threads) for folder in options.folders for case in CASES]
    data = {
        "machine": machine(), "runtime": ort.__version__, "threads": options.threads,
        "spent": [attrs.asdict(one) for one in found],
    }  # fmt: skip
    options.out.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    print(markdown(options.out))


if __name__ == "__main__":
    main()
