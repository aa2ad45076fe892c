"""From texts to tokens: the tokenizer, and batches of texts of about the same length."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tiny_corpus import BOS, CHAT_TEMPLATE, END, SPECIALS, Example, training

RAW_WEIGHT = 0.3
"""What a token of a story counts in the loss: there are many, and much of a story is free choice."""


def train_tokenizer(seed: int, vocab: int, texts: int = 60_000) -> Tokenizer:
    """Learn a byte-level BPE; each Chinese character is a piece of its own, so that names keep their tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain = ("\n".join(s for pair in e.turns for s in (e.opening, *pair)) for e in islice(training(seed), texts))
    tokenizer.train_from_iterator(plain, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": END,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


Row = tuple[list[int], list[float]]


def encode(tokenizer: Tokenizer, examples: list[Example], context: int) -> list[Row]:
    """Turn texts to tokens, each with its weight in the loss; texts that are too long are left out."""
    pieces = [example.segments() for example in examples]
    flat = tokenizer.encode_batch([text for segments in pieces for text, _ in segments], add_special_tokens=False)
    encoded = iter(flat)
    rows: list[Row] = []
    for example, segments in zip(examples, pieces, strict=True):
        weight = RAW_WEIGHT if example.task.startswith("story") else 1.0
        ids: list[int] = []
        weights: list[float] = []
        for _, learn in segments:
            more = next(encoded).ids
            ids += more
            weights += [weight if learn else 0.0] * len(more)
        if len(ids) <= context:
            rows.append((ids, weights))
    return rows


def batches(
    tokenizer: Tokenizer, seed: int, tokens: int, context: int, difficulty: float, *, wide: bool
) -> Iterator[list[Row]]:
    """Yield one chunk of the corpus as batches of about *tokens* tokens, each of texts of similar length, in any order."""
    rows = encode(tokenizer, list(islice(training(seed, difficulty, wide=wide), 6_000)), context)
    rows.sort(key=lambda row: len(row[0]))
    found: list[list[Row]] = [[]]
    for row in rows:
        if found[-1] and (len(found[-1]) + 1) * len(row[0]) > tokens:
            found.append([])
        found[-1].append(row)
    random.Random(seed).shuffle(found)
    yield from found
