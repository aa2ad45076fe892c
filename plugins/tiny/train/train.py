"""Train the bundled model from nothing: make the corpus, learn the tokenizer, learn the weights.

    python train.py OUT --minutes 60              # as long as there is time
    python train.py OUT --tokens 40000000         # as long as last time
    python train.py OUT --start FIRST --wide ...  # go on from the checkpoint FIRST, with many more wordings

One process per core; each learns from its own part of the corpus and the gradients are added up.  The learning rate
warms up, stays, and falls to nothing over the last part of the budget, whichever budget (time or tokens) will be used
up first; what is left of the time is reckoned in tokens, at the pace of the last minutes.  ``touch OUT/decay`` starts that last part at once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812 - its usual name
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from model import Llama, Shape
from muon import Optimizer
from text import Row, batches, save_tokenizer, train_tokenizer


@dataclass
class Budget:
    """How much of the training is done, in tokens: the time left counts for the tokens that it is good for."""

    minutes: float
    tokens: float
    decay: Path
    start: float
    stable: float
    seen: int = 0
    done: float = 0.0
    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def progress(self) -> float:
        """Return the share that is done, from 0 to 1; it never falls."""
        if not self.seen:
            return 0.0
        elapsed = (time.time() - self.start) / 60
        pace = self._pace(elapsed)
        if self.decay.exists():
            self.decay.unlink()
            self.tokens = min(self.tokens, self.seen / self.stable)
        total = min(self.tokens, self.seen + pace * max(0.0, self.minutes - elapsed))
        self.done = max(self.done, self.seen / total)
        return self.done

    def _pace(self, elapsed: float) -> float:
        """Return tokens a minute over the last five minutes."""
        self.marks.append((elapsed, self.seen))
        while self.marks[0][0] < elapsed - 5:
            self.marks.popleft()
        since, seen = self.marks[0] if len(self.marks) > 1 else (0.0, 0)
        return (self.seen - seen) / (elapsed - since)


def rate(progress: float, step: int, options: argparse.Namespace) -> float:
    """Return the learning rate as a share of its peak."""
    share: float = min(1.0, (step + 1) / options.warm_up, (1 - progress) / (1 - options.stable))
    return share


def stream(
    options: argparse.Namespace, tokenizer: Tokenizer, rank: int, state: dict[str, float]
) -> Iterator[list[Row]]:
    """Yield this process's batches, from chunk to chunk; passages grow longer over the first part of the training."""
    chunk = options.seed * 1_000_000 + rank
    while True:
        difficulty = min(1.0, 0.1 + state["progress"] / options.easy) if options.easy else 1.0
        yield from batches(tokenizer, chunk, options.batch, options.context, difficulty, wide=options.wide)
        chunk += options.processes


