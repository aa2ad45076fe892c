"""Tokenizers of strangers: what would end the process or never end is refused, and every failure is a typed error."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.sequence import Sequence
from llmos_onnx.text import Codec
from llmos_onnx.tokenizer_check import build_tokenizer, contained
from plugins.onnx.tests.driver import Driver, load

LETTERS = {chr(97 + number): number for number in range(26)}
BASE: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": LETTERS, "merges": [],
    },
}  # fmt: skip
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    r"|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TOKENIZER = "tokenizer.json"
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def made(**parts: Any) -> bytes:
    """Return a tokenizer of letters, changed."""
    return json.dumps({**BASE, **parts}).encode()


def split(pattern: str) -> bytes:
    """Return one that splits by a regular expression."""
    regex = {"Regex": pattern}
    return made(pre_tokenizer={"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False})


def replaced(part: str, content: str, times: int = 1, **pattern: str) -> bytes:
    """Return one that replaces something some times."""
    one = {"type": "Replace", "pattern": pattern, "content": content}
    inner = {"normalizer": "normalizers", "decoder": "decoders"}[part]
    return made(**{part: {"type": "Sequence", inner: [one] * times}})


def table(size: int, index: bytes, texts: bytes) -> bytes:
    """Return one with a table of characters."""
    content = base64.b64encode(size.to_bytes(4, "little") + index + texts).decode()
    return made(normalizer={"type": "Precompiled", "precompiled_charsmap": content})


def template(single: list[Any], special: dict[str, Any]) -> bytes:
    """Return one that writes special tokens around a text."""
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]
    processor = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    return made(post_processor=processor)


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "replacement that grows": (replaced("normalizer", "x" * 1000, Regex=""), "content"),
    "replacements that grow together": (replaced("normalizer", "a" * 16, times=10, String="a"), "normalizer"),
    "empty expression that grows": (replaced("normalizer", "aaaaaaa", times=3, Regex=""), "normalizer"),
    "decoder that grows": (replaced("decoder", "a" * 16, times=4, String="a"), "decoder"),
    "long text in front": (made(normalizer={"type": "Prepend", "prepend": "a" * 1000}), "prepend"),
    "many components": (replaced("normalizer", "a", times=1000, String="a"), "normalizer"),
    "table that is too short": (table(0, b"", b"")[:-8] + b'"}}', TOKENIZER),
    "table without index": (table(0, b"", b"ab"), "size"),
    "table whose size lies": (table(2**32 - 4, bytes(64), b""), "size"),
    "table whose index lies": (table(4, bytes(4), b"ab"), TOKENIZER),
    "table of odd size": (table(3, bytes(3), b"ab"), "size"),
    "table with a long text": (table(4, bytes(4), b"a" * 1000), "precompiled_charsmap"),
    "table in no base64": (made(normalizer={"type": "Precompiled", "precompiled_charsmap": "!"}), "charsmap"),
    "template bomb": (template([TEXT] * 1000, {}), "post_processor"),
    "template with its text thrice": (template([TEXT] * 3, {}), "single"),
    "template token bomb": (
        template([TEXT], {"x": {"id": "x", "ids": [1] * 10**5, "tokens": ["a"] * 10**5}}), "",
    ),
    "template of an unknown token": (template([{"SpecialToken": {"id": "x", "type_id": 0}}, TEXT], {}), TOKENIZER),
    "id beyond the vocabulary": (made(model={**BASE["model"], "vocab": {"a": 4_000_000_000}}), "token id"),
    "added id beyond the vocabulary": (made(added_tokens=[{"id": 99, "content": "<x>", **ADDED}]), "token id"),
    "processor's id beyond the vocabulary": (
        made(post_processor={"type": "BertProcessing", "sep": ["a", 999], "cls": ["a", 999]}), "token id",
    ),
    "negative added id": (made(added_tokens=[{"id": -1, "content": "x", **ADDED}]), TOKENIZER),
    "long added token": (made(added_tokens=[{"id": 1, "content": "x" * 10**5, **ADDED}]), "added_tokens"),
    "many added tokens": (
        made(added_tokens=[{"id": 26 + number, "content": f"<{number}>", **ADDED} for number in range(2**17 + 1)]),
        "added_tokens",
    ),
    "added tokens that are none": (made(added_tokens=[3]), TOKENIZER),
    "merge of nothing": (made(model={**BASE["model"], "merges": ["a b"]}), TOKENIZER),
    "prefix that cuts characters": (
        made(model={**BASE["model"], "continuing_subword_prefix": "é", "vocab": {"a": 0, "b": 1, "ab": 2},
                    "merges": ["a b"]}), TOKENIZER,
    ),
    "pieces of no length": (made(pre_tokenizer={"type": "FixedLength", "length": 0}), TOKENIZER),
    "words of any length": (
        made(model={"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 10**9, "vocab": {"a": 0}}), "max_input_chars_per_word",
    ),
    "deep": (b'{"normalizer": ' + b'{"normalizers": [' * 50_000, TOKENIZER),
    "many elements beside a table": (b'{"precompiled_charsmap": [' + b"[]," * 3_100_000 + b"[]]}", "elements"),
    "doubled key": (b'{"model": 1, "model": 2}', TOKENIZER),
    "no object": (b"[]", TOKENIZER),
    "no text": (b"\xff", TOKENIZER),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokenizers(name: str) -> None:
    """Each is refused when it is read, with the model, the field and what would be right."""
    content, field = HOSTILE[name]
    with pytest.raises(ModelUnavailable) as caught:
        Codec(content, model="some", vocab=26)

    assert "some" == caught.value.fields["model"]
    assert field in str(caught.value.fields["field"])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$b", "(a|aa)+$", "((a?)(b?))*c", "(?:a{1,9}){1,99}", "(?:a*)*", "(?i:(a|b)*)c", "a**", "a{2}{3}",
        r"(a)\1", r"(?<n>a\g<n>?)", "(?x) a # [\n(b+)+", "(?#[)(a+)+", r"\c[(a+)+]", "(?~a)", "(*FAIL)", "(?{x})",
        "(a)(?(1)b)", "a{2,}+b", "((a+)b)+", "(?:(?:a|b)c)*", "(a+)+{1}", "(" * 3 + "a" + ")*" * 3, "a" * 5000,
    ],
)  # fmt: skip
def test_explosive_expressions(pattern: str) -> None:
    """What could match in exponentially many ways, or hide that from its reader, is refused by the pattern."""
    with pytest.raises(ModelUnavailable, match="Regex"):
        build_tokenizer(split(pattern), model="some")


@pytest.mark.parametrize(
    "pattern", [GPT2, LLAMA3, O200K, CL100K, BLOOM, DEEPSEEK, r"\p{N}", "[一-龥぀-ゟ゠-ヿ]+", r"(?:\r\n)+"]
)
def test_expressions_that_models_use(pattern: str) -> None:
    """The expressions of published tokenizers are accepted, and are expressions to the library."""
    codec = Codec(split(pattern), model="some")

    assert [0, 1, 2] == codec.encode("abc")


atoms = st.sampled_from(["a", "b", r"\w", "[ab]", ".", "(a)", "(?:ab)"])
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,30}", "*?", "++"])).map("({0[0]}){0[1]}".format),
        inner.map("({})".format),
    ),
    max_leaves=8,
)


@given(patterns)
def test_accepted_expressions_come_to_an_end(pattern: str) -> None:
    """No accepted expression reaches the library's limit of ten million retries on a text that invites it to."""
    content = split(f"{pattern}!")
    try:
        build_tokenizer(content, model="some")
    except ModelUnavailable:
        return
    codec = Codec(content, model="some")
    for text in ("a" * 40, "ab" * 20, "aab" * 13 + "c"):
        codec.encode(text)


