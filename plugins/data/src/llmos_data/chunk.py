"""The processor ``chunk``: a list of passages of bounded size, cut where the text allows it.

A text is cut at the coarsest border that makes the pieces small enough, a piece that is still too large at the next
finer one; then neighbours are put together again as long as they fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from llmos import read_options
from llmos_data import borders
from llmos_data.texts import OnTexts, choice
from llmos_kernel.api import number, of_type, string
from llmos_kernel.errors import ConfigError, InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor, TextFilter

api = 1
"""The version of the processor contract that this module is written for."""
PLUGIN = "processor:chunk"
_FINE = (borders.sentences, borders.words)
_BORDERS: Mapping[str, Sequence[Callable[[str], Iterator[int]]]] = {
    "structure": (borders.headings, borders.paragraphs, borders.lines, *_FINE),
    "sentence": _FINE,
    "word": (borders.words,),
}


class _Tokenizer(Protocol):
    def encode(self, sequence: str, *, add_special_tokens: bool) -> Any: ...  # noqa: ANN401 - the library's own


@attrs.frozen(kw_only=True)
class Options:
    """What ``chunk`` can be told."""

    size: int = attrs.field(default=1000, validator=number(1, 2**30))
    """Most units of a passage."""
    unit: Literal["characters", "words", "tokens"] = attrs.field(
        default="characters", validator=choice("characters", "words", "tokens")
    )
    """What is counted."""
    by: Literal["structure", "sentence", "word"] = attrs.field(
        default="structure", validator=choice("structure", "sentence", "word")
    )
    """The coarsest place where it is cut: headings and paragraphs, sentences, or words."""
    overlap: int = attrs.field(default=0, validator=number(0, 2**30))
    """Most units at the end of a passage that begin the next one as well, in whole pieces."""
    strip: bool = attrs.field(default=True, validator=of_type(bool, "true or false"))
    """Leave out white space at both ends of a passage; else the passages together are the text."""
    tokenizer: str = attrs.field(default="", validator=string)
    """Path of a tokenizer.json, to count tokens."""

    def __attrs_post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.overlap >= self.size:
            raise InvalidArgument.of("overlap", self.overlap, f"less than size, {self.size}")
        if (self.unit == "tokens") != bool(self.tokenizer):
            expected = "the path of a tokenizer.json where unit is tokens, and nothing elsewhere"
            raise InvalidArgument.of("tokenizer", self.tokenizer, expected)


@attrs.frozen
class Chunk(OnTexts):
    """Cuts texts into passages."""

    name = "chunk"
    options: Options
    tokenizer: _Tokenizer | None = None

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Raise `InvalidArgument`: a list of passages is no text."""
        message = "chunk makes a list, so it cannot follow a model"
        raise InvalidArgument(message, field="post", value="chunk", expected="processors that make text")

    def change(self, text: str) -> list[str]:
        """Return the passages."""
        found = [text[start:end] for start, end in self.spans(text)]
        return [passage.strip() for passage in found if passage.strip()] if self.options.strip else found

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return start and end of each passage in *text*, before white space is left out."""
        cuts = self._cuts(text)
        return list(self._passages(_Measure(cuts), self._pieces(text, cuts)))

    def _cuts(self, text: str) -> Sequence[int]:
        """Return where units begin."""
        if self.options.unit == "characters":
            return range(len(text))
        if self.tokenizer is None:
            return [*borders.words(text)]
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return [start for start, _ in offsets]

    def _pieces(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return where pieces end, each of which is small enough."""
        measure, size = _Measure(cuts), self.options.size
        spans = [(0, len(text))]
        for level in _BORDERS[self.options.by]:
            if all(measure(*span) <= size for span in spans):
                break
            places = [*level(text)]
            spans = [part for span in spans for part in (_split(span, places) if measure(*span) > size else (span,))]
        spans = [part for span in spans for part in (self._by_units(span, cuts) if measure(*span) > size else (span,))]
        return [end for _, end in spans if end]

    def _by_units(self, span: tuple[int, int], cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield pieces of what has no border: as large as may be, but small enough that some can be repeated."""
        size, overlap = self.options.size, self.options.overlap
        step = min(overlap, size - overlap) or size
        units = cuts[bisect_left(cuts, span[0]) : bisect_left(cuts, span[1])]
        return _split(span, units[step::step])

    def _passages(self, measure: _Measure, ends: list[int]) -> Iterator[tuple[int, int]]:
        """Yield start and end of each passage: as many pieces as fit, the last ones again if they may overlap."""
        first, starts = 0, [0, *ends[:-1]]
        while first < len(ends):
            last = first
            while last + 1 < len(ends) and measure(starts[first], ends[last + 1]) <= self.options.size:
                last += 1
            yield starts[first], ends[last]
            if last + 1 == len(ends):
                return
            again = last + 1
            while again - 1 > first and self._may_repeat(measure, starts[again - 1], ends[last], ends[last + 1]):
                again -= 1
            first = again

    def _may_repeat(self, measure: _Measure, start: int, end: int, following: int) -> bool:
        return measure(start, end) <= self.options.overlap and measure(start, following) <= self.options.size


@attrs.frozen
class _Measure:
    """Counts the units that begin in a part of the text."""

    cuts: Sequence[int]

    def __call__(self, start: int, end: int) -> int:
        return bisect_left(self.cuts, end) - bisect_left(self.cuts, start)


def _split(span: tuple[int, int], places: Sequence[int]) -> Iterator[tuple[int, int]]:
    start, end = span
    for place in places[bisect_left(places, start + 1) : bisect_left(places, end)]:
        yield start, place
        start = place
    yield start, end


def _tokenizer(path: str) -> _Tokenizer:
    """Return the tokenizer at *path*.  Raises `ConfigError`."""
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, for whoever counts tokens

        found: _Tokenizer = Tokenizer.from_file(path)
    except ImportError as error:
        expected = "pip install 'llmos-data[tokens]'"
        message = f"{PLUGIN}: unit tokens needs the package tokenizers: {expected}"
        raise ConfigError(message, field="unit", value="tokens", expected=expected, source=PLUGIN) from error
    except Exception as error:
        message = f"{PLUGIN}: tokenizer {path} cannot be read: {error}"
        raise ConfigError(message, field="tokenizer", value=path, expected="a tokenizer.json", source=PLUGIN) from error
    return found


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a cutting processor; *config* holds `Options`.  Raises `ConfigError`."""
    options = read_options(Options, config, PLUGIN)
    return Chunk(options, _tokenizer(options.tokenizer) if options.tokenizer else None)
