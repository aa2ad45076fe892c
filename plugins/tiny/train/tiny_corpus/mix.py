"""The whole corpus: how often each kind of text comes, and an endless stream of them from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from . import chat, labels, passages, stories, summaries, translation
from .example import Example
from .split import Draw, Split

Maker = Callable[[Draw], Example]
TASKS: dict[str, Maker] = {
    "chat-en": lambda d: chat.intent(d, chinese=False),
    "chat-zh": lambda d: chat.intent(d, chinese=True),
    "label-en": lambda d: (labels.sentiment if d.chance(0.5) else labels.topic)(d, chinese=False),
    "label-zh": lambda d: (labels.sentiment if d.chance(0.5) else labels.topic)(d, chinese=True),
    "repeat": labels.repeat,
    "translate-en-zh": translation.to_zh,
    "translate-zh-en": translation.to_en,
    "answer-en": lambda d: passages.answers(d, chinese=False),
    "answer-zh": lambda d: passages.answers(d, chinese=True),
    "summary-en": lambda d: summaries.summary(d, chinese=False),
    "summary-zh": lambda d: summaries.summary(d, chinese=True),
    "story-en": lambda d: stories.continuation(d, chinese_text=False),
    "story-zh": lambda d: stories.continuation(d, chinese_text=True),
}
"""What is tested, by name."""

TRAINING: tuple[tuple[float, Maker], ...] = (
    (9, TASKS["chat-en"]),
    (6, TASKS["chat-zh"]),
    (3, TASKS["label-en"]),
    (3, TASKS["label-zh"]),
    (5, labels.repeat),
    (17, translation.to_zh),
    (17, translation.to_en),
    (3, lambda d: translation.to_zh(d, word=True)),
    (3, lambda d: translation.to_en(d, word=True)),
    (14, lambda d: passages.answers(d, chinese=False, turns=d.one((1, 1, 2, 3)))),
    (8, lambda d: passages.answers(d, chinese=True, turns=d.one((1, 1, 2, 3)))),
    (9, TASKS["summary-en"]),
    (6, TASKS["summary-zh"]),
    (14, stories.story),
    (2, stories.told),
)
"""How often each kind of text comes in training, as weights."""

WIDE = (24, 7, 1, 1, 4, 6, 6, 1, 1, 4, 3, 3, 4, 36, 1)
"""The same for a wide training, whose new texts are those of conversations and stories."""

SYSTEM = (
    "You are a helpful assistant.",
    "You are tiny.",
    "Be brief.",
    "Answer in one sentence.",
    "你是一个有用的助手。",
)


def _conversation(draw: Draw, makers: list[Maker], length: int) -> Example:
    """Join several conversations to one of about *length* characters."""
    turns: tuple[tuple[str, str], ...] = ()
    while not turns or sum(len(q) + len(a) for q, a in turns) < length:
        example = draw.one(makers)(draw)
        if example.question:
            turns += example.turns
    return Example("conversation", turns)


def training(seed: int, difficulty: float = 1.0, *, wide: bool = False) -> Iterator[Example]:
    """Yield training texts for ever; the same seed, difficulty and width give the same texts."""
    draw = Draw(random.Random(seed), Split.TRAIN, difficulty, wide)
    weights = WIDE if wide else [weight for weight, _ in TRAINING]
    makers = [maker for _, maker in TRAINING]
    while True:
        if draw.chance(0.03):
            chosen = draw.rng.choices(makers, weights, k=8)
            if wide:
                chosen.append(TASKS["chat-en"])  # a third of the others are stories, and eight of them hold no question
            example = _conversation(draw, chosen, draw.one((150, 150, 300, 600, 2000 if draw.chance(0.3) else 300)))
        else:
            example = draw.rng.choices(makers, weights)[0](draw)
        if example.question and draw.chance(0.04):
            example = Example(example.task, example.turns, system=draw.one(SYSTEM))
        yield example


def held_out(task: str, split: Split, seed: int, count: int) -> list[Example]:
    """Make a test set whose texts are as long, one by one, as *count* training texts of the same task."""
    make = TASKS[task]
    train = Draw(random.Random(f"{task} {seed} lengths"), Split.TRAIN)
    draw = Draw(random.Random(f"{task} {seed} {split.value}"), split)
    found: list[Example] = []
    for _ in range(count):
        length = len(make(train).prompt())
        candidates = [make(draw) for _ in range(12)]
        found.append(min(candidates, key=lambda e: abs(len(e.prompt()) - length)))
    return found