def test_panics_are_typed_errors() -> None:
    """A panic is none of Python's exceptions, and still becomes the model's error; what is nobody's fault passes."""
    stopped = made(decoder={"type": "Strip", "content": "a", "start": 2, "stop": 3})
    with pytest.raises(ModelUnavailable, match="some"):
        Codec(stopped, model="some").decode([0, 0, 0])

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contained("some", interrupted)


def test_decoder_that_fails_ends_its_task_alone(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one task's text cannot be told, the others of the step get theirs."""
    executor = load(model_folder("nano", "fp32"), slots=2, context=64, threads=1)
    driver = Driver(executor)
    good, bad = (driver.add(id, [5, 6, 7], max_tokens=8, ignore_eos=True, seed=1) for id in range(2))
    output = Sequence._output

    def failing(sequence: Sequence, token: int) -> tuple[str, str | None]:
        if sequence.id == 1 and sequence.generated == 3:
            raise ModelUnavailable("its decoder fails", model="nano")
        return output(sequence, token)

    monkeypatch.setattr(Sequence, "_output", failing)
    driver.finish()

    assert "its decoder fails" in str(bad.error)
    assert 8 == len(good.tokens)


# --- damage of every kind ---------------------------------------------------------------------------------------

values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([2**31, 2**32, 2**63, 2**64, -1, 10**30, 1e308]),
    st.text(max_size=6), st.sampled_from(["Sequence", "Replace", "BPE", "Unigram", "ByteLevel", "<0xé>", "a" * 3000]),
    st.lists(st.integers(-1, 3), max_size=3), st.just({}), st.just({"type": "Sequence"}),
    st.just({"type": "Lowercase"}), st.just({"type": "Strip", "content": "a", "start": 5, "stop": 5}),
    st.just({"type": "Metaspace", "replacement": "a", "prepend_scheme": "always", "split": True}),
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to everything within *value*; of long lists and mappings, to the first few."""
    found = [way] if way else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:12]:
        found += places(inner, (*way, key))
    return found


def damaged(data: st.DataObject, original: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of *original* in which a few things are other than they were."""
    copied = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(copied)))
        at: Any = copied
        for step in way:
            at = at[step]
        kind = data.draw(st.sampled_from(["change", "change", "remove", "repeat"]))
        if kind == "remove":
            del at[last]
        elif kind == "repeat" and isinstance(at[last], list):
            at[last] = at[last] * data.draw(st.sampled_from([2, 50]))
        else:
            at[last] = copy.deepcopy(data.draw(values))
        if not copied:
            break
    return copied


