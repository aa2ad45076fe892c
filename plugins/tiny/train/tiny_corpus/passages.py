"""Texts to read: questions whose answer stands in a passage, and one-sentence summaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import words as w
from .example import Example
from .split import Draw, Wordings, wordings

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
    language: str


def _place(draw: Draw) -> str:
    return draw.one(w.PLACES).en


def _coloured(draw: Draw) -> str:
    return w.article(f"{draw.one(w.COLOURS).en} {draw.one(w.THINGS).en}")


RELATIONS = (
    Relation(
        "{name} is in the {value}.",
        wordings(
            "(Where is|Where's) {name}?\nWhere can I find {name}?", "(Tell me where {name} is.|Where is {name} now?)"
        ),
        wordings("Who is in the {value}?\nWho do you find in the {value}?", "Tell me who is in the {value}."),
        _place,
        "en",
    ),
    Relation(
        "{name} has {value}.",
        wordings(
            "What does {name} have?\nWhat has {name} got?", "(Tell me what {name} has.|What does {name} have now?)"
        ),
        wordings("Who has {value}?\nWho has got {value}?", "Tell me who has {value}."),
        _coloured,
        "en",
    ),
    Relation(
        "{name} likes {value}.",
        wordings("What does {name} like?\nWhich things does {name} like?", "Tell me what {name} likes."),
        wordings("Who likes {value}?", "Tell me who likes {value}."),
        lambda draw: draw.one(tuple(w.PLURALS.values())),
        "en",
    ),
)
RELATIONS_ZH = (
    Relation(
        "{name}在{value}里。",
        wordings("{name}在哪里？\n{name}在什么地方？", "(请问{name}在哪里？|告诉我{name}在哪里。)"),
        wordings("谁在{value}里？\n{value}里有谁？", "请问谁在{value}里？"),
        lambda draw: draw.one(w.PLACES).zh,
        "zh",
    ),
    Relation(
        "{name}有一个{value}。",
        wordings("{name}有什么？\n{name}有一个什么？", "(请问{name}有什么？|告诉我{name}有什么。)"),
        wordings("谁有一个{value}？", "请问谁有一个{value}？"),
        lambda draw: draw.one(w.COLOURS).before + draw.one([n for n in w.THINGS if n.counter == "个"]).zh,
        "zh",
    ),
    Relation(
        "{name}喜欢{value}。",
        wordings("{name}喜欢什么？", "请问{name}喜欢什么？"),
        wordings("谁喜欢{value}？", "请问谁喜欢{value}？"),
        lambda draw: draw.one([*w.ANIMALS, *w.FOODS]).zh,
        "zh",
    ),
)


def _facts(draw: Draw, relations: tuple[Relation, ...], names: tuple[str, ...]) -> list[tuple[Relation, str, str]]:
    """Facts about different people, with different values, so that every question has one answer."""
    count = draw.one((2, 3, 4)) if draw.chance(draw.difficulty) else draw.one((1, 2))
    kinds = (draw.one(relations),) if draw.chance(0.5) else relations
    facts: list[tuple[Relation, str, str]] = []
    for _ in range(8 * count):
        relation = draw.one(kinds)
        name, value = draw.combination(partial(_pair, draw, names, relation))
        if len(facts) < count and not any(name == n or value == v for _, n, v in facts):
            facts.append((relation, name, value))
    return facts


def _pair(draw: Draw, names: tuple[str, ...], relation: Relation) -> tuple[str, str]:
    return draw.one(names), relation.values(draw)


def answers(draw: Draw, *, chinese: bool, turns: int = 1) -> Example:
    """A passage and one or more questions about it; the passage stands in the first turn only."""
    facts = _facts(draw, RELATIONS_ZH if chinese else RELATIONS, w.NAMES_ZH if chinese else w.NAMES)
    passage = ("" if chinese else " ").join(r.fact.format(name=n, value=v) for r, n, v in facts)
    asked = draw.some(facts, min(turns, len(facts)))
    pairs: list[tuple[str, str]] = []
    for relation, name, value in asked:
        wording = relation.of_value if draw.chance(0.3) else relation.of_name
        question = draw.wording(wording).format(name=name, value=value)
        if not pairs:
            question = draw.wording(ASK_ZH if chinese else ASK).format(passage=passage, question=question)
        pairs.append((question, relation.fact.format(name=name, value=value)))
    return Example("answer-zh" if chinese else "answer-en", tuple(pairs))


SUMMARIZE = wordings(
    """
    (Summarize|Summarise|Summarize this|Please summarize|Summarize this text|Summarize the text): {}
    (Give me a summary|Write a summary|Write a short summary): {}
    (Say this in one sentence|In one sentence): {}
    {} (Summarize this.|Please summarize.|What is the summary?)
    """,
    """
    Make a short summary of this text: {}
    Can you summarize this? {}
    {} Now summarize this text.
    """,
)
SUMMARIZE_ZH = wordings(
    """
    (总结|请总结|总结一下|概括|请概括)：{}
    (用一句话说|用一句话总结|一句话总结)：{}
    {}(请总结。|总结一下。)
    """,
    """
    请用一句话概括：{}
    {}请总结这段话。
    请总结一下这段话：{}
    """,
)
TIMES = ("in the morning", "in the afternoon", "today", "yesterday", "on Monday", "on Sunday", "after school")
WEATHER = ("It was sunny.", "It was cold.", "It was a nice day.", "It was raining.", "The sun was warm.")
FEELINGS = ("{} was happy.", "{} was very happy.", "Then {} went home.", "{} had a good day.", "{} was tired.")
PAST = tuple(v for v in w.VERBS if v.en in ("see", "find", "buy"))
TIMES_ZH = ("早上", "下午", "今天", "昨天", "星期一", "星期天", "放学后")
WEATHER_ZH = ("天气很好。", "天气很冷。", "那天下雨。", "阳光很暖和。")
FEELINGS_ZH = ("{}很高兴。", "{}非常高兴。", "然后{}回家了。", "{}很累。")
PAST_ZH = ("看见了", "找到了", "买了")


def _visit(draw: Draw) -> tuple[str, str]:
    """Somebody goes to a place and does something there."""
    name, place = draw.combination(lambda: (draw.one(w.NAMES), draw.one(w.PLACES).en))
    verb, noun = draw.combination(lambda: (draw.one(PAST).past, draw.one((*w.FOODS, *w.THINGS)).en))
    he, thing = w.pronoun(name), w.article(f"{draw.one(w.COLOURS).en} {noun}" if draw.chance(0.6) else noun)
    sentences = [
        f"{name} went to the {place} {draw.one(TIMES)}.",
        draw.one(WEATHER),
        draw.one((f"There {he} {verb} {thing}.", f"{he.capitalize()} {verb} {thing} there.")),
        draw.one(FEELINGS).format(he).capitalize() if draw.chance(0.5) else "",
    ]
    if draw.chance(0.4):
        del sentences[1]
    return " ".join(filter(None, sentences)), f"{name} {verb} {thing} in the {place}."


def _game(draw: Draw) -> tuple[str, str]:
    """Two people play something somewhere."""
    name, place = draw.combination(lambda: (draw.one(w.NAMES), draw.one(w.PLACES).en))
    other = draw.one([n for n in w.NAMES if n != name])
    game = draw.one(w.GAMES)[0]
    sentences = [
        f"{name} met {other} in the {place} {draw.one(TIMES)}.",
        draw.one(WEATHER) if draw.chance(0.5) else "",
        f"They played {game}{draw.one(('', ' there', ' together'))}.",
        draw.one(("They were happy.", "They had a good time.", "Then they went home.", "")),
    ]
    return " ".join(filter(None, sentences)), f"{name} and {other} played {game} in the {place}."


def _visit_zh(draw: Draw) -> tuple[str, str]:
    name, place = draw.combination(lambda: (draw.one(w.NAMES_ZH), draw.one(w.PLACES).zh))
    verb, noun = draw.combination(lambda: (draw.one(PAST_ZH), draw.one((*w.FOODS, *w.THINGS)).zh))
    thing = draw.one(w.COLOURS).before + noun if draw.chance(0.6) else noun
    sentences = [
        f"{name}{draw.one(TIMES_ZH)}去了{place}。",
        draw.one(WEATHER_ZH) if draw.chance(0.6) else "",
        f"{w.pronoun(name)}在那里{verb}{thing}。",
        draw.one(FEELINGS_ZH).format(w.pronoun(name)) if draw.chance(0.5) else "",
    ]
    return "".join(sentences), f"{name}在{place}{verb}{thing}。"


def _game_zh(draw: Draw) -> tuple[str, str]:
    name, place = draw.combination(lambda: (draw.one(w.NAMES_ZH), draw.one(w.PLACES).zh))
    other = draw.one([n for n in w.NAMES_ZH if n != name])
    game = draw.one(w.GAMES)[1]
    sentences = [
        f"{name}{draw.one(TIMES_ZH)}在{place}遇见了{other}。",
        draw.one(WEATHER_ZH) if draw.chance(0.5) else "",
        f"他们一起玩{game}。",
        draw.one(("他们很高兴。", "然后他们回家了。", "")),
    ]
    return "".join(sentences), f"{name}和{other}在{place}玩{game}。"


def summary(draw: Draw, *, chinese: bool) -> Example:
    """A short text and its one-sentence summary."""
    makers = (_visit_zh, _visit_zh, _game_zh) if chinese else (_visit, _visit, _game)
    text, short = draw.one(makers)(draw)
    question = draw.wording(SUMMARIZE_ZH if chinese else SUMMARIZE).format(text)
    return Example("summary-zh" if chinese else "summary-en", ((question, short),))
