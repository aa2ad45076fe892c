"""``python -m tests.benchmarks.policies FOLDER --out FILE``: the policies on a model folder, in turn."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import attrs

from llmos.cli.machine import machine
from tests.benchmarks.policies.compare import POLICIES, loaded, saturated
from tests.benchmarks.policies.report import markdown


def main() -> None:
    """Measure, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.policies", description="Compare the policies.")
    parser.add_argument("folder", type=Path, help="a native model folder")
    parser.add_argument("--out", type=Path, required=True, help="written, or completed where it is there")
    parser.add_argument("--part", choices=("saturated", "loaded"), required=True, help="each takes some minutes")
    options = parser.parse_args()
    data = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    data |= {"model": options.folder.name, "machine": machine()}
    if options.part == "saturated":
        data["saturated"] = [attrs.asdict(saturated(options.folder, name)) for name in (*POLICIES, *reversed(POLICIES))]
    else:
        rate = min(run["batch_rate"] for run in data["saturated"] if run["policy"] == "fifo")
        data["loaded"] = [attrs.asdict(loaded(options.folder, name, rate)) for name in ("fifo", "edf")]
    options.out.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    print(markdown(options.out))


if __name__ == "__main__":
    main()
