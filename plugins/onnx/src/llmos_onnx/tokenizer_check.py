"""``tokenizer.json`` of strangers: what the tokenizers library must not be given, and its failures as typed errors.

The library reads a file that is malformed without harm, and answers most surprises with an exception or a panic, which
`contained` turns into a typed error.  Three things it does not survive, or does not end: a text that grows by every
component that it passes until no memory is left, which ends the process; a table of characters whose header lies, the
same; and a regular expression with more ways to match than time.  So each component that can make a text longer is
bounded here before it sees a text, tables are read before the library reads them, and expressions are of a kind that
cannot explode.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final, ParamSpec, TypeVar

from tokenizers import Tokenizer

from llmos_onnx.fields import Fields, read_json, refusal
from llmos_onnx.manifest import MAX_FILE_BYTES, TOKENIZER

MAX_ADDED: Final = 1 << 17
"""Most added tokens; the models with most have some thousands."""
MAX_ADDED_LENGTH: Final = 4096
"""Longest added token in characters."""
MAX_COMPONENTS: Final = 512
"""Most objects that normalizer, pre-tokenizer, post-processor or decoder are made of."""
MAX_TEXT: Final = 16
"""Longest text that a component may put in the place of another, or in front."""
MAX_GROWTH: Final = 64
"""How many times as long all replacements of normalizer or decoder together may make a text."""
MAX_PATTERN: Final = 4096
"""Longest regular expression in characters."""
MAX_EXPANSION: Final = 256
"""Most bytes that a table of characters may give for one: Unicode's longest compatibility form has 33."""
_MAX_REPEAT: Final = 16
_MOST_ELEMENTS: Final = 3_000_000
_MOST_STATE: Final = 8 << 20
_LONGEST_WORD: Final = 10_000
_TABLE: Final = b"precompiled_charsmap"
_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
"""What a letter of that name could be written as; libraries write letters as they are."""
_PIECES: Final = 64
_GROWING: Final = ("normalizer", "decoder")
_PIPELINE: Final = (*_GROWING, "pre_tokenizer", "post_processor")
_STRANGE: Final = re.compile(r"\((?:\*|\?(?:[#(~{&]|[A-Za-z-]*x))|\\[cCMgk1-9]")
"""Comments, conditions, callouts, control characters and references: what could hide something, or come back."""
_QUANTIFIER: Final = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_EXPECTED: Final = "a tokenizer that the tokenizers library reads"

P = ParamSpec("P")
T = TypeVar("T")


