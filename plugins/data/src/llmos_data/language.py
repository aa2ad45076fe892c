"""The processor ``language``: which language a text is in, or a guard that lets only some pass.

The method is our own and small.  The script decides where one language uses it (Unicode blocks).  For Latin and
Cyrillic letters each word that is among a language's frequent ones speaks for it, the more the fewer languages share
it, and so do letters that few languages have.  A text without any of them is ``und``, undetermined (ISO 639-2).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs

from llmos import read_options
from llmos_data.texts import OnTexts
from llmos_data.words import WORDS
from llmos_kernel.api import listed, number
from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor

api = 1
"""The version of the processor contract that this module is written for."""
UNDETERMINED = "und"
_SCRIPTS = {
    "ja": "\u3040-\u30ff", "ko": "\uac00-\ud7a3\u1100-\u11ff", "zh": "\u4e00-\u9fff\u3400-\u4dbf",
    "el": "\u0370-\u03ff\u1f00-\u1fff", "he": "\u0590-\u05ff", "fa": "پچژگیک", "ar": "\u0600-\u06ff",
    "hi": "\u0900-\u097f", "bn": "\u0980-\u09ff", "ta": "\u0b80-\u0bff", "te": "\u0c00-\u0c7f",
    "th": "\u0e00-\u0e7f", "ka": "\u10a0-\u10ff", "hy": "\u0530-\u058f",
}  # fmt: skip
"""Languages and the characters that decide for them."""
_SCRIPT = re.compile("|".join(f"([{characters}])" for characters in _SCRIPTS.values()))
_ALPHABETIC = re.compile("[a-zA-Z\u00c0-\u024f\u1e00-\u1eff\u0400-\u04ff]")
_LETTERS = {
    "ß": "de", "ñ¿¡": "es", "ãõ": "pt", "œ": "fr", "æø": "da", "ąęłżźśćń": "pl", "ěřů": "cs", "ğış": "tr",
    "їєґі": "uk", "ыэё": "ru", "ъщ": "bg", "å": "sv da", "ä": "de sv fi", "ö": "de sv fi tr", "ü": "de tr",
    "ç": "fr pt tr", "ò": "it", "ì": "it", "ê": "fr pt", "è": "fr it",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


LANGUAGES = tuple(sorted({*WORDS, *_SCRIPTS}))
"""The languages that can be told."""


def _known(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    expected = f"a list of {', '.join(LANGUAGES)}"
    if not isinstance(value, tuple) or not all(language in LANGUAGES for language in value):
        raise InvalidArgument.of(attribute.name, value, expected)


@attrs.frozen(kw_only=True)
class Options:
    """What ``language`` can be told."""

    expect: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=_known)
    """Let texts in these languages pass as they are and refuse others; empty: return the language."""
    limit: int = attrs.field(default=5000, validator=number(1, 2**26))
    """Characters at the beginning that are looked at."""


@attrs.frozen
class Language(OnTexts):
    """Tells the language of texts."""

    name = "language"
    options: Options

    def change(self, text: str) -> str:
        """Return the language's code (ISO 639-1), or the text if it is in an expected one.

        Raises `InvalidArgument` for a text in another one.
        """
        found = identify(text[: self.options.limit])
        if not self.options.expect:
            return found
        if found not in self.options.expect:
            expected = f"a text in {' or '.join(self.options.expect)}"
            message = f"input must be {expected}, not in {found!r}"
            raise InvalidArgument(message, field="input", value=found, expected=expected)
        return text


def identify(text: str) -> str:
    """Return the code of the language of *text*, or `UNDETERMINED`."""
    found: Counter[str] = Counter()
    for match in _SCRIPT.finditer(text):
        found[_names()[(match.lastindex or 1) - 1]] += 1
    alphabetic = len(_ALPHABETIC.findall(text))
    # A word of Chinese is two characters, one of Latin five.
    if found and 2 * found.total() > alphabetic:
        return _of_script(found)
    scores: defaultdict[str, float] = defaultdict(float)
    for word in _WORD.findall(text.lower().replace("’", "'")):
        for language, weight in _evidence().get(word, ()):
            scores[language] += weight
        for letter in word:
            for language, weight in _letters().get(letter, ()):
                scores[language] += weight
    ranked = sorted(scores.items(), key=lambda score: -score[1])
    if not ranked or (len(ranked) > 1 and ranked[0][1] <= ranked[1][1]):
        return UNDETERMINED
    return ranked[0][0]


def _of_script(found: Counter[str]) -> str:
    """Return the language of a text in other letters: some kana make Chinese characters Japanese, and so on."""
    for special, common in (("ja", "zh"), ("fa", "ar")):
        if 20 * found[special] > found[common]:
            found[common] = 0
    return found.most_common(1)[0][0]


@cache
def _names() -> tuple[str, ...]:
    return tuple(_SCRIPTS)


@cache
def _evidence() -> Mapping[str, tuple[tuple[str, float], ...]]:
    """Return for each word the languages that it speaks for, and how much."""
    users: dict[str, list[str]] = {}
    for language, words in WORDS.items():
        for word in words:
            users.setdefault(word, []).append(language)
    return {word: tuple((one, 1 / len(languages)) for one in languages) for word, languages in users.items()}


@cache
def _letters() -> Mapping[str, tuple[tuple[str, float], ...]]:
    weights: dict[str, tuple[tuple[str, float], ...]] = {}
    for letters, languages in _LETTERS.items():
        for letter in letters:
            users = languages.split()
            weights[letter] = tuple((one, 0.5 / len(users)) for one in users)
    return weights


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a processor that tells languages; *config* holds `Options`.  Raises `ConfigError`."""
    return Language(read_options(Options, config, "processor:language"))
