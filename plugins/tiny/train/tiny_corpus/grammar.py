"""Sentence patterns that work both ways: they write a sentence, and they recognise one.

``{slot}`` stands for a word of a list, ``<verb>`` for a verb after *he, she, it*, ``[verb]`` for one after *they*.
A text is grammatical when each of its sentences matches a pattern, all in one tense, about characters it introduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

_REGULAR = (
    "look jump walk play wait live follow help love like watch chase visit call open laugh smile listen talk work "
    "greet invite touch pull trust paint save shout dream cook turn climb care travel return move rest stay show"
)
_TABLE = (
    "be/is/was/are/were have/has/had run/runs/ran see/sees/saw meet/meets/met find/finds/found hear/hears/heard "
    "say/says/said ask/asks/asked go/goes/went eat/eats/ate sleep/sleeps/slept sit/sits/sat wake/wakes/woke "
    "give/gives/gave come/comes/came take/takes/took feel/feels/felt begin/begins/began share/shares/shared "
    "bring/brings/brought tell/tells/told think/thinks/thought stop/stops/stopped dance/dances/danced "
    "carry/carries/carried thank/thanks/thanked forget/forgets/forgot become/becomes/became want/wants/wanted need/needs/needed "
    "teach/teaches/taught push/pushes/pushed kiss/kisses/kissed know/knows/knew feed/feeds/fed wash/washes/washed "
    "draw/draws/drew miss/misses/missed hug/hugs/hugged lead/leads/led catch/catches/caught hate/hates/hated sing/sings/sang "
    "stand/stands/stood hide/hides/hid lie/lies/lay fly/flies/flew swim/swims/swam write/writes/wrote speak/speaks/spoke "
    "fall/falls/fell hurry/hurries/hurried drive/drives/drove ride/rides/rode read/reads/read break/breaks/broke "
    "lose/loses/lost buy/buys/bought"
)


def _forms() -> dict[str, tuple[str, str, str, str]]:
    """Base form to: third person, third person past, plural, plural past."""
    forms = {}
    for base in _REGULAR.split():
        past = base + ("d" if base.endswith("e") else "ed")
        forms[base] = (base + ("es" if base.endswith("ch") else "s"), past, base, past)
    for row in _TABLE.split():
        base, third, past, *plural = row.split("/")
        forms[base] = (third, past, plural[0] if plural else base, plural[1] if plural else past)
    return forms


VERBS = _forms()
_MARK = re.compile(r"\{(\w+)\}|<(\w+)>|\[(\w+)\]")


def fill(pattern: str, slots: Mapping[str, str], *, past: bool) -> str:
    """Write the sentence that *pattern* stands for, its first letter large."""

    def put(match: re.Match[str]) -> str:
        slot, single, plural = match.groups()
        if slot:
            return slots[slot]
        return VERBS[single or plural][(0 if single else 2) + past]

    text = _MARK.sub(put, pattern)
    first = 1 if text[0] == '"' else 0
    return text[:first] + text[first].upper() + text[first + 1 :]


def _regex(pattern: str, lists: Mapping[str, Iterable[str]], past: bool) -> re.Pattern[str]:
    parts, at = [], 0
    for match in _MARK.finditer(pattern):
        parts.append(re.escape(pattern[at : match.start()]))
        slot, single, plural = match.groups()
        words = lists[slot] if slot else [VERBS[single or plural][(0 if single else 2) + past]]
        parts.append("(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")")
        at = match.end()
    return re.compile("".join([*parts, re.escape(pattern[at:])]), re.IGNORECASE)


class Recogniser:
    """Says whether a text is made of known sentence patterns in one tense."""

    def __init__(self, patterns: Iterable[str], lists: Mapping[str, Iterable[str]]) -> None:
        """Compile *patterns* in both tenses with the words that each slot may hold."""
        patterns = tuple(patterns)
        self._tenses = [[_regex(p, lists, past) for p in patterns] for past in (False, True)]

    def accepts(self, text: str) -> bool:
        """Return whether every sentence of *text* matches, all in the same tense."""
        sentences = split_sentences(text)
        if not sentences or any(not s[s[0] == '"'].isupper() for s in sentences if s.isascii()):
            return False
        return any(all(any(p.fullmatch(s) for p in tense) for s in sentences) for tense in self._tenses)


@cache
def split_sentences(text: str) -> tuple[str, ...]:
    """Cut a text after each full stop."""
    return tuple(s.strip() for s in re.findall(r"[^.!。！]+(?:[.!。！]|$)", text) if s.strip())