def use(content: bytes) -> str:
    """Read a tokenizer and use it in every way; return what became of it."""
    try:
        codec = Codec(content, model="some", vocab=2**20)
        ids = codec.encode("the quick brown fox é 中 <|end|> 12345  \n\n a")
        codec.encode_template("<s>abc</s>")
        codec.encode_input("abc", "def", most=30, truncate=True)
        feed = codec.detokenizer()
        for id in [*ids[:50], *range(20)]:
            feed.feed(id)
        feed.end()
        json.loads(codec.marked_json())
    except (ModelUnavailable, InvalidArgument) as error:
        return str(error.fields["field"])
    return "used"


def damage(data: st.DataObject, checkpoint: Callable[[str], Path]) -> str:
    """Damage one of some tokenizers and use it."""
    kind = data.draw(st.sampled_from(["nano", "bert", "table"]))
    if kind == "nano":
        original = json.loads((checkpoint("nano") / "tokenizer.json").read_bytes())
    elif kind == "bert":
        original = json.loads(template([TEXT], {"x": {"id": "x", "ids": [1], "tokens": ["a"]}}))
    else:
        original = json.loads(table(8, bytes(8), b"ab\0cd\0"))
    return use(json.dumps(damaged(data, original)).encode())


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_tokenizers(checkpoint: Callable[[str], Path], data: st.DataObject) -> None:
    """A tokenizer with something changed is refused by a typed error, or works."""
    damage(data, checkpoint)


@pytest.mark.nightly
@settings(max_examples=20_000)
@given(data=st.data())
def test_many_damaged_tokenizers(checkpoint: Callable[[str], Path], data: st.DataObject) -> None:
    """The same, many times."""
    damage(data, checkpoint)