def contained(model: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what *call*, a function of the tokenizers library, gives.

    Raises `ModelUnavailable` where it fails, also where it panics: such an exception is none of Python's `Exception`.
    """
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
            raise
        raise refusal(model, TOKENIZER, str(error)[:200], _EXPECTED) from error


def build_tokenizer(content: bytes, *, model: str) -> Tokenizer:
    """Return the tokenizer of *content*, a ``tokenizer.json``, without padding and truncation.

    Raises `ModelUnavailable` where the library does not read it, or should not use it.
    """
    if _TABLE in content or _ESCAPE.search(content):
        # A table is allocated while it is read, so this comes first.  Few tokenizers have one, and others need not be
        # read twice.
        limit = MAX_FILE_BYTES[TOKENIZER]
        whole = read_json(content, model=model, where=TOKENIZER, limit=limit, elements=_MOST_ELEMENTS)
        for component in _components(whole, "normalizer"):
            _check_table(component)
    tokenizer: Tokenizer = contained(model, Tokenizer.from_buffer, content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _check_added(tokenizer, model)
    for part in _PIPELINE:
        component = getattr(tokenizer, part)
        if component is not None:
            # As the library itself understood it.
            _check_part(read_json(component.__getstate__(), model=model, where=TOKENIZER, limit=_MOST_STATE), part)
    longest = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if longest > _LONGEST_WORD:
        raise refusal(model, f"{TOKENIZER}: max_input_chars_per_word", longest, f"at most {_LONGEST_WORD}")
    return tokenizer


def check_ids(tokenizer: Tokenizer, vocab: int, *, model: str) -> Mapping[str, int]:
    """Return the vocabulary of *tokenizer*; raise `ModelUnavailable` where it knows or writes an id beyond *vocab*."""
    known: dict[str, int] = contained(model, tokenizer.get_vocab, with_added_tokens=True)
    written = [contained(model, tokenizer.encode, "a", pair).ids for pair in (None, "a")]
    last = max(chain(known.values(), *written), default=-1)
    if last >= vocab:
        raise refusal(model, f"{TOKENIZER}: token id", last, f"ids below {vocab}, the vocabulary of the model")
    return known


def _check_added(tokenizer: Tokenizer, model: str) -> None:
    added = tokenizer.get_added_tokens_decoder().values()
    if len(added) > MAX_ADDED:
        raise refusal(model, f"{TOKENIZER}: added_tokens", len(added), f"at most {MAX_ADDED}")
    longest = max((len(token.content) for token in added), default=0)
    if longest > MAX_ADDED_LENGTH:
        expected = f"at most {MAX_ADDED_LENGTH} characters"
        raise refusal(model, f"{TOKENIZER}: added_tokens: longest", longest, expected)


def _check_part(state: Fields, part: str) -> None:
    """Refuse what may make a text, or the time that it takes, grow without bound; *state* is what *part* is."""
    components = list(_components(Fields(state.model, TOKENIZER, {part: state.values}), part))
    if len(components) > MAX_COMPONENTS:
        raise refusal(state.model, f"{TOKENIZER}: {part}", len(components), f"at most {MAX_COMPONENTS} components")
    for component in components:
        _check_component(component)
        _check_template(component)
    if part in _GROWING:
        _check_growth(state, part, components)


def _components(fields: Fields, part: str) -> Iterator[Fields]:
    """Yield every object that *part* is made of, each with the way to it."""
    todo: list[tuple[str, object]] = [(part, fields.values.get(part))]
    found = 0
    while todo:
        way, value = todo.pop()
        found += 1
        if found > MAX_COMPONENTS * _PIECES:
            raise refusal(fields.model, f"{TOKENIZER}: {part}", f"more than {found - 1} parts", "fewer")
        if isinstance(value, dict):
            yield Fields(fields.model, f"{TOKENIZER}: {way}", value)
            todo += [(f"{way}: {key}"[:200], inner) for key, inner in value.items()]
        elif isinstance(value, list):
            todo += [(f"{way}: {number}", inner) for number, inner in enumerate(value)]


def _check_component(component: Fields) -> None:
    for name in ("content", "prepend"):
        if component.has(name):
            component.text(name, MAX_TEXT)
    pattern = component.values.get("pattern")
    if isinstance(pattern, dict) and "Regex" in pattern:
        inner = component.inner("pattern")
        wrong = _explosive(inner.text("Regex", MAX_PATTERN))
        if wrong:
            raise inner.refuse("Regex", f"a regular expression without {wrong}")


def _check_growth(fields: Fields, part: str, components: list[Fields]) -> None:
    """Refuse replacements that together make a text much longer."""
    growth = 1.0
    for component in components:
        content, pattern = component.values.get("content"), component.values.get("pattern")
        if not isinstance(content, str) or not isinstance(pattern, dict):
            continue
        literal = pattern.get("String")
        # An expression may match nothing, between any two characters.
        times = len(content) / len(literal) if isinstance(literal, str) and literal else len(content) + 1
        growth *= max(1.0, times)
    if growth > MAX_GROWTH:
        expected = f"replacements that make a text at most {MAX_GROWTH} times as long"
        raise refusal(fields.model, f"{TOKENIZER}: {part}", f"{growth:g} times", expected)


def _check_table(component: Fields) -> None:
    """Read a table of characters as the library does: a size, as many bytes of index, and texts that end with NUL."""
    name = "precompiled_charsmap"
    if not component.has(name):
        return
    text = component.text(name, 4 << 20)
    try:
        table = base64.b64decode(text, validate=True)
        (size,) = struct.unpack_from("<I", table)
        texts = table[4 + size :]
        texts.decode("utf-8")
    except (ValueError, struct.error) as error:
        raise component.refuse(name, "a table of characters in base64") from error
    if size % 4 or not 4 <= size <= len(table) - 4:
        raise refusal(component.model, f"{component.where}: {name}: size", size, "a size within the table")
    longest = max(map(len, texts.split(b"\0")))
    if longest > MAX_EXPANSION:
        raise refusal(component.model, f"{component.where}: {name}", longest, f"at most {MAX_EXPANSION} bytes for one")


def _check_template(component: Fields) -> None:
    """Refuse a template of special tokens that repeats a text."""
    for name in ("single", "pair"):
        pieces = component.values.get(name)
        if not isinstance(pieces, list):
            continue
        if len(pieces) > _PIECES:
            raise refusal(component.model, f"{component.where}: {name}", len(pieces), f"at most {_PIECES} pieces")
        texts = sum(1 for piece in pieces if isinstance(piece, dict) and "Sequence" in piece)
        if texts > 2:
            raise refusal(component.model, f"{component.where}: {name}", texts, "each text at most once")
    ids = component.values.get("ids")
    if isinstance(ids, list) and len(ids) > _PIECES:
        raise refusal(component.model, f"{component.where}: ids", len(ids), f"at most {_PIECES}")


def _explosive(pattern: str) -> str:
    """Return what in *pattern* may take time that grows exponentially, empty where nothing does.

    A group that is repeated without bound must match in one way only: no repetition and no alternative within.
    """
    if found := _STRANGE.search(pattern):
        return found[0]
    groups = [False]  # whether the group that is open, and those around it, match in several ways
    several, last = False, ""  # the same of the group that was closed last
    for kind in _atoms(pattern):
        if kind == "(":
            groups.append(False)
        elif kind == ")" and len(groups) > 1:
            several = groups.pop()
            groups[-1] |= several
        elif kind in ("some", "many", "|"):
            if last in ("some", "many") and kind != "|":
                return "repetitions of repetitions"
            if (last, kind, several) == (")", "many", True):
                return "repeated groups that repeat or choose within"
            groups[-1] = True
        last = kind
    return ""


def _atoms(pattern: str) -> Iterator[str]:
    """Yield what *pattern* consists of: ``(``, ``)``, ``|``, ``some`` or ``many`` times; others as ``one``."""
    at = 0
    while at < len(pattern):
        character, begin = pattern[at], at
        if found := _QUANTIFIER.match(pattern, at):
            # A mark behind it says: as few as possible, or never given back.  Behind braces, a plus repeats them.
            marks = {"?"} if found[0].endswith("}") else {"?", "+"}
            at = found.end() + (pattern[found.end() : found.end() + 1] in marks)
            yield "many" if _unbounded(found) else "some"
        elif character == "[":
            at = _after_class(pattern, at)
            yield "one"
        else:
            at += 2 if character == "\\" or pattern.startswith("(?", at) else 1
            yield pattern[begin] if character in "()|" else "one"


def _unbounded(quantifier: re.Match[str]) -> bool:
    if quantifier[0] in "*+":
        return True
    if quantifier[0] == "?":
        return False
    low, comma, high = quantifier.groups()
    last = high if comma else low
    return not last or len(last) > 3 or int(last) > _MAX_REPEAT


def _after_class(pattern: str, at: int) -> int:
    """Return where the class of characters that begins at *at* ends; classes stand within classes."""
    depth = 0
    while at < len(pattern):
        character = pattern[at]
        at += 2 if character == "\\" else 1
        depth += (character == "[") - (character == "]")
        if depth == 0:
            break
    return at
