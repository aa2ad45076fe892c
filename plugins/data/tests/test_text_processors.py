"""`truncate`, `stop-words`, `json-repair`, `format`, `clean`, `chunk`: what they do, and that pieces give the whole."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from llmos_data import chunk, clean, language, normalize, repair, stop_words, tables, template, truncate
from llmos_data.words import WORDS
from llmos_kernel.contracts import API
from llmos_kernel.errors import ConfigError, InvalidArgument

MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
MODULES = (chunk, clean, language, normalize, repair, stop_words, tables, template, truncate)
TEXTS = st.lists(
    st.sampled_from(
        ["the", "The ", "cat", " ", "\n", "  ", "isn't", "e\u0301", "👨\u200d👩", ". ", "A", "ß", "\n\n", ",", "’"]
    ),
    max_size=25,
).map("".join)
CUTS = st.lists(st.integers(0, 60), max_size=15)


def whole(module: ModuleType, text: object, **options: Any) -> Any:
    """What a processor makes of a text."""
    return module.llmos_processor(options).process(text, {})


def in_pieces(module: ModuleType, text: str, cuts: list[int], **options: Any) -> str:
    """What its filter makes of the text in pieces."""
    stage = module.llmos_processor(options).filter({})
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(str(stage.feed(text[start:end])) for start, end in pairwise(ends)) + str(stage.end())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_contract(module: ModuleType) -> None:
    """Each is written for the kernel's version, names its wrong options, and refuses what it is not for."""
    assert API["processor"] == module.api
    with pytest.raises(ConfigError, match="has no option 'nonsense'"):
        module.llmos_processor({"nonsense": 1})
    with pytest.raises(InvalidArgument):
        module.llmos_processor({}).process(7, {})


@pytest.mark.parametrize(
    ("module", "options", "field", "words"),
    [
        (truncate, {"size": 0}, "size", "from 1"),
        (truncate, {"unit": "tokens"}, "unit", "characters, words"),
        (truncate, {"within": 1}, "within", "true or false"),
        (stop_words, {"language": "eng"}, "language", "nearest is 'en'"),
        (stop_words, {"words": "the"}, "words", "list of names"),
        (repair, {"indent": 99}, "indent", "to 16"),
        (tables, {"to": "xml"}, "to", "json, csv, markdown"),
        (clean, {"source": "pdf"}, "source", "html, markdown"),
        (chunk, {"size": 10, "overlap": 10}, "overlap", "less than size, 10"),
        (chunk, {"unit": "tokens"}, "tokenizer", "tokenizer.json"),
        (chunk, {"unit": "tokens", "tokenizer": "nowhere.json"}, "tokenizer", "tokenizer.json"),
        (language, {"expect": ["english"]}, "expect", "en"),
    ],
)
def test_wrong_option(module: ModuleType, options: dict[str, Any], field: str, words: str) -> None:
    """One error names the option and what would be right."""
    with pytest.raises(ConfigError) as caught:
        module.llmos_processor(options)

    assert field == caught.value.fields["field"]
    assert words in f"{caught.value.message} {caught.value.fields['expected']}"


# --- pieces ----------------------------------------------------------------------------------------------------


@MANY
@given(
    text=TEXTS, cuts=CUTS, size=st.integers(1, 30), unit=st.sampled_from(["characters", "words"]),
    within=st.booleans(), mark=st.sampled_from(["", "…", " [cut]"]),
)  # fmt: skip
def test_truncate_in_pieces(text: str, cuts: list[int], size: int, unit: str, within: bool, mark: str) -> None:
    """Wherever the text is cut into pieces, the result is that of the whole, and not larger than it may be."""
    options: dict[str, Any] = {"size": size, "unit": unit, "within": within, "mark": mark}
    found = whole(truncate, text, **options)

    assert found == in_pieces(truncate, text, cuts, **options) == in_pieces(truncate, text, [*range(60)], **options)
    kept = found.removesuffix(mark) if mark and found.endswith(mark) else found
    assert text.startswith(kept)
    assert size >= (len(kept) if unit == "characters" else len(kept.split()))
    if len(text) <= size or (unit == "words" and len(text.split()) <= size):
        assert text == found


@MANY
@given(text=TEXTS, cuts=CUTS)
def test_stop_words_in_pieces(text: str, cuts: list[int]) -> None:
    """The same for stop words, of which none is left, while all others are."""
    found = whole(stop_words, text, words=["cat"])

    assert found == in_pieces(stop_words, text, cuts, words=["cat"])
    assert found == in_pieces(stop_words, text, [*range(80)], words=["cat"])
    dropped = WORDS["en"] | {"cat"}
    words = [word for word in _words(text) if word.casefold().replace("’", "'") not in dropped]
    assert words == _words(found)


