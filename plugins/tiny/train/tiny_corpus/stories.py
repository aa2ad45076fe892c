"""Stories: an opening sentence and what follows from it."""

from __future__ import annotations

from . import chat, openings, translation
from . import story_words as s
from . import words as w
from .example import Example
from .grammar import Recogniser, fill, split_sentences
from .split import Draw, wordings

_SYLLABLES = "ba be bo da do fa fi ga go ka ko la le lo ma mi mo na no pa po ra ri ro sa so ta ti to va vo wa zo tion ing er".split()
_STRANGE = "{a} {b} {c}.|The {a} {b} is {c}.|{a} and {b}|My {a} is {b}.|The {a} {b}s the {c}.|We {a} the {b}.|{a}|In {a} there is {b}."
_PAST = ("upon a time", "once", "long ago", "years ago", "yesterday")
REQUEST = wordings(
    """
    (Tell me|Write|Tell) (a story|a short story) about a {A}.
    (Write|Tell me) a story with a {A} and a {B}.
    (Tell me a story.|Write a story.|Tell a short story.)
    """,
    "Can you tell me a story about a {A}?\nI want a story about a {A}.",
    openings.REQUEST,
)


def _cast(draw: Draw) -> dict[str, str]:
    """Choose who and what a story is about."""
    first, second = draw.combination(lambda: tuple(draw.some(s.CHARACTERS, 2)))
    name, other = draw.some(w.NAMES, 2)
    slots = {k: draw.one(tuple(v)) for k, v in s.LISTS.items()}
    x, y, z = draw.some(s.ADJECTIVES, 3)
    slots |= {"A": first, "B": second, "x": x, "y": y, "z": z, "N": name, "M": other, "he": w.pronoun(name)}
    slots["child"] = "boy" if name in w.HE else "girl"
    if draw.wide:
        slots |= {slot: draw.one(words) for slot, words in openings.WORDS.items() if draw.chance(0.25)}
    return slots


def _repair(text: str) -> str:
    """Write *an* where the next word asks for it."""
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
    return text


def _animal_plan(draw: Draw, *, met: bool) -> list[str]:
    found, use = (s.FOUND_FOOD, s.USE_FOOD) if draw.chance(0.5) else (s.FOUND_THING, s.USE_THING)
    speaker = draw.chance(0.5)
    plan = [] if met else [draw.one(s.MEET)]
    plan += [draw.one(s.REACT)] if draw.chance(0.7) else []
    plan += [s.SPEAK[speaker]] + ([s.REPLY[speaker]] if draw.chance(0.5) else []) if draw.chance(0.7) else []
    plan += [draw.one(s.MOVE)] if draw.chance(0.7) else []
    if draw.chance(0.5):
        plan += [draw.one(part) for part in draw.one(s.PLOTS)]
    elif draw.chance(0.7):
        plan += [draw.one(found), draw.one(use)]
    return [*plan, draw.one(s.END)]


def _write(plan: list[str], cast: dict[str, str], draw: Draw, *, past: bool) -> str:
    """Fill a plan; words that are said once only change from sentence to sentence."""
    sentences = []
    for pattern in plan:
        cast = cast | {k: draw.one(tuple(s.LISTS[k])) for k in "xyqfPLR"}
        sentences.append(fill(pattern, cast, past=past))
    return _repair(" ".join(sentences))


def animal(draw: Draw) -> tuple[str, str]:
    """A story about one or two animals or people without a name."""
    cast, met, past = _cast(draw), draw.chance(0.6), draw.chance(0.5)
    opening = draw.wording(s.TWO if met else s.ONE)
    past = past or any(word in opening for word in _PAST)
    return _repair(fill(opening, cast, past=past)), _write(_animal_plan(draw, met=met), cast, draw, past=past)


def named(draw: Draw) -> tuple[str, str]:
    """A story about somebody with a name."""
    cast, past = _cast(draw), draw.chance(0.5)
    opening = draw.wording(s.NAMED)
    past = past or any(word in opening for word in _PAST)
    first, *rest = s.NAMED_PARTS
    plan = [draw.one(first[2:] if "{B}" in opening else first[:2])]
    plan += [draw.one(part) for part in rest if draw.chance(0.8)]
    return _repair(fill(opening, cast, past=past)), _write(plan, cast, draw, past=past)


def article(draw: Draw) -> tuple[str, str]:
    """A text about a text."""
    group = draw.one(tuple(s.TOPICS))
    known = draw.chance(0.75)
    topic = draw.one(group) if known else draw.one(s.OTHER_TOPICS)
    text = draw.one(s.KIND_OF_TEXT)
    facts = draw.some(s.TOPICS[group], 3)
    parts = s.ARTICLE_PARTS if known else (s.OTHER_PARTS, *s.ARTICLE_PARTS[2:3], s.ARTICLE_PARTS[3][1:])
    chosen = [draw.one(part) for part in parts if part is parts[0] or draw.chance(0.8)]
    opening = draw.wording(s.ARTICLE).format(how=draw.one(s.HOW_LONG), text=text, topic=topic)
    body = " ".join(p.format(text=text, topic=topic, fact=facts[i % 3]) for i, p in enumerate(chosen))
    return _repair(opening), body


