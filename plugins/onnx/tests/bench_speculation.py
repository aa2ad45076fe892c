"""How much quicker one stream is with guesses, in processor time of one thread, beside the same stream without.

    python -m plugins.onnx.tests.bench_speculation MODEL_FOLDER

A text that repeats itself (greedy decoding of random weights soon does) shows the most that can be gained; one whose
every token is drawn from a few likely ones, what guessing costs where it does not help.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llmos_onnx.executor import OnnxExecutor
from plugins.onnx.tests.driver import Driver, load

_TOKENS, _ROUNDS, _WIDTH = 128, 5, 8
_WORKS: Final[Mapping[str, dict[str, Any]]] = {
    "repeats itself": {"temperature": 0.0},
    "drawn from all tokens": {"temperature": 1.0},
    "drawn from four": {"temperature": 1.0, "top_k": 4},
}


def seconds(executor: OnnxExecutor, prompt: list[int], turn: int, params: Mapping[str, Any]) -> float:
    """Return the processor time from the first token to the last."""
    driver = Driver(executor, burst=_TOKENS)
    driver.add(turn, prompt, tenant=str(turn), max_tokens=_TOKENS, ignore_eos=True, seed=1, **params)
    driver.step()
    begun = time.process_time()
    driver.finish()
    return time.process_time() - begun


def main() -> None:
    """Print the ratios per kind of text: the median of some rounds, and the least and the greatest."""
    plain, guessing = (load(Path(sys.argv[1]), slots=1, context=512, threads=1, speculate=n) for n in (0, _WIDTH))
    chance, vocab = random.Random(1), plain._parts.manifest.vocab
    prompt = [chance.randrange(vocab // 2, vocab) for _ in range(128)]
    for name, params in _WORKS.items():
        before = dict(guessing.describe()["steps"])
        ratios = []
        for turn in range(_ROUNDS):
            without, with_ = (seconds(executor, prompt, turn, params) for executor in (plain, guessing))
            ratios.append(without / with_)
        after = guessing.describe()["steps"]
        guessed, right = (after[key] - before[key] for key in ("guessed", "right"))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        median = statistics.median(ratios)
        print(f"{name}: {median:.2f} times as fast ({spread}), {right} of {guessed} guesses right")


if __name__ == "__main__":
    main()