def _words(text: str) -> list[str]:
    """Return the words of a text, character by character."""
    return "".join(one if one.isalnum() or one in "'’_" else " " for one in text).split()


@MANY
@given(text=TEXTS, cuts=CUTS, module=st.sampled_from([clean]), source=st.sampled_from(["html", "markdown"]))
def test_who_waits_for_the_end(text: str, cuts: list[int], module: ModuleType, source: str) -> None:
    """What needs the whole text waits for it, and gives the same."""
    assert whole(module, text, source=source) == in_pieces(module, text, cuts, source=source)


# --- truncate and stop-words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 100}, "one two  three"),
        ({"size": 9}, "one two…"),
        ({"size": 9, "within": True}, "one two…"),
        ({"size": 11, "within": True}, "one two  th…"),
        ({"size": 2}, "on…"),
        ({"size": 2, "unit": "words", "mark": " ..."}, "one two ..."),
        ({"size": 3, "unit": "words"}, "one two  three"),
    ],
)
def test_truncate(options: dict[str, Any], expected: str) -> None:
    """It is cut between words, or within one if told or if nothing would be left."""
    assert expected == whole(truncate, "one two  three", **options)


def test_truncate_keeps_characters_whole() -> None:
    """A letter and its marks, and joined signs, are not torn apart."""
    assert "e…" == whole(truncate, "ee\u0301e", size=2)
    assert "a…" == whole(truncate, "a👨\u200d👩b", size=3)


def test_stop_words() -> None:
    """Words go with one of the spaces around them, whatever their case; some may stay, some may go besides."""
    text = "The cat and the dog: it isn’t what IT was."

    assert "cat dog: isn’t." == whole(stop_words, text)
    assert "The cat the dog: isn’t." == whole(stop_words, text, keep=["the"])
    assert "The and the dog: it isn’t what IT was." == whole(stop_words, text, language="", words=["Cat"])


def test_lists_and_messages() -> None:
    """Like all processors of texts it takes lists of texts and the content of messages."""
    assert ["cat", "dog"] == whole(stop_words, ["the cat", "a dog"])
    assert [{"role": "user", "content": "cat"}] == whole(stop_words, [{"role": "user", "content": "the cat"}])


# --- json-repair and format ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": [1, 2,],}\n```', {"a": [1, 2]}),
        ("Sure: {'a': 'b', c: True", {"a": "b", "c": True}),
        ('{"a": "unended', {"a": "unended"}),
        ('""', ""),
    ],
)
def test_repair(text: str, expected: object) -> None:
    """Fences, quotes, commas and missing ends are no obstacle."""
    assert expected == json.loads(whole(repair, text))


@pytest.mark.parametrize("text", ["", "no json here at all", '{"a": 1e999}'])
def test_repair_finds_nothing(text: str) -> None:
    """Where there is nothing to repair, that is an error and no empty text."""
    with pytest.raises(InvalidArgument, match="json-repair: input cannot be read as JSON"):
        whole(repair, text)


@pytest.mark.parametrize("text", ["[" * 2000, '{"a":' * 2000, "{" * 2000])
def test_repair_of_nonsense(text: str) -> None:
    """What is nested without end is one error."""
    with pytest.raises(InvalidArgument, match=r"nest(ed|ing)"):
        whole(repair, text)


RECORDS = [{"n": 1, "t": "a|b"}, {"t": "c\nd", "x": [1]}]


def test_formats() -> None:
    """The same records as JSON, CSV and a table, from values and from JSON; columns can be chosen."""
    assert RECORDS == json.loads(whole(tables, RECORDS, to="json"))
    assert "| n | t | x |\n| --- | --- | --- |\n| 1 | a\\|b |  |\n|  | c<br>d | [1] |" == whole(tables, RECORDS)
    assert [["t", "n"], ["a|b", "1"], ["c\nd", ""]] == list(
        csv.reader(io.StringIO(whole(tables, json.dumps(RECORDS), to="csv", columns=["t", "n"])))
    )


@pytest.mark.parametrize("value", ["text", "[1]", ["a"], "{", float("nan")])
def test_format_of_no_records(value: object) -> None:
    """What is no record is refused, and it is said what one is."""
    with pytest.raises(InvalidArgument, match="records: a list of mappings"):
        whole(tables, value)


# --- clean -----------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html><head><title>T</title><style>p {}</style></head><body>
<nav><a href="/">Home</a> <a href="/b">News</a></nav>
<div class="menu"><ul><li><a href="1">One</a></li><li><a href="2">Two</a></li></ul></div>
<h1>Title</h1><p>First   <b>bold</b>&amp;<i>more</i><br>second line.</p>
<ul><li>one</li><li>two <a href="x">link</a></li></ul><script>alert("x")</script>
<pre>  kept
    as it is</pre><table><tr><td>1</td><td>2</td></tr></table><!-- no --><p>unclosed <p>end
