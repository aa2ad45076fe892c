"""One-sentence summaries of short texts."""

from __future__ import annotations

from . import words as w
from .example import Example
from .split import Draw, wordings

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


def _purchase(draw: Draw) -> tuple[str, str]:
    """Somebody has a thing, what it is like, and where it comes from."""
    name, place = draw.combination(lambda: (draw.one(w.NAMES), draw.one(w.PLACES).en))
    noun, colour = draw.combination(lambda: (draw.one(w.THINGS).en, draw.one(w.COLOURS).en))
    he = w.pronoun(name)
    sentences = [
        f"{name} has {draw.one(('a new', 'a beautiful', 'a nice'))} {noun}.",
        f"The {noun} is {colour}.",
        draw.one((f"{he.capitalize()} {{}} it in the {place} {draw.one(TIMES)}.", f"{name} {{}} it in the {place}.")),
        draw.one((f"{he.capitalize()} likes it very much.", "It was cheap.", "It is a good one.", "")),
    ]
    verb = draw.one(("bought", "found"))
    return " ".join(filter(None, sentences)).format(
        verb
    ), f"{name} {verb} {w.article(f'{colour} {noun}')} in the {place}."


def _lost(draw: Draw) -> tuple[str, str]:
    """Somebody loses a thing and somebody else finds it."""
    name, noun = draw.combination(lambda: (draw.one(w.NAMES), draw.one(w.THINGS).en))
    other, place = draw.combination(lambda: (draw.one(w.NAMES), draw.one(w.PLACES).en))
    if other == name:
        return _lost(draw)
    his = "his" if name in w.HE else "her"
    sentences = [
        f"{name} lost {his} {noun} {draw.one(TIMES)}.",
        draw.one((f"{w.pronoun(name).capitalize()} was very sad.", f"{name} looked for it all day.", "")),
        f"{other} found it in the {place}.",
        draw.one((f"{name} thanked {other}.", f"{name} was happy again.", "Then they went home.", "")),
    ]
    return " ".join(filter(None, sentences)), f"{other} found the {noun} of {name} in the {place}."


def _purchase_zh(draw: Draw) -> tuple[str, str]:
    name, place = draw.combination(lambda: (draw.one(w.NAMES_ZH), draw.one(w.PLACES).zh))
    noun, colour = draw.combination(lambda: (draw.one(w.THINGS).zh, draw.one(w.COLOURS).before))
    counter = next(n.counter for n in w.THINGS if n.zh == noun)
    verb = draw.one(("买", "找到"))
    sentences = [
        f"{name}有一{counter}{noun}。",
        f"{noun}是{colour}。",
        f"{w.pronoun(name)}{draw.one(('', *TIMES_ZH))}在{place}{verb}了它。",
        draw.one((f"{w.pronoun(name)}很喜欢它。", "它很便宜。", "")),
    ]
    return "".join(sentences), f"{name}在{place}{verb}了一{counter}{colour}{noun}。"


def summary(draw: Draw, *, chinese: bool) -> Example:
    """A short text and its one-sentence summary."""
    makers = (_visit_zh, _game_zh, _purchase_zh) if chinese else (_visit, _game, _purchase, _lost)
    text, short = draw.one(makers)(draw)
    question = draw.wording(SUMMARIZE_ZH if chinese else SUMMARIZE).format(text)
    return Example("summary-zh" if chinese else "summary-en", ((question, short),))
