"""Questions whose answer stands in a short passage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import words as w
from .example import Example
from .split import Draw, Split, Wordings, is_held, wordings

ASK = wordings(
    """
    {passage} {question}
    Read this: {passage} {question}
    Text: {passage} Question: {question}
    {passage} Question: {question}
    """,
    """
    Passage: {passage} Now answer: {question}
    Here is a text. {passage} {question}
    """,
)
ASK_ZH = wordings(
    """
    {passage}{question}
    读一读：{passage}{question}
    短文：{passage}问题：{question}
    {passage}问题：{question}
    """,
    """
    文章：{passage}请回答：{question}
    这里有一段话。{passage}{question}
    """,
)


@dataclass(frozen=True)
class Relation:
    """One kind of fact: its sentence, and how to ask for each end of it."""

    fact: str
    of_name: Wordings
    of_value: Wordings
    values: Callable[[Draw], str]


def _coloured(draw: Draw) -> str:
    return w.article(f"{draw.one(w.COLOURS).en} {draw.one(w.THINGS).en}")


def _coloured_zh(draw: Draw) -> str:
    noun = draw.one(w.THINGS)
    return f"一{noun.counter}{draw.one(w.COLOURS).before}{noun.zh}"


RELATIONS = (
    Relation(
        "{name} is in the {value}.",
        wordings(
            "(Where is|Where's) {name}?\nWhere can I find {name}?", "(Tell me where {name} is.|Where is {name} now?)"
        ),
        wordings("Who is in the {value}?\nWho do you find in the {value}?", "Tell me who is in the {value}."),
        lambda draw: draw.one(w.PLACES).en,
    ),
    Relation(
        "{name} has {value}.",
        wordings(
            "What does {name} have?\nWhat has {name} got?", "(Tell me what {name} has.|What does {name} have now?)"
        ),
        wordings("Who has {value}?\nWho has got {value}?", "Tell me who has {value}."),
        _coloured,
    ),
    Relation(
        "{name} likes {value}.",
        wordings("What does {name} like?\nWhich things does {name} like?", "Tell me what {name} likes."),
        wordings("Who likes {value}?", "Tell me who likes {value}."),
        lambda draw: draw.one([n for n in w.NOUNS if n.kind != "person"]).plural,
    ),
    Relation(
        "{name} is a {value}.",
        wordings("What is {name}'s (job|work)?\nWhat does {name} do?", "Tell me the job of {name}."),
        wordings("Who is a {value}?", "Tell me who is a {value}."),
        lambda draw: draw.one(w.JOBS).en,
    ),
    Relation(
        "{name} lives in {value}.",
        wordings("Where does {name} live?\nIn which city does {name} live?", "Tell me where {name} lives."),
        wordings("Who lives in {value}?", "Tell me who lives in {value}."),
        lambda draw: draw.one(w.CITIES)[0],
    ),
    Relation(
        "{name} plays {value}.",
        wordings("What does {name} play?\nWhich game does {name} play?", "Tell me what {name} plays."),
        wordings("Who plays {value}?", "Tell me who plays {value}."),
        lambda draw: draw.one(w.GAMES)[0],
    ),
    Relation(
        "{name} is {value} years old.",
        wordings("How old is {name}?\nWhat is {name}'s age?", "Tell me how old {name} is."),
        wordings("Who is {value} years old?", "Tell me who is {value} years old."),
        lambda draw: draw.one(w.NUMBERS)[0],
    ),
)
RELATIONS_ZH = (
    Relation(
        "{name}在{value}里。",
        wordings("{name}在哪里？\n{name}在什么地方？", "(请问{name}在哪里？|告诉我{name}在哪里。)"),
        wordings("谁在{value}里？\n{value}里有谁？", "请问谁在{value}里？"),
        lambda draw: draw.one(w.PLACES).zh,
    ),
    Relation(
        "{name}有{value}。",
        wordings("{name}有什么？\n{name}有什么东西？", "(请问{name}有什么？|告诉我{name}有什么。)"),
        wordings("谁有{value}？", "请问谁有{value}？"),
        _coloured_zh,
    ),
    Relation(
        "{name}喜欢{value}。",
        wordings("{name}喜欢什么？", "请问{name}喜欢什么？"),
        wordings("谁喜欢{value}？", "请问谁喜欢{value}？"),
        lambda draw: draw.one([n for n in w.NOUNS if n.kind != "person"]).zh,
    ),
    Relation(
        "{name}是{value}。",
        wordings("{name}做什么工作？\n{name}的工作是什么？", "请问{name}做什么工作？"),
        wordings("谁是{value}？", "请问谁是{value}？"),
        lambda draw: draw.one(w.JOBS).zh,
    ),
    Relation(
        "{name}住在{value}。",
        wordings("{name}住在哪里？\n{name}住在哪个城市？", "请问{name}住在哪里？"),
        wordings("谁住在{value}？", "请问谁住在{value}？"),
        lambda draw: draw.one(w.CITIES)[1],
    ),
)
Fact = tuple[Relation, str, str]


def _facts(draw: Draw, relations: tuple[Relation, ...], names: tuple[str, ...]) -> list[Fact]:
    """Facts about different people, with different values, so that every question has one answer."""
    count = draw.one((2, 3, 4, 5)) if draw.chance(draw.difficulty) else draw.one((1, 2))
    kinds = (draw.one(relations),) if draw.chance(0.4) else relations
    facts: list[Fact] = []
    for _ in range(8 * count):
        relation = draw.one(kinds)
        name, value = draw.combination(partial(_pair, draw, names, relation))
        if len(facts) < count and not any(name == n or value == v for _, n, v in facts):
            facts.append((relation, name, value))
    return facts


def _portrait(draw: Draw, relations: tuple[Relation, ...], names: tuple[str, ...]) -> list[Fact]:
    """Several facts about one person."""
    first, *others = draw.some(relations, 3 if draw.chance(draw.difficulty) else 2)
    name, value = draw.combination(partial(_pair, draw, names, first))
    facts = [(first, name, value)]
    for relation in others:
        for _ in range(30):
            if is_held(name, other := relation.values(draw)) is (draw.split is Split.COMBINATION):
                facts.append((relation, name, other))
                break
    return facts


def _pair(draw: Draw, names: tuple[str, ...], relation: Relation) -> tuple[str, str]:
    return draw.one(names), relation.values(draw)


def answers(draw: Draw, *, chinese: bool, turns: int = 1) -> Example:
    """A passage and one or more questions about it; the passage stands in the first turn only."""
    alone = draw.chance(0.25)
    relations, names = (RELATIONS_ZH, w.NAMES_ZH) if chinese else (RELATIONS, w.NAMES)
    facts = (_portrait if alone else _facts)(draw, relations, names)
    sentences = []
    for i, (relation, name, value) in enumerate(facts):
        subject = w.pronoun(name).capitalize() if alone and i else name
        sentences.append(relation.fact.format(name=subject, value=value))
    passage = ("" if chinese else " ").join(sentences)
    pairs: list[tuple[str, str]] = []
    for relation, name, value in draw.some(facts, min(turns, len(facts))):
        wording = relation.of_value if draw.chance(0.3) and not alone else relation.of_name
        question = draw.wording(wording).format(name=name, value=value)
        if not pairs:
            question = draw.wording(ASK_ZH if chinese else ASK).format(passage=passage, question=question)
        pairs.append((question, relation.fact.format(name=name, value=value)))
    return Example("answer-zh" if chinese else "answer-en", tuple(pairs))
