"""`normalize`: what it evens out, and that pieces give the same as the whole."""

from __future__ import annotations

import sys
import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_data import normalize
from llmos_data.stages import opens
from llmos_kernel.contracts import API
from llmos_kernel.services import Processor
from llmos_kernel.errors import ConfigError, InvalidArgument

FORMS = ("NFC", "NFD", "NFKC", "NFKD", "")
NOTHING = {"form": "", "newlines": False, "controls": False, "spaces": False}
MARKS = (
    "a e é e\u0301 \u0301 \u0323 \u0345 ﬁ ½ ² \u1100 \u1161 \u11a8 각 가 \u09c7 \u09be \u0915\u093c \u212b \u0344 "
    "\u0f73 か \u3099 \u309b \U00011099 \U000110ba \U00016d67 \U00016d63 \ufb1d \u05b4 \u1e9b\u0323 😀 "
    "\u200d \ufe0f \u00a8 \u037e"
)
SPACES = " \t\n\r\x0b\x0c\x85\u2028\u2029\xa0\u2003\u3000\x00\x1b\x7f\x9f\ufeff\ud800\udc00"
TRICKY = [*MARKS.split(" "), *SPACES, "\r\n", "  "]
"""What breaks normalisers that work in pieces: marks, Hangul, pairs that compose backwards, line ends, white space."""
TEXTS = st.lists(st.one_of(st.sampled_from(TRICKY), st.characters(codec=None)), max_size=20).map("".join)
OPTIONS = st.fixed_dictionaries(
    {"form": st.sampled_from(FORMS), "newlines": st.booleans(), "controls": st.booleans(), "spaces": st.booleans()}
)
MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def make(**options: Any) -> Processor:
    """A processor as the kernel gets it."""
    return normalize.llmos_processor(options)


def whole(text: str, **options: Any) -> Any:
    """The text as a whole."""
    return make(**options).process(text, {})


def pieces(text: str, cuts: list[int], **options: Any) -> str:
    """The same text cut at *cuts*, through the filter of a post-processor."""
    stage = make(**options).filter({})
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(stage.feed(text[start:end]) for start, end in pairwise(ends)) + stage.end()


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("", ""),
        ("Grüße", "Grüße"),
        ("Gru\u0308ße", "Grüße"),
        ("one  two\t three\xa0four", "one two three four"),
        ("  trimmed \n\n", "trimmed"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("ends here   \n  indented  twice", "ends here\n  indented twice"),
        ("one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("no\x00 bell\x07, no \ufeffmark, no \ud800half", "no bell, no mark, no half"),
        ("family: 👨\u200d👩\u200d👧", "family: 👨\u200d👩\u200d👧"),
        (" \t\n ", ""),
    ],
)
def test_defaults(given_text: str, expected: str) -> None:
    """By default text is composed, on Unix lines, without control characters, and evenly spaced."""
    assert whole(given_text) == expected


def test_nothing_is_changed_when_told_so() -> None:
    """With everything switched off the text is what it was."""
    text = " e\u0301\r\n\x00  \ud800"

    assert whole(text, **NOTHING) == text


def test_compatibility_form() -> None:
    """NFKC replaces ligatures and widths as well."""
    assert whole("ﬁve ＡＢＣ", form="NFKC") == "five ABC"


def test_messages() -> None:
    """In a chat the content is evened out, be it text or parts; roles, images and other fields stay."""
    image = {"type": "image", "url": "x  y"}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": " be  kind "},
        {"role": "user", "content": [{"type": "text", "text": "hi \r\n there"}, image]},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]

    assert make().process(messages, {}) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hi\n there"}, image]},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert messages[0]["content"] == " be  kind "


def test_list_of_texts() -> None:
    """Each of several texts is evened out by itself."""
    assert make().process((" a ", "b\r"), {}) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "field"), [(7, "input"), (None, "input"), ({"template": "x"}, "input"), (["a", 7], "input[1]")]
)
def test_what_holds_no_text(value: object, field: str) -> None:
    """Anything else is refused, and the error says which part of the input."""
    with pytest.raises(InvalidArgument, match="must be a text") as caught:
        make().process(value, {})

    assert caught.value.fields["field"] == field


@MANY
@given(text=TEXTS, cuts=st.lists(st.integers(0, 40), max_size=12), options=OPTIONS)
def test_pieces_give_the_same_as_the_whole(text: str, cuts: list[int], options: dict[str, Any]) -> None:
    """Wherever the text is cut, the filter's output adds up to the whole text's."""
    assert pieces(text, cuts, **options) == whole(text, **options)


@MANY
@given(text=TEXTS, options=OPTIONS)
def test_single_characters_give_the_same_as_the_whole(text: str, options: dict[str, Any]) -> None:
    """Token by token is the finest cut there is."""
    assert pieces(text, list(range(len(text))), **options) == whole(text, **options)


@MANY
@given(text=TEXTS, options=OPTIONS)
def test_twice_is_once(text: str, options: dict[str, Any]) -> None:
    """What is even stays as it is."""
    once = whole(text, **options)

    assert whole(once, **options) == once


@MANY
@given(text=TEXTS, form=st.sampled_from(FORMS[:4]))
def test_form_alone_is_unicode_s(text: str, form: str) -> None:
    """With only the form switched on, the result is that of the Unicode database."""
    assert whole(text, **{**NOTHING, "form": form}) == unicodedata.normalize(form, text)  # type: ignore[arg-type]


def test_every_character_that_composes_is_held_back() -> None:
    """No character of any plane that composes with one before it is taken for the opening of a sequence."""
    pairs = [unicodedata.decomposition(chr(code)).split() for code in range(sys.maxunicode + 1)]
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and pair[0][0] != "<"}
    marks = {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.combining(chr(code))}

    assert [mark for mark in seconds | marks if opens(mark)] == []
    assert not opens("\u1161")
    assert not opens("\u11a8")
    assert opens("각")


def test_long_white_space_is_quick() -> None:
    """A long run of spaces takes time in proportion to its length: no backtracking."""
    text = "a" + " " * 200_000 + "b"

    assert whole(text) == "a b"
    assert pieces(text, list(range(0, 200_000, 1000))) == "a b"


def test_what_is_settled_comes_at_once() -> None:
    """The reader is never more than a character and the white space before it behind."""
    stage = make().filter({})

    assert [stage.feed(piece) for piece in ("Hel", "lo ", "wor", "ld")] == ["He", "llo", " wo", "rl"]
    assert stage.end() == "d"


def test_module_states_the_contract() -> None:
    """The module is written for the kernel's version of the processor contract."""
    assert normalize.api == API["processor"]


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"from": "NFC"}, "from", "'form'"),
        ({"form": "NFX"}, "form", "NFC, NFD"),
        ({"form": None}, "form", "NFC, NFD"),
        ({"spaces": 1}, "spaces", "true or false"),
    ],
)
def test_wrong_option(options: dict[str, Any], field: str, words: str) -> None:
    """A wrong option is an error that names it, the plugin, and what would be right."""
    with pytest.raises(ConfigError, match=words) as caught:
        normalize.llmos_processor(options)

    assert caught.value.fields["field"] == field
    assert caught.value.fields["source"] == "processor:normalize"