def loss_of(model: Llama, rows: list[Row]) -> tuple[torch.Tensor, float]:
    """Return the weighted sum of the loss over what is to be learned, and the sum of the weights."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [1] * (longest - len(ids)) for ids, _ in rows])
    weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in rows])[:, 1:].flatten()
    at = weights.nonzero()[:, 0]
    hidden = model(ids[:, :-1]).flatten(0, 1)[at]
    losses = F.cross_entropy(model.logits(hidden).float(), ids[:, 1:].flatten()[at], reduction="none")
    return (losses * weights[at]).sum(), float(weights.sum())


def save(optimizer: Optimizer, names: list[str], shape: Shape, folder: Path, facts: dict[str, object]) -> None:
    """Write a Hugging Face checkpoint, weights in bfloat16; each file appears whole or not at all."""
    weights = {name: master.bfloat16().contiguous() for name, master in zip(names, optimizer.masters, strict=True)}
    save_file(weights, str(folder / "model.safetensors.new"), metadata={"format": "pt"})
    (folder / "model.safetensors.new").replace(folder / "model.safetensors")
    generation = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "do_sample": False, "max_new_tokens": 256}
    for name, content in (("config", shape.config()), ("generation_config", generation), ("training", facts)):
        (folder / f"{name}.json.new").write_text(json.dumps(content, indent=2) + "\n")
        (folder / f"{name}.json.new").replace(folder / f"{name}.json")


def work(rank: int, options: argparse.Namespace) -> None:
    """Run one process of the training."""
    with (options.out / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{(options.out / 'meet').absolute()}",
        rank=rank,
        world_size=options.processes,
        timeout=dt.timedelta(hours=3),
    )
    shape = Shape(context=options.context)
    model = Llama(shape)
    if options.start:
        model.load_state_dict(load_file(str(options.start / "model.safetensors")))
    names = [name for name, _ in model.named_parameters()]
    start = Optimizer(list(model.parameters()), embedding=model.model.embed_tokens.weight)
    model.bfloat16()
    start.parameters = list(model.parameters())
    loop(rank, options, model, start, names)
    dist.destroy_process_group()


def loop(rank: int, options: argparse.Namespace, model: Llama, optimizer: Optimizer, names: list[str]) -> None:
    """Learn until the budget is used up."""
    tokenizer = Tokenizer.from_file(str(options.out / "tokenizer.json"))
    budget = Budget(options.minutes, options.tokens, options.out / "decay", time.time(), options.stable)
    state = {"progress": 0.0}
    source = stream(options, tokenizer, rank, state)
    step, saved, shown = 0, time.time(), (time.time(), 0)
    while state["progress"] < 1:
        total, weight, count = torch.zeros(()), 0.0, 0
        for _ in range(options.accumulate):
            rows = next(source)
            loss, more = loss_of(model, rows)
            (loss * 0.01).backward()
            total, weight, count = total + loss.detach(), weight + more, count + sum(len(ids) for ids, _ in rows)
        gradients, news = exchange(model, [float(total), weight, count, budget.progress() if rank == 0 else 0.0])
        budget.seen += int(news[2])
        state["progress"] = news[3]
        share = rate(state["progress"], step, options)
        optimizer.step(gradients, matrix_rate=options.matrix_rate * share, vector_rate=options.vector_rate * share)
        step += 1
        if rank == 0 and step % options.show == 0:
            speed = (budget.seen - shown[1]) / (time.time() - shown[0])
            shown = (time.time(), budget.seen)
            minutes = (time.time() - budget.start) / 60
            line = f"{minutes:6.1f} min  step {step:5d}  {budget.seen / 1e6:6.2f} M tokens  {speed:6.0f}/s  "
            print(f"{line}done {state['progress']:.3f}  loss {news[0] / news[1]:.4f}", flush=True)
        if rank == 0 and (time.time() - saved > options.save_minutes * 60 or state["progress"] >= 1):
            minutes = round((time.time() - budget.start) / 60, 1)
            facts = {"tokens": budget.seen, "steps": step, "minutes": minutes, "seed": options.seed}
            save(optimizer, names, model.shape, options.out, {**facts, "processes": options.processes})
            saved = time.time()


def exchange(model: Llama, news: list[float]) -> tuple[list[torch.Tensor], list[float]]:
    """Add up gradients and numbers over the processes; gradients come back per unit of weight."""
    parameters = list(model.parameters())
    parts = [p.grad.float().flatten() for p in parameters if p.grad is not None]
    flat = torch.cat([*parts, torch.tensor(news)])
    dist.all_reduce(flat)
    news = flat[-len(news) :].tolist()
    gradients = flat[: -len(news)].split([p.numel() for p in parameters])
    for p in parameters:
        p.grad = None
    return [g.view(p.shape) * (100.0 / news[1]) for g, p in zip(gradients, parameters, strict=True)], news


def options_from(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=1e9, help="time budget")
    parser.add_argument("--tokens", type=float, default=1e15, help="token budget")
    parser.add_argument("--start", type=Path, help="go on from this checkpoint, with its tokenizer")
    parser.add_argument("--wide", action="store_true", help="learn from the many more wordings of the second phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048, help="tokens of one forward pass")
    parser.add_argument("--accumulate", type=int, default=2, help="forward passes to a step, in each process")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--vector-rate", type=float, default=3e-3)
    parser.add_argument("--stable", type=float, default=0.75, help="the share of the budget before the rate falls")
    parser.add_argument("--warm-up", type=int, default=100, help="steps until the rate is at its peak")
    parser.add_argument("--easy", type=float, default=0.25, help="the share of the budget over which passages grow")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--show", type=int, default=20, help="print a line every so many steps")
    return parser.parse_args(arguments)


def main() -> None:
    """Learn the tokenizer, then the weights."""
    options = options_from()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("meet", "pids", "decay"):
        (options.out / name).unlink(missing_ok=True)
    if options.start:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(options.start / name, options.out)
    else:
        save_tokenizer(train_tokenizer(options.seed, Shape().vocab), options.out, options.context)
    mp.start_processes(work, (options,), options.processes, start_method="spawn")


if __name__ == "__main__":
    main()