<footer>Imprint</footer></body></html>"""
TEXT = "Title\n\nFirst bold&more\nsecond line.\n\n- one\n- two link\n\n  kept\n    as it is\n\n1 2\n\nunclosed\n\nend"


def test_html() -> None:
    """What a reader sees, in paragraphs and lines; nothing that is only for programs."""
    assert f"Home News\n\n- One\n- Two\n\n{TEXT}\n\nImprint" == whole(clean, PAGE)


def test_boilerplate() -> None:
    """Navigation, footers and blocks of links go, if told; a link within text stays."""
    assert TEXT == whole(clean, PAGE, boilerplate=True)


def test_markdown() -> None:
    """The text without its marks; code, lists and tables keep their lines."""
    source = "# Title\n\nSome *strong*, `code` and [a link](http://x).\nSame ![image](i.png) paragraph.\n\n"
    source += "1. one\n2. two\n   - inner\n\n```py\nx  = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<div>gone</div>\n"
    expected = "Title\n\nSome strong, code and a link. Same image paragraph.\n\n1. one\n2. two\n- inner\n\nx  = 1\n\n"

    assert expected + "a b\n1 2" == whole(clean, source, source="markdown")


def test_deep_html() -> None:
    """Depth is no obstacle."""
    assert "x" == whole(clean, "<div>" * 20_000 + "x")


@MANY
@given(text=st.text(st.sampled_from('<>/abp&;!-"= \n'), max_size=60))
def test_any_html(text: str) -> None:
    """Whatever is given, a text comes out, evenly spaced."""
    found = whole(clean, text)

    assert found == found.strip(" ")
    assert "\n\n\n" not in found


# --- chunk -----------------------------------------------------------------------------------------------------

SENTENCES = "Dr. Smith came at 3 p.m. yesterday. He left! Did he? Yes.\n\nA new paragraph begins here."


@MANY
@given(
    text=TEXTS, size=st.integers(1, 12), unit=st.sampled_from(["characters", "words"]),
    by=st.sampled_from(["structure", "sentence", "word"]), overlap=st.integers(0, 11),
)  # fmt: skip
def test_chunks(text: str, size: int, unit: str, by: str, overlap: int) -> None:
    """None is too large or repeats more than it may, nothing is left out; without overlap they are the text."""
    if overlap >= size:
        overlap = size - 1
    made = chunk.llmos_processor({"size": size, "unit": unit, "by": by, "overlap": overlap})
    assert isinstance(made, chunk.Chunk)
    count = len if unit == "characters" else lambda part: len(part.split())

    assert text == "".join(whole(chunk, text, size=size, unit=unit, by=by, strip=False))
    place = 0
    for start, end in made.spans(text):
        assert 0 <= start <= place < end
        assert size >= count(text[start:end])
        assert overlap >= count(text[start:place])
        place = end
    assert len(text) == place


def test_chunk_by_sentence() -> None:
    """Sentences stay whole where they fit; abbreviations end none."""
    expected = ["Dr. Smith came at 3 p.m. yesterday.", "He left! Did he? Yes.", "A new paragraph begins here."]

    assert expected == whole(chunk, SENTENCES, size=36, by="sentence")
    assert ["他来了。", "她走了！", "真的？"] == whole(chunk, "他来了。她走了！真的？", size=4, by="sentence")


def test_chunk_by_structure() -> None:
    """Headings and paragraphs are the first places where it is cut."""
    text = "# One\n\nFirst part.\n\n# Two\n\nSecond part. More of it."

    assert ["# One\n\nFirst part.", "# Two\n\nSecond part. More of it."] == whole(chunk, text, size=40)


def test_overlap() -> None:
    """The last pieces of a passage begin the next one."""
    assert ["a b c", "c d e"] == whole(chunk, "a b c d e", size=3, unit="words", by="word", overlap=1)


def test_chunk_by_tokens(tmp_path: Path) -> None:
    """Tokens are those of the tokenizer that is named."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = whole(
        chunk, "One, two. Three four.", size=4, unit="tokens", by="sentence", tokenizer=str(tmp_path / "tokenizer.json")
    )

    assert ["One, two.", "Three four."] == found


def test_chunk_after_a_model() -> None:
    """A list is no text, and that is said before the task runs."""
    with pytest.raises(InvalidArgument, match="cannot follow a model"):
        chunk.llmos_processor({}).filter({})


def test_chunk_is_quick() -> None:
    """A megabyte without a border takes time in proportion."""
    assert 1000 == len(whole(chunk, "a" * 1_000_000, size=1000))
