"""Between text and token ids.

**What a user wrote never becomes a control token.**  A tokenizer turns ``<|end|>`` into one id wherever it stands, so
two tokenizers are made of the same vocabulary: `Codec.encode_template` recognises control tokens and is given only what
the model's own chat template wrote; `Codec.encode` takes them for ordinary characters.  Every added token that is
marked special or is bracketed like one counts as a control token.

**Half a character is never emitted.**  The ids of one character may come in several steps, and a decoder shows an
unfinished one as U+FFFD.  `Detokenizer` decodes a short window of the latest ids each time, which also gives the
first id of the window the neighbours that its leading space depends on, and holds back what could still change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tokenizers import Encoding, Tokenizer

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.tokenizer_check import build_tokenizer, check_ids, contained

_UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"
# A character has at most four bytes, so at most three ids can wait for the next one, and show up to three U+FFFD.
_MOST_UNFINISHED: Final = 3
_LONGEST_WINDOW: Final = 64
_CONTEXT: Final = 8
_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PRINTED: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_HIDDEN: Final = sorted(set(range(0x100)) - set(_PRINTED))
_BYTES: Final = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + at): byte for at, byte in enumerate(_HIDDEN)}
"""The bytes that the characters of a byte-level vocabulary stand for, as in GPT-2's ``bytes_to_unicode``."""


