"""Text on a terminal: no line is wider than it, whatever the pieces, and no word is cut that fits a line."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.cli._wrapping import Wrapped, shown, width

TEXTS = st.text(st.sampled_from("ab.,( \n\t\u4e00\u3002\uff08\uff09e\u0301\u200d\U0001f98a"), max_size=120)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("fox", 3),
        ("\u4e00\u4e8c", 4),
        ("e\u0301", 1),
        ("\U0001f98a", 2),
        ("\uff21\u200d", 2),
        ("\x1b[32mgreen\x1b[0m", 5),
        ("\u00e9\u2026", 2),
    ],
)
def test_width(text: str, columns: int) -> None:
    """Wide characters take two columns, those that join others none, and codes of colours none."""
    assert columns == width(text)


def columns_of(line: str) -> int:
    """Return where the cursor is after *line*, as a terminal with tabs at each eighth column moves it."""
    column = 0
    for char in line:
        column = column // 8 * 8 + 8 if char == "\t" else column + width(char)
    return column


@given(TEXTS, st.integers(4, 30), st.data())
def test_pieces_make_no_difference(text: str, columns: int, data: st.DataObject) -> None:
    """However a text is cut into pieces, what is written is what the whole text would be."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=9)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    wrapped = Wrapped(columns)

    assert Wrapped(columns).all(text) == "".join(map(wrapped.add, pieces)) + wrapped.end()


@given(TEXTS, st.integers(4, 30))
def test_lines_fit_and_nothing_is_lost(text: str, columns: int) -> None:
    """All but spaces is written in its order; only a word that no line can hold is wider than the terminal."""
    found = Wrapped(columns).all(text)

    assert "".join(text.split()) == "".join(found.split())
    for line in found.split("\n"):
        assert columns_of(line) <= columns or any(width(word) > columns for word in line.split())


@given(st.lists(st.text("abc", min_size=1, max_size=8), min_size=1), st.integers(8, 40))
def test_words_stay_whole(words: list[str], columns: int) -> None:
    """Words of a script with spaces stand as they were, each line as full as it can be."""
    found = Wrapped(columns).all(" ".join(words))
    lines = [line.split(" ") for line in found.split("\n")]

    assert words == found.split()
    assert all(len(" ".join(line)) + 1 + len(after[0]) > columns for line, after in pairwise(lines))


def test_scripts_without_spaces_break_between_characters() -> None:
    """A line ends between two ideographs, but not before a full stop or after an opening bracket."""
    assert "\u4e00\u4e8c\n\u4e09\u3002" == Wrapped(5).all("\u4e00\u4e8c\u4e09\u3002")
    assert "\u4e00\n\uff08\u4e8c\uff09" == Wrapped(6).all("\u4e00\uff08\u4e8c\uff09")


def test_a_word_longer_than_a_line_is_left_to_the_terminal() -> None:
    """It begins in a line of its own and gets no line's end inside, so that it can be copied."""
    assert "see\nhttps://example.org/long now" == Wrapped(10).all("see https://example.org/long now").replace(
        "\nnow", " now"
    )


def test_indented_lines_stay_indented() -> None:
    """Spaces at the beginning of a line are the text's; those at a line's end are not written."""
    assert "a:\n    b" == Wrapped(9).all("a:  \n    b  ")


def test_what_steers_terminals_is_shown_instead() -> None:
    """No answer of a model can move the cursor, clear the screen or name the window."""
    assert "\u241b[2J \u2421\ufffd\n\ttext" == shown("\x1b[2J \x7f\x9b\r\n\ttext")
