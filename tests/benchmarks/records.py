"""``python -m tests.benchmarks.records``: `llmos data run` beside a generator written by hand over the same functions.

All of it in one run: the generator, one process, two workers, each in a process of its own, and their peak memory.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.figures import machine

SETTINGS = """
[pipelines]
bench = ["normalize", "stop-words", {processor = "truncate", size = 60}, "language"]
"""
BY_HAND = """
import json, sys
from llmos_data import language, normalize, stop_words, truncate
made = [normalize.llmos_processor({}), stop_words.llmos_processor({}), truncate.llmos_processor({"size": 60}),
        language.llmos_processor({})]
steps = [processor.process for processor in made]

def changed(lines):
    for line in lines:
        record = json.loads(line)
        value = record["text"]
        for step in steps:
            value = step(value, {})
        record["text"] = value
        yield json.dumps(record, ensure_ascii=False) + "\\n"

with open("in.jsonl", encoding="utf-8") as source, open("by-hand.jsonl", "w", encoding="utf-8") as target:
    target.writelines(changed(source))
"""
WORDS = (
    "the quick brown fox jumps over a lazy dog then it went home with friends of mine Straße caf\u0065\u0301".split()
)


@attrs.frozen
class Took:
    """What a process took."""

    seconds: float
    cpu: float
    peak: int
    """Bytes of resident memory, of the process or of its largest worker."""


def write_records(path: Path, count: int) -> None:
    """Write *count* short records."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = "  ".join(rng.choices(WORDS, k=9))
            file.write(json.dumps({"id": number, "text": f" {text} \r\n"}, ensure_ascii=False) + "\n")


def took(command: Sequence[str], folder: Path) -> Took:
    """Run *command* in *folder* and return what it took."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Took(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compare(count: int, rounds: int) -> dict[str, Any]:
    """Return how the ways compare over *count* records, in turns, and what they need of memory."""
    runs: dict[str, list[Took]] = {"by hand": [], "1 process": [], "2 workers": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "llmos.toml").write_text(SETTINGS, "utf-8")
        write_records(folder / "in.jsonl", count)
        for _ in range(rounds):
            runs["by hand"].append(took([sys.executable, "-c", BY_HAND], folder))
            for label, workers in (("1 process", "1"), ("2 workers", "2")):
                target = folder / f"{workers}.jsonl"
                target.unlink(missing_ok=True)
                command = [sys.executable, "-m", "llmos", "data", "run", "bench", "in.jsonl", "-o", target.name]
                runs[label].append(took([*command, "--workers", workers], folder))
                # Not read whole: Linux counts the largest size of who starts a process among that process's own.
                if not filecmp.cmp(target, folder / "by-hand.jsonl", shallow=False):
                    raise ValueError(f"{label} wrote something else than the generator by hand")
    best = {label: min(each, key=lambda one: one.seconds) for label, each in runs.items()}
    hand = best["by hand"].seconds
    return {
        "machine": machine(), "records": count, "rounds": rounds,
        "runs": {label: [attrs.asdict(one) for one in each] for label, each in runs.items()},
        "speed": {label: round(hand / best[label].seconds, 3) for label in ("1 process", "2 workers")},
        "cpu": {label: round(best["by hand"].cpu / best[label].cpu, 3) for label in ("1 process", "2 workers")},
        "goals": {"1 process": 0.8, "2 workers": 1.6},
    }  # fmt: skip


def markdown(path: Path) -> str:
    """Return the table of the figures in the file at *path*, the best round of each way."""
    data = json.loads(path.read_text("utf-8"))
    lines = ["| way | records/s | memory at most | beside the generator | goal |", "|---|---|---|---|---|"]
    for label, runs in data["runs"].items():
        rate = data["records"] / min(one["seconds"] for one in runs)
        peak = max(one["peak"] for one in runs) / 2**20
        ratio, goal = data["speed"].get(label), data["goals"].get(label)
        beside = f"{ratio:.2f} × | ≥ {goal} ×" if ratio else " | "
        lines.append(f"| {label} | {rate:,.0f} | {peak:.0f} MiB | {beside} |")
    facts = data["machine"]
    where = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['date']}"
    return "\n".join([*lines, "", f"{data['records']:,} records, best of {data['rounds']}; {where}."])


def main() -> None:
    """Measure, print, and save if told."""
    parser = argparse.ArgumentParser(description="Measure `llmos data run`.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    result = compare(arguments.records, arguments.rounds)
    for label, runs in result["runs"].items():
        for one in runs:
            print(f"{label:>10}: {one['seconds']:7.2f} s, {one['cpu']:7.2f} s of CPU, {one['peak'] / 2**20:6.1f} MiB")
    for label, goal in result["goals"].items():
        print(f"{label:>10}: {result['speed'][label]:.2f} × the generator by hand (goal {goal})")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
