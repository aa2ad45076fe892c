"""Text to ids and back: no control tokens from users, no half characters to readers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.text import Codec, StopMatcher

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "the cat sat on the mat", "where is the cat now?", "多语言 文本 测试", "naïve café — déjà vu", "def f(x): return x",
)  # fmt: skip


def byte_level() -> Tokenizer:
    """A byte-level BPE, as Llama 3, Qwen and SmolLM use."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(CONTROL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """A BPE of characters with a fallback to bytes and spaces as ▁, as Llama 2 and Mistral use."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=["<unk>", *CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(TEXTS * 4, trainer)
    data = json.loads(trained.to_str())
    # Trained as special tokens only to be given the first ids: the bytes are ordinary words of the vocabulary.
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


CODECS = {kind.__name__: Codec(kind().to_str().encode(), model="test") for kind in (byte_level, sentencepiece)}


@pytest.fixture(params=list(CODECS))
def codec(request: pytest.FixtureRequest) -> Codec:
    """A codec of each family of tokenizers."""
    return CODECS[request.param]


def pieces(codec: Codec, ids: list[int]) -> list[str]:
    """Return what a reader is given for *ids*, step by step."""
    decoder = codec.detokenizer()
    return [*(decoder.feed(id) for id in ids), decoder.end()]


@pytest.mark.parametrize("kind", list(CODECS))
@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_join_to_the_text(kind: str, text: str) -> None:
    """Whatever the text, its ids decoded one at a time give it back, and no piece ends within a character."""
    codec = CODECS[kind]
    ids = codec.encode(text)
    parts = pieces(codec, ids)

    assert codec.decode(ids) == "".join(parts)
    if "\ufffd" not in text:
        assert text.removeprefix(" ") == "".join(parts).removeprefix(" ")
        assert not any("\ufffd" in part for part in parts)


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, 500)))
def test_any_ids_give_their_text(ids: list[int]) -> None:
    """Ids that no text encodes to, as models make them, give what the tokenizer makes of them all at once."""
    codec = CODECS["byte_level"]

    assert codec.decode(ids) == "".join(pieces(codec, ids))


@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, 400), max_size=200))
def test_any_ids_end(ids: list[int]) -> None:
    """Byte tokens in an order that no text has are decoded without failing."""
    codec = CODECS["sentencepiece"]

    assert isinstance("".join(pieces(codec, ids)), str)


def test_characters_come_whole(codec: Codec) -> None:
    """A character of several ids comes with the last of them."""
    ids = codec.encode("a😀b")
    parts = [part for part in pieces(codec, ids) if part]

    assert len(ids) > 5
    assert "😀" in parts


def spoken(codec: Codec, ids: list[int]) -> list[tuple[str, bytes]]:
    """Return what is told of each of the *ids* of an answer."""
    return [codec.spoken(id, first=at == 0) for at, id in enumerate(ids)]


@pytest.mark.parametrize("kind", list(CODECS))
@settings(deadline=None, max_examples=100)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_join_to_the_text(kind: str, text: str) -> None:
    """Whatever the text, the bytes of its ids joined are those of the decoded text."""
    codec = CODECS[kind]
    ids = codec.encode(text)

    assert codec.decode(ids).encode() == b"".join(data for _, data in spoken(codec, ids))


@pytest.mark.parametrize(
    "text", ["the cat sat on the mat", "\u591a\u8bed\u8a00 \u7329", "a\U0001f600b \U0001f469\u200d\U0001f680"]
)
def test_tokens_are_told_as_text(codec: Codec, text: str) -> None:
    """A token is told as its text: its space is a space, and each byte that has no text is an escape."""
    told = spoken(codec, codec.encode(text))

    assert text.encode() == b"".join(data for _, data in told).removeprefix(b" ")
    assert [data.decode("utf-8", "backslashreplace") for _, data in told] == [said for said, _ in told]
    assert not any(mark in said for said, _ in told for mark in ("\u0120", "\u2581", "\ufffd", "<0x"))


def test_told_names_of_special_tokens(codec: Codec) -> None:
    """A special token is told by its name and has no bytes, as it has none in the answer."""
    (id,) = codec.encode_template("<|im_end|>")[0]

    assert ("<|im_end|>", b"") == codec.spoken(id, first=False)


def test_parts_of_a_character_are_told_as_escapes() -> None:
    """A byte that is part of a character is told as OpenAI tells it."""
    told = spoken(CODECS["byte_level"], CODECS["byte_level"].encode("\u7329"))

    assert [("\\xe7", b"\xe7"), ("\\x8c", b"\x8c"), ("\\xa9", b"\xa9")] == told


