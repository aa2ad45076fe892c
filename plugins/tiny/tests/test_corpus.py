"""The corpus is the same from the same seed, and nothing of a test set is ever trained on."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from suites import records, suite_of
from tiny_corpus import BOS, END, TASKS, Draw, Example, Split, held_out, is_grammatical, is_held, training

TRAIN = Path(__file__).parents[1] / "train"
SPLITS = (Split.COMBINATION, Split.PHRASING)


@pytest.fixture(scope="module", params=[False, True], ids=["first phase", "wide"])
def learned(request: pytest.FixtureRequest) -> list[Example]:
    """A piece of the training texts of each phase, large enough to meet every kind."""
    return list(islice(training(7, wide=request.param), 20_000))


def test_same_seed_same_texts() -> None:
    """Two generators with one seed agree, and two seeds do not."""
    first, again, other = (list(islice(training(seed), 500)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_same_texts_in_another_process() -> None:
    """Nothing depends on the hash seed of the process."""
    code = "from itertools import islice; from tiny_corpus import training; print(list(islice(training(5), 50)))"
    command = [sys.executable, "-c", code]
    runs = [
        subprocess.run(
            command, cwd=TRAIN, env={"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    ]

    assert runs[0] == runs[1] != b""


def test_every_task_is_trained(learned: list[Example]) -> None:
    """No tested task is missing from the training texts."""
    seen = Counter(example.task for example in learned)

    assert {task for task in TASKS if not task.startswith("story")} <= set(seen)
    assert seen["story"] > 1000


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", [t for t in TASKS if not t.startswith(("chat", "story"))])
def test_no_test_text_is_trained(task: str, split: Split, learned: list[Example]) -> None:
    """No question of a test set, whatever the seed, is among the questions of the training."""
    asked = {question for example in learned for question, _ in example.turns}

    assert not [e.question for seed in (0, 1, 2) for e in held_out(task, split, seed, 50) if e.question in asked]


@pytest.mark.parametrize("task", [t for t in TASKS if t.startswith("chat")])
def test_no_chat_phrasing_is_trained(task: str, learned: list[Example]) -> None:
    """Not even with another capital, or without its question mark."""

    def plain(text: str) -> str:
        return text.rstrip(".?。？").lower()

    asked = {plain(question) for example in learned for question, _ in example.turns}

    assert not [e.question for e in held_out(task, Split.PHRASING, 0, 100) if plain(e.question) in asked]


@pytest.mark.parametrize("task", ["chat-en", "chat-zh"])
def test_no_new_question_holds_a_held_one(task: str) -> None:
    """The questions that the second phase adds do not even have a wording of the test inside them."""

    def plain(text: str) -> str:
        return re.sub(r"[^\w]+", " ", text.lower()).strip()

    first, more = (
        {(plain(q), a) for e in islice(training(7, wide=wide), 20_000) if e.task == task for q, a in e.turns}
        for wide in (False, True)
    )
    held = {(plain(e.question), e.answer) for seed in range(5) for e in held_out(task, Split.PHRASING, seed, 100)}

    assert len(more) > 200
    assert not [q for q, a in more - first if any(a == answer and f" {h} " in f" {q} " for h, answer in held)]


HELD_BEGINNINGS = (
    r"\b(wait|waits|waited) for (the|a|an)\b",
    r"\b(walk|walks|walked) to the\b",
    r"\b(sit|sits|sat) in the\b",
    r"^Near the \w+ there",
    r"\band (the|a|an) .*\b(live|lived) near the\b",
    r"^In the \w+ an? .*\b(find|finds|found)\b",
    "在.+里住着",
    "^很久以前",
    "里找到了(一只)?(小|大|老|.*的)?(猫|狗|狐狸|鸟|兔子|熊)。",
)


@pytest.mark.parametrize("pattern", HELD_BEGINNINGS)
def test_no_held_beginning_is_trained(pattern: str, learned: list[Example]) -> None:
    """No story of the training begins as the stories of the test with unseen beginnings do."""
    first = [re.split(r"(?<=[.。])", e.answer)[0] for e in learned if e.task == "story" and not e.opening]

    assert len(first) > 1000
    assert not [text for text in first if re.search(pattern, text)]


def test_no_held_translation_is_trained(learned: list[Example]) -> None:
    """No answer of a test set with unseen content is an answer of the training, whatever the wording around it."""
    answers = {answer for example in learned for _, answer in example.turns}
    held = [e.answer for t in ("translate-en-zh", "translate-zh-en") for e in held_out(t, Split.COMBINATION, 0, 100)]

    assert not answers.intersection(held)


def test_no_held_fact_is_trained(learned: list[Example]) -> None:
    """Whoever is said to be somewhere in training is never the person and place of a test."""
    fact = re.compile(r"\b(?!He |She )(\w+) is in the (\w+)\.")
    trained = {pair for e in learned if e.task == "answer-en" for q, _ in e.turns for pair in fact.findall(q)}

    assert len(trained) > 100
    assert not [pair for pair in trained if is_held(*pair)]
    for example in held_out("answer-en", Split.COMBINATION, 0, 100):
        assert all(is_held(*pair) for pair in fact.findall(example.question))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", list(TASKS))
def test_lengths_match_the_training(task: str, split: Split) -> None:
    """A test set is neither easier nor harder for its length: means differ by a seventh at most."""
    train = Draw(random.Random(f"{task} 0 lengths"), Split.TRAIN)
    wanted = [len(TASKS[task](train).prompt()) for _ in range(100)]
    given = [len(example.prompt()) for example in held_out(task, split, 0, 100)]

    assert sum(given) == pytest.approx(sum(wanted), rel=0.15)


@pytest.mark.parametrize("task", ["story-en", "story-zh"])
def test_stories_follow_their_own_grammar(task: str) -> None:
    """The recogniser accepts what the generator writes, and refuses it with a word or a character out of place."""
    stories = [e for split in SPLITS for e in held_out(task, split, 0, 100)]

    assert all(is_grammatical(e.opening, e.answer) for e in stories)
    assert not any(is_grammatical(e.opening, e.answer[:-3]) for e in stories)
    assert not any(is_grammatical(e.opening, "") for e in stories)


@pytest.mark.parametrize(
    "text",
    [
        "The fox look at the dog.",
        "The dog looks at the fox. They went to the river.",
        "The dog looks at the fox. The cow is happy.",
        "the dog looks at the fox.",
    ],
)
def test_ungrammatical_stories_are_refused(text: str) -> None:
    """A wrong form, a change of tense, a third character and a small first letter are all mistakes."""
    assert not is_grammatical("The fox jumps over the dog.", text)


def test_layout_of_a_conversation() -> None:
    """The model learns to write the answers and their ends, and nothing of the questions."""
    example = Example("chat", (("Hi", "Hello!"), ("Bye", "See you.")), system="Be brief.")

    assert example.segments() == [
        (f"{BOS}<|system|>Be brief.{END}<|user|>Hi{END}<|assistant|>", False),
        (f"Hello!{END}", True),
        (f"<|user|>Bye{END}<|assistant|>", False),
        (f"See you.{END}", True),
    ]
    assert example.prompt().endswith(f"<|user|>Bye{END}<|assistant|>")


@pytest.mark.parametrize("task", ["chat-zh", "repeat", "answer-en", "story-en"])
def test_suites_are_the_test_sets(task: str) -> None:
    """The suites that the card is measured with hold what the generator makes, record by record."""
    lines = (TRAIN.parent / "evaluation" / f"{suite_of(task)}.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [record for line in lines if (record := json.loads(line))["group"].startswith(f"{task} ")]

    assert kept == list(records(task))
