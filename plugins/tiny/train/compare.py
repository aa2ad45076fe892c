"""Check that transformers reads the checkpoint as we do: same tokens, same chat form, same greedy text.

python compare.py checkpoint      # needs transformers besides torch
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import torch_engine
from tiny_corpus import TASKS, Split, held_out


def main() -> None:
    """Compare on a few texts of every task; exit with status 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=3, help="texts of each task")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    ours = torch_engine.load(options.checkpoint)
    different = 0
    examples = [e for task in TASKS for e in held_out(task, Split.PHRASING, 9, options.count)]
    for example in examples:
        ids = tokenizer(example.prompt(), add_special_tokens=False, return_tensors="pt").input_ids
        if example.question:
            messages = [{"role": "user", "content": example.question}]
            chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            different += chat != example.prompt()
        written = model.generate(ids, max_new_tokens=200, do_sample=False)[0, ids.shape[1] :]
        theirs = tokenizer.decode(written, skip_special_tokens=True)
        different += theirs != ours([example], 200)[0]
    print(f"{len(examples)} texts, {different} differences")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