def test_leading_spaces_survive(codec: Codec) -> None:
    """The space that a word's token carries is kept between words."""
    ids = codec.encode("the cat sat on  the   mat")

    assert "the cat sat on  the   mat" == "".join(pieces(codec, ids)).removeprefix(" ")


def test_endless_replacement_characters(codec: Codec) -> None:
    """A model that writes broken bytes for ever is decoded in bounded time and memory."""
    decoder = codec.detokenizer()
    broken = codec.encode("\ufffd")
    text = "".join(decoder.feed(id) for _ in range(2000) for id in broken)

    assert len(decoder._window) < 100
    assert 2000 == (text + decoder.end()).count("\ufffd")


@pytest.mark.parametrize("control", [*CONTROL, "<think>"])
def test_control_tokens_in_user_text(codec: Codec, control: str) -> None:
    """What looks like a control token in a user's text is ordinary characters."""
    text = f"hello {control} and {control}{control}"
    ids = codec.encode(text)

    assert codec.control_ids.isdisjoint(ids)
    assert text == codec.decode(ids).removeprefix(" ")


def test_template_text_has_control_tokens(codec: Codec) -> None:
    """The template's own text is encoded with control tokens."""
    ids, spans = codec.encode_template("中<|im_start|>user")

    assert (1, 13) in [span for id, span in zip(ids, spans, strict=True) if id in codec.control_ids]


def test_control_token_among_the_words() -> None:
    """A vocabulary that holds a control token as an ordinary word too does not let it through."""
    vocabulary = {"<|end|>": 0, "hello": 1, "<": 2, "|end|>": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|end|>"])
    codec = Codec(tokenizer.to_str().encode(), model="test")

    assert [1, 2, 3, 1] == codec.encode("hello <|end|> hello")


def test_text_that_cannot_be_told_apart() -> None:
    """A tokenizer that makes a control token of any text is refused rather than obeyed."""
    tokenizer = Tokenizer(models.WordLevel({"<|end|>": 0, "hello": 1}, unk_token="<|end|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|end|>"])
    codec = Codec(tokenizer.to_str().encode(), model="test")

    with pytest.raises(InvalidArgument, match="control token"):
        codec.encode("goodbye")


def test_lone_surrogates_are_refused(codec: Codec) -> None:
    """Text that is not Unicode is refused by name."""
    with pytest.raises(InvalidArgument) as caught:
        codec.encode("a\ud800")

    assert "input" == caught.value.fields["field"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model": 3}', b"\xff"])
def test_broken_tokenizers(content: bytes) -> None:
    """A file that is no tokenizer is refused by name."""
    with pytest.raises(ModelUnavailable) as caught:
        Codec(content, model="m")

    assert "tokenizer.json" == caught.value.fields["field"]


def test_codec_of_a_model_folder(model_folder: Callable[..., Path]) -> None:
    """The tokenizer of an exported folder is read, and its end tokens are control tokens."""
    content = (model_folder("nano", "fp32") / "tokenizer.json").read_bytes()

    assert {0, 1, 2, 3} <= Codec(content, model="nano").control_ids


def split(text: str, at: list[int]) -> list[str]:
    """Cut *text* at the given places."""
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in at)})
    return [text[low:high] for low, high in itertools.pairwise(borders)]


@settings(max_examples=300)
@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    at=st.lists(st.integers(0, 100)),
)
def test_stop_strings_across_pieces(text: str, stops: list[str], at: list[int]) -> None:
    """Wherever the text is cut, exactly what precedes the first stop string gets out, at once where it is certain."""
    matcher = StopMatcher(stops)
    out = ""
    for piece in split(text, at):
        out += matcher.feed(piece)
        if matcher.matched is not None:
            break
    out = out if matcher.matched is not None else out + matcher.end()
    # Pieces decide which of two stops is complete first; the reference therefore reads a character at a time.
    first = [text.find(stop) for stop in stops if stop in text]

    assert (matcher.matched is not None) == bool(first)
    if not first:
        assert text == out
    else:
        assert text.startswith(out)
        assert matcher.matched is not None
        assert text[len(out) :].startswith(matcher.matched)
        assert not any(stop in out for stop in stops)


def test_nothing_is_held_without_reason() -> None:
    """Text that no stop string begins with passes at once."""
    matcher = StopMatcher(["\n\n"])

    assert ["ab", "c", "\nd"] == [matcher.feed(piece) for piece in ("ab", "c\n", "d")]
