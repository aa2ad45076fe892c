"""Short translations between English and Chinese within a small vocabulary and a regular grammar."""

from __future__ import annotations

from . import words as w
from .example import Example
from .split import Draw, wordings

TO_ZH = wordings(
    """
    (Translate|Translate this|Please translate) (to|into) Chinese: {}
    (Say|Write) (this|it) in Chinese: {}
    How do (you|I) say this in Chinese? {}
    In Chinese(, please|): {}
    (翻译成中文|翻译为中文|用中文说|中文怎么说)：{}
    """,
    """
    What is this in Chinese? {}
    Give me the Chinese for this: {}
    Can you translate this into Chinese? {}
    请把这句话翻译成中文：{}
    """,
)
TO_EN = wordings(
    """
    (Translate|Translate this|Please translate) (to|into) English: {}
    (Say|Write) (this|it) in English: {}
    How do (you|I) say this in English? {}
    In English(, please|): {}
    (翻译成英文|翻译为英文|用英文说|英文怎么说)：{}
    """,
    """
    What is this in English? {}
    Give me the English for this: {}
    Can you translate this into English? {}
    请把这句话翻译成英文：{}
    """,
)
PRONOUNS = (("I", "我"), ("you", "你"), ("we", "我们"), ("they", "他们"))


def _phrase(draw: Draw, noun: w.Noun, probability: float) -> tuple[str, str]:
    if not draw.chance(probability):
        return f"the {noun.en}", noun.zh
    adjective = _adjective(draw, noun)
    return f"the {adjective.en} {noun.en}", adjective.before + noun.zh


def _adjective(draw: Draw, noun: w.Noun) -> w.Adjective:
    if noun.kind in ("animal", "person"):
        return draw.one(w.ADJECTIVES if noun.kind == "animal" else w.QUALITIES)
    return draw.one([a for a in w.ADJECTIVES if a in w.COLOURS or a.en in w.DEAD_QUALITIES])


def _triple(draw: Draw) -> tuple[w.Noun | None, w.Verb, w.Noun, tuple[str, str]]:
    """A subject (a noun, or None and a pronoun), a verb and an object that the split allows."""

    def make() -> tuple[str, ...]:
        subject = draw.one(PRONOUNS)[0] if draw.chance(0.3) else draw.one((*w.ANIMALS, *w.PEOPLE)).en
        verb = draw.one(w.VERBS)
        return subject, verb.en, draw.one([n for n in w.NOUNS if n.kind in verb.objects and n.en != subject]).en

    subject, verb, noun = draw.combination(make)
    nouns = {n.en: n for n in w.NOUNS}
    pair = dict(PRONOUNS)
    found = next(v for v in w.VERBS if v.en == verb)
    return nouns.get(subject), found, nouns[noun], (subject, pair.get(subject, ""))


def _clause(draw: Draw) -> tuple[str, str]:
    """A sentence with a verb: plain, negative, in a place, a wish."""
    noun, verb, thing, (pronoun, pronoun_zh) = _triple(draw)
    subject, subject_zh = _phrase(draw, noun, 0.4) if noun else (pronoun, pronoun_zh)
    obj, obj_zh = _phrase(draw, thing, 0.4)
    form = draw.one(("plain", "plain", "plain", "not", "place", "question"))
    if form == "question":
        return f"{'does' if noun else 'do'} {subject} {verb.en} {obj}?", f"{subject_zh}{verb.zh}{obj_zh}吗？"
    if form == "not":
        return f"{subject} {'does' if noun else 'do'} not {verb.en} {obj}.", f"{subject_zh}不{verb.zh}{obj_zh}。"
    said = verb.third if noun else verb.en
    if form == "place":
        place = draw.one(w.PLACES)
        return f"{subject} {said} {obj} in the {place.en}.", f"{subject_zh}在{place.zh}里{verb.zh}{obj_zh}。"
    return f"{subject} {said} {obj}.", f"{subject_zh}{verb.zh}{obj_zh}。"


def _state(draw: Draw) -> tuple[str, str]:
    """A sentence that says where something is or what it is like."""
    nouns = {n.en: n for n in w.NOUNS}
    if draw.chance(0.5):
        noun, place = draw.combination(lambda: (draw.one(w.NOUNS).en, draw.one(w.PLACES).en))
        place_zh = next(p.zh for p in w.PLACES if p.en == place)
        subject, subject_zh = _phrase(draw, nouns[noun], 0.4)
        return f"{subject} is in the {place}.", f"{subject_zh}在{place_zh}里。"

    def make() -> tuple[str, ...]:
        noun = draw.one(w.NOUNS)
        return noun.en, _adjective(draw, noun).en

    noun, adjective = draw.combination(make)
    said = next(a.said for a in w.ADJECTIVES if a.en == adjective)
    return f"the {noun} is {adjective}.", f"{nouns[noun].zh}{said}。"


def pair(draw: Draw) -> tuple[str, str]:
    """An English sentence and its Chinese translation."""
    en, zh = _clause(draw) if draw.chance(0.75) else _state(draw)
    return en[0].upper() + en[1:], zh


def word_pair(draw: Draw) -> tuple[str, str]:
    """A single word, or a noun with its adjective, in both languages (training only)."""
    noun = draw.one((*w.NOUNS, *w.PLACES))
    if draw.chance(0.3):
        return noun.en, noun.zh
    if draw.chance(0.2):
        adjective = draw.one(w.ADJECTIVES)
        return adjective.en, adjective.before
    if draw.chance(0.2):
        verb = draw.one(w.VERBS)
        return verb.en, verb.zh
    return _phrase(draw, draw.one(w.NOUNS), 1.0)


def to_zh(draw: Draw, *, word: bool = False) -> Example:
    """An example of translation into Chinese."""
    en, zh = word_pair(draw) if word else pair(draw)
    return Example("translate-en-zh", ((draw.wording(TO_ZH).format(en), zh),))


def to_en(draw: Draw, *, word: bool = False) -> Example:
    """An example of translation into English."""
    en, zh = word_pair(draw) if word else pair(draw)
    return Example("translate-zh-en", ((draw.wording(TO_EN).format(zh), en),))
