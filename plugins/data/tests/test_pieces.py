"""Every processor that makes text gives in pieces what it gives for the whole, wherever the text is cut."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_data import chunk, clean, language, normalize, repair, stop_words, tables, template, truncate
from llmos_kernel.errors import InvalidArgument

MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
TEXTS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "normalize": (normalize, {"form": "NFKC"}),
    "truncate": (truncate, {"size": 12}),
    "stop-words": (stop_words, {}),
    "clean": (clean, {}),
    "clean Markdown": (clean, {"source": "markdown"}),
    "language": (language, {}),
    "template": (template, {"templates": {"ask": "Q: {{ input }}"}, "default": "ask"}),
    "json-repair": (repair, {}),
    "format": (tables, {}),
}
"""Processors that can follow a model, and options."""
PARTS = [
    "e", "\u0301", "\u0323", "\u1100", "\u1161", "\r", "\n", " ", "<b", ">", "</b>", "&am", "p;", "&#x", "41;",
    "\ud83d", "\ude00", "```", "json", "{", '"a": ', "1", "}", "[", "]", "the ", "and", ".", "Dr. ", "| a |", "—", "# ",
    "\u200d", "👩", "🏽",
]  # fmt: skip
"""What can be torn apart: marks, Hangul, line ends, tags, entities, surrogate pairs, fences, JSON, sentences."""
LEAST = ['{"a": 1}', '[{"a": 1}]', ""]


def result(module: ModuleType, options: dict[str, Any], pieces: list[str]) -> str:
    """Return what the filter makes of *pieces*, or the class of the error that it raises."""
    try:
        stage = module.llmos_processor(options).filter({})
        return "".join([*(stage.feed(piece) for piece in pieces), stage.end()])
    except InvalidArgument:
        return "InvalidArgument"


def at_once(module: ModuleType, options: dict[str, Any], text: str) -> str:
    """Return what the processor makes of the whole, or the class of the error that it raises."""
    try:
        return str(module.llmos_processor(options).process(text, {}))
    except InvalidArgument:
        return "InvalidArgument"


@pytest.mark.parametrize("name", TEXTS)
@MANY
@given(
    text=st.one_of(st.lists(st.sampled_from(PARTS), max_size=20).map("".join), st.sampled_from(LEAST)),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_pieces_give_the_whole(name: str, text: str, cuts: list[int]) -> None:
    """The text in any pieces, and in single characters, becomes what the whole becomes."""
    module, options = TEXTS[name]
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]

    expected = at_once(module, options, text)
    assert expected == result(module, options, pieces)
    assert expected == result(module, options, list(text))


def test_chunk_does_not_follow_a_model() -> None:
    """What makes a list says so, instead of giving pieces of something else."""
    with pytest.raises(InvalidArgument, match="chunk makes a list"):
        chunk.llmos_processor({}).filter({})
