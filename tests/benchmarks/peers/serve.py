"""A worker: one engine with one model, which does what lines of JSON on standard input say and answers in lines.

``python -m tests.benchmarks.peers.serve MODULE FOLDER FORMAT THREADS SLOTS CONTEXT``
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Load, say so, and serve until standard input ends."""
    module, folder, form, *numbers = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    threads, slots, context = map(int, numbers)
    begin = time.perf_counter()
    peer = import_module(module)
    imported = time.perf_counter()
    engine = peer.load(Path(folder), form, threads=threads, slots=slots, context=context)
    facts = {"imports": imported - begin, "load": time.perf_counter() - imported}
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        report = getattr(engine, what)(**arguments)
        report["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(report), file=answers, flush=True)


if __name__ == "__main__":
    main()
