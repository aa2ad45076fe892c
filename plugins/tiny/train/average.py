"""Average two checkpoints, weight by weight: what a second phase learned, without losing what the first knew.

    python average.py FIRST SECOND OUT --share 0.5     # half of the second

The result lies on the straight line between the two, as in Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models".  Tokenizer and settings are those of the second, which went on from the first.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def average(first: Path, second: Path, out: Path, share: float) -> None:
    """Write (1 - *share*) of *first* and *share* of *second* to the folder *out*, weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    for path in second.glob("*.json"):
        shutil.copy(path, out)
    old, new = (load_file(str(folder / "model.safetensors")) for folder in (first, second))
    mixed = {name: ((1 - share) * old[name].float() + share * new[name].float()).bfloat16() for name in new}
    save_file(mixed, str(out / "model.safetensors"), metadata={"format": "pt"})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("first", "second", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="the share of the second")
    options = parser.parse_args()
    average(options.first, options.second, options.out, options.share)


if __name__ == "__main__":
    main()