class Codec:
    """A model's tokenizer.  Safe to use from several threads at once."""

    def __init__(
        self, tokenizer_json: bytes, *, model: str, vocab: int = 2**31, control: Iterable[int] = (),
        plain_unknown: bool = False,
    ) -> None:  # fmt: skip
        """Read ``tokenizer.json``; *control* are ids that count as control tokens besides those that it marks.

        With *plain_unknown* the token for unknown words is not one of them: encoders have no other way to read these.

        Raises `ModelUnavailable` when the tokenizer cannot be read, or has an id that is not below *vocab*.
        """
        self._model = model
        self._template = build_tokenizer(tokenizer_json, model=model)
        known = check_ids(self._template, vocab, model=model)
        unknown = getattr(self._template.model, "unk_token", None) if plain_unknown else None
        ids = set(control)
        for id, token in self._template.get_added_tokens_decoder().items():
            # The unknown token stands for what the vocabulary lacks, and commands nothing.
            if token.content != unknown and (token.special or _bracketed(token.content)):
                ids.add(id)
        added = self._template.get_added_tokens_decoder()
        self._silent = frozenset(id for id, token in added.items() if token.special)
        self._decoders = _kinds(self._template)
        self._plain = contained(model, _blind, self._template, ids)
        self.control_ids: Final = frozenset(ids)
        """Ids that only the model and its template may write."""
        self.any_control: Final = tuple(sorted(ids)[:1])
        """One of them, where there are any."""
        self._control_texts = tuple(
            sorted({text for id in ids if (text := self._template.id_to_token(id))}, key=len, reverse=True)
        )
        self.longest: Final = max(map(len, known), default=1)
        """Most characters that one id stands for."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of *text*, none of which is a control token; raise `InvalidArgument` if that cannot be."""
        ids = self._encode_plain(text)
        if self.control_ids.isdisjoint(ids):
            return ids
        # A vocabulary may hold a control token among its ordinary words too.  Cut after its first character, it is
        # not a word any more.
        ids = [id for part in self._cut(text) for id in self._encode_plain(part)]
        if self.control_ids.isdisjoint(ids):
            return ids
        raise self._controlled(next(id for id in ids if id in self.control_ids))

    def _controlled(self, found: int) -> InvalidArgument:
        expected = "text that this model's tokenizer can tell from its control tokens"
        message = f"the text contains the control token {self._template.id_to_token(found)!r}"
        return InvalidArgument(message, field="input", value=found, expected=expected)

    def encode_input(self, text: str, pair: str | None, *, most: int, truncate: bool) -> tuple[list[int], list[int]]:
        """Return the ids and the type ids of *text*, or of two texts, between the special tokens of an encoder.

        Raises `InvalidArgument` where they are more than *most*, or with *truncate* cuts the longer text's end.
        """
        room = most - self._plain.num_special_tokens_to_add(pair is not None)
        parts = [self._part(part) for part in (text, pair) if part is not None]
        over = sum(len(part.ids) for part in parts) - room
        if over > 0 and not truncate:
            expected = f"at most {most} tokens, or truncate=True to use as much of it as fits"
            message = f"the input is {most + over} tokens long, expected {expected}"
            raise InvalidArgument(message, field="input", value=most + over, expected=expected)
        if over > 0:
            _cut_ends(parts, max(room, len(parts)))
        second = parts[1] if pair is not None else None
        whole = contained(self._model, self._plain.post_process, parts[0], second, add_special_tokens=True)
        return whole.ids, whole.type_ids

    def encode_whole(self, text: str) -> list[int]:
        """Return the ids of *text* between the special tokens of an encoder, however many they are."""
        whole = contained(self._model, self._plain.post_process, self._part(text), add_special_tokens=True)
        return list(whole.ids)

    def _part(self, text: str) -> Encoding:
        encoding = contained(self._model, self._plain.encode, _check_text(text), add_special_tokens=False)
        found = next((id for id in encoding.ids if id in self.control_ids), None)
        if found is None:
            return encoding
        raise self._controlled(found)

    def encode_template(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of trusted *text*, control tokens recognised, and each id's span of characters in it."""
        encoding = contained(self._model, self._template.encode, _check_text(text), add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of *ids*, without special tokens; an unfinished character is U+FFFD.

        Raises `ModelUnavailable` where the model's own decoder fails on them.
        """
        return contained(self._model, self._template.decode, ids, skip_special_tokens=True)

    def token(self, id: int) -> str:
        """Return the vocabulary's own spelling of *id*; empty where it has none."""
        return self._template.id_to_token(id) or ""

    def spoken(self, id: int, *, first: bool) -> tuple[str, bytes]:
        r"""Return *id* as it stands in an answer, as text and as bytes; *first* where no text is before it.

        The bytes of all ids of an answer, joined, are its text in UTF-8.  Bytes that are part of a character have no
        text of their own and are shown as ``\xe4``; a special token is shown by its name and has no bytes.
        """
        spelling = self.token(id)
        if id in self._silent:
            return spelling, b""
        data = self._bytes(id, spelling, first=first)
        return data.decode("utf-8", "backslashreplace"), data

    def _bytes(self, id: int, spelling: str, *, first: bool) -> bytes:
        if "ByteLevel" in self._decoders:
            known = all(character in _BYTES for character in spelling)
            return bytes(map(_BYTES.__getitem__, spelling)) if known else spelling.encode()
        if "ByteFallback" in self._decoders and (byte := _BYTE.fullmatch(spelling)):
            return bytes.fromhex(byte[1])
        before = [] if first else self._encode_plain("a")[-1:]  # any word: many decoders cut the first one's space
        return self.decode([*before, id])[len(self.decode(before)) :].encode()

    def marked_json(self) -> str:
        """Return ``tokenizer.json`` with every control token marked as special."""
        data = json.loads(self._plain.to_str())
        marked = {token["id"] for token in data["added_tokens"]}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for id in sorted(self.control_ids - marked):
            if text := self.token(id):
                data["added_tokens"].append({"id": id, "content": text, "special": True, **flags})
        return json.dumps(data)

    def detokenizer(self) -> Detokenizer:
        """Return a decoder for one sequence."""
        return Detokenizer(self)

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = contained(self._model, self._plain.encode, _check_text(text), add_special_tokens=False).ids
        return ids

    def _cut(self, text: str) -> list[str]:
        parts = [text]
        for control in self._control_texts:
            parts = [piece for part in parts for piece in _split_within(part, control)]
        return parts


class Detokenizer:
    """Turns one sequence's ids into text as they come; the pieces joined are the decoded whole."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._window: list[int] = []
        self._emitted = 0  # characters of the window's text that were returned already
        self._new = 0  # ids since the text last grew

    def feed(self, id: int) -> str:
        """Take the next id and return the text that is certain by now, which may be none."""
        self._window.append(id)
        self._new += 1
        text = self._codec.decode(self._window)
        waiting = len(text) - len(text.rstrip(_UNFINISHED))
        if self._new > _MOST_UNFINISHED:
            # So many ids would have finished any character: what waits longer is broken, but for its very end.
            waiting = min(waiting, _MOST_UNFINISHED)
        stable = len(text) - waiting
        piece = text[self._emitted : stable]
        self._emitted = max(self._emitted, stable)
        if piece and stable == len(text):
            self._shrink(self._new)
        elif len(self._window) > _LONGEST_WINDOW:
            self._shrink(_CONTEXT)
        return piece

    def end(self) -> str:
        """Return what was held back; after the last id."""
        piece = self._codec.decode(self._window)[self._emitted :]
        self._window, self._emitted, self._new = [], 0, 0
        return piece

    def _shrink(self, keep: int) -> None:
        """Forget all but the last *keep* ids: what is emitted of their own text stays emitted."""
        held = len(self._codec.decode(self._window)) - self._emitted
        self._window = self._window[-keep:]
        self._emitted = max(0, len(self._codec.decode(self._window)) - held)
        self._new = 0


class StopMatcher:
    """Finds stop strings in text that comes in pieces; the text before the first one is all that gets out."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found."""

    def feed(self, piece: str) -> str:
        """Take a piece and return the text that cannot be part of a stop string any more."""
        text = self._held + piece
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.matched = min(found)
            self._held = ""
            return text[:at]
        keep = self._possible(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """Return what was held back; after the last piece."""
        held, self._held = self._held, ""
        return held

    def _possible(self, text: str) -> int:
        """Return the length of the longest end of *text* that some stop string begins with."""
        longest = min(len(text), max((len(stop) for stop in self._stops), default=1) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


def _cut_ends(parts: list[Encoding], room: int) -> None:
    """Cut the longest of *parts* until all of them have *room*."""
    lengths = [len(part.ids) for part in parts]
    while sum(lengths) > room:
        longest = lengths.index(max(lengths))
        rest = sum(lengths) - lengths[longest]
        others = [length for index, length in enumerate(lengths) if index != longest]
        lengths[longest] = max(room - rest, *(length - 1 for length in others), 1)
    for part, length in zip(parts, lengths, strict=True):
        part.truncate(length)


def _blind(tokenizer: Tokenizer, control: set[int]) -> Tokenizer:
    """Return a tokenizer to which the *control* tokens of *tokenizer* are ordinary characters.

    The vocabulary is shared, because to read it takes longer than all the rest.
    """
    blind = Tokenizer(tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(tokenizer, part) is not None:
            setattr(blind, part, getattr(tokenizer, part))
    added = sorted(tokenizer.get_added_tokens_decoder().items())  # in this order they get the same ids again
    for id, token in added:
        token.special = token.special or id in control
    blind.add_tokens([token for _, token in added])
    blind.encode_special_tokens = True
    return blind


def _kinds(tokenizer: Tokenizer) -> frozenset[str]:
    """Return the names of all steps of the decoder of *tokenizer*."""
    if tokenizer.decoder is None:
        return frozenset()
    decoder: dict[str, Any] = json.loads(tokenizer.decoder.__getstate__())
    return frozenset(step["type"] for step in decoder.get("decoders", [decoder]))


def _bracketed(text: str) -> bool:
    return len(text) > 2 and (text[0], text[-1]) in {("<", ">"), ("[", "]")}


def _check_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        expected = "text without lone surrogates"
        message = f"input must be {expected}"
        raise InvalidArgument(message, field="input", value=error.start, expected=expected) from error
    return text


def _split_within(text: str, control: str) -> list[str]:
    """Cut *text* after the first character of each *control* in it."""
    first, *rest = text.split(control)
    if not rest:
        return [text]
    parts = [first + control[0]]
    parts += [control[1:] + middle + control[0] for middle in rest[:-1]]
    return [*parts, control[1:] + rest[-1]]