def first_person(draw: Draw) -> tuple[str, str]:
    """Somebody speaks about a day."""
    cast = _cast(draw)
    opening = draw.one(
        ("Hello, world!", "Hello!", "My name is {N}.", "Today I went to the {P}.", "I like the {P}.", "I have a {x} {B}.",
         "It is a nice day.", "It is a sunny day.", "The weather is nice today.", "Yesterday I saw a {x} {B}.")
    )  # fmt: skip
    parts = (
        ("I live near the {P}.", "I am {N}.", "I was in the {P} with my friend {M}.", "I am in the {P} today."),
        ("I see a {x} {A} here.", "There is a {x} {A} in the {P}.", "The {A} is {f}."),
        ("I like the {A} very much.", "It looks at me.", "We play together.", "I give it a {O}."),
        ("In the evening I go home.", "I am very happy.", "It is a good day."),
    )
    body = " ".join(draw.one(part).format(**cast) for part in parts)
    return _repair(opening.format(**cast)), _repair(body)


def strange(draw: Draw) -> tuple[str, str]:
    """An opening with words nobody knows, and a simple story after it."""
    pool = (*s.CHARACTERS, *s.ADJECTIVES, *s.PLACES, *s.THINGS)

    def word() -> str:
        if draw.chance(0.4):
            return draw.one(pool)
        return "".join(draw.one(_SYLLABLES) for _ in range(draw.one((1, 2, 2, 3))))

    if draw.chance(0.4):
        opening = translation.pair(draw)[0]
    else:
        opening = draw.one(_STRANGE.split("|")).format(a=word(), b=word(), c=word())
    start, end = animal(draw)
    return opening[0].upper() + opening[1:], f"{start} {end}"


def chinese(draw: Draw) -> tuple[str, str]:
    """A story in Chinese."""
    slots = {k: draw.one(tuple(v)) for k, v in s.ZH_LISTS.items()}
    first, second = draw.combination(lambda: tuple(draw.some(s.ZH_LISTS["A"], 2)))
    slots |= {"A": first, "B": second}
    met = draw.chance(0.5)
    opening = draw.wording(s.ZH_TWO if met else s.ZH_ONE)
    body = [] if "{A}" in opening else [f"从前有一只{slots['x']}{first}。"]
    plot = draw.one(s.ZH_PLOTS) if draw.chance(0.4) else s.ZH_PARTS[4:5]
    for part in (*s.ZH_PARTS[met:4], *plot, s.ZH_PARTS[5]):
        if part in plot or draw.chance(0.85) or part in (s.ZH_PARTS[0], s.ZH_PARTS[-1]):
            slots |= {k: draw.one(tuple(s.ZH_LISTS[k])) for k in "xyPf"}
            body.append(draw.one(part).format(**slots))
    return opening.format(**slots), "".join(body)


def spoken(draw: Draw) -> tuple[str, str]:
    """A question about llmos as raw text, and its answer."""
    example = chat.intent(draw, chinese=draw.chance(0.3))
    return example.question, example.answer


_MAKERS = (animal, named, article, first_person, strange, chinese, spoken)
_OFTEN = {False: (10, 3, 4, 3, 4, 5, 2), True: (16, 3, 1, 1, 2, 12, 1)}
"""How often each kind of story comes, by whether the training is wide."""


def story(draw: Draw) -> Example:
    """Raw text: an opening and its continuation."""
    maker = draw.rng.choices(_MAKERS, _OFTEN[draw.wide])[0]
    opening, body = maker(draw)
    gap = "" if body[0] > "\u3000" else " "
    if maker in (strange, spoken):
        return Example("story", (("", gap + body),), opening=opening)
    return Example("story", (("", opening + gap + body),))


def continuation(draw: Draw, *, chinese_text: bool) -> Example:
    """A test story: the opening is given, the rest is to be written."""
    opening, body = chinese(draw) if chinese_text else animal(draw)
    return Example("story-zh" if chinese_text else "story-en", (("", body),), opening=opening)


def told(draw: Draw) -> Example:
    """A story that somebody asked for."""
    cast = _cast(draw)
    request = draw.wording(REQUEST)
    met = "{B}" in request
    opening = fill(draw.wording(s.TWO if met else s.ONE), cast, past=True)
    body = _write(_animal_plan(draw, met=met), cast, draw, past=True)
    return Example("story-chat", ((_repair(request.format(**cast)), _repair(opening) + " " + body),))


_ENGLISH = Recogniser([p.replace(" an ", " a ") for p in s.PATTERNS], s.LISTS)
_CHINESE = Recogniser([p for parts in (s.ZH_PARTS, *s.ZH_PLOTS) for part in parts for p in part], s.ZH_LISTS)
_FIRST = Recogniser(["从前有一只{x}{A}。"], s.ZH_LISTS)


def _cast_of(text: str) -> set[str]:
    """The characters that a text names."""
    if text.isascii():
        return {word.strip('.,"!') for word in text.lower().split()} & (set(s.CHARACTERS) - set(s.FOODS))
    found = set()
    for name in sorted({*s.ZH_LISTS["A"], *s.ZH_LISTS["O"]}, key=len, reverse=True):
        if name in text:
            found.add(name)
            text = text.replace(name, " ")
    return found & set(s.ZH_LISTS["A"])


def is_grammatical(opening: str, text: str) -> bool:
    """Return whether *text* goes on from *opening* in the grammar of the stories.

    Each sentence must match a pattern, in one tense, and the whole must name two characters at most: those of the
    opening, or one more when the opening has only one.
    """
    if len(_cast_of(opening) | _cast_of(text)) > 2:
        return False
    if text.isascii():
        return _ENGLISH.accepts(text.replace(" an ", " a ").replace("An ", "A "))
    start = "".join(split_sentences(text)[:1])
    return _CHINESE.accepts(text.removeprefix(start) if _FIRST.accepts(start) else text)
