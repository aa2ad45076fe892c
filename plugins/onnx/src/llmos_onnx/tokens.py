"""What a checkpoint says between text and ids: tokenizer, special tokens, chat template, sampling defaults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from llmos_onnx.fields import Fields, refusal
from llmos_onnx.manifest import TOKENIZER, Generation, SpecialTokens, read_generation
from llmos_onnx.tokenizer_check import build_tokenizer, check_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmos_onnx.shape import Shape

TOKENIZER_CONFIG: Final = "tokenizer_config.json"
GENERATION_CONFIG: Final = "generation_config.json"
TEMPLATE_FILE: Final = "chat_template.jinja"
_MAX_TOKENIZER: Final = 64 << 20
_MAX_SETTINGS: Final = 8 << 20
_MAX_TEMPLATE: Final = 500_000


class TextFiles(Protocol):
    """A folder with a tokenizer and its settings."""

    @property
    def model(self) -> str:
        """The name that errors give it."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the file *name* of at most *limit* bytes, or None where it does not exist."""

    def json(self, name: str, *, limit: int = ...) -> Fields:
        """Read the JSON file *name* of at most *limit* bytes; where it does not exist, an empty object."""


@attrs.frozen(kw_only=True)
class TextSettings:
    """What is needed between text and token ids."""

    tokenizer: bytes
    """``tokenizer.json``; unchanged, unless it adds tokens that the model has no entry for."""
    tokens: SpecialTokens
    generation: Generation
    chat_template: str | None


def read_text_settings(checkpoint: TextFiles, config: Fields, shape: Shape) -> TextSettings:
    """Read everything about text from *checkpoint*; *config* is its ``config.json``.

    Raises `ModelUnavailable` where ``tokenizer.json`` is missing or malformed, or knows ids that *shape* does not.
    """
    content, tokenizer = _read_tokenizer(checkpoint, shape.vocab)
    settings = checkpoint.json(TOKENIZER_CONFIG, limit=_MAX_SETTINGS)
    generation = checkpoint.json(GENERATION_CONFIG)
    return TextSettings(
        tokenizer=content,
        tokens=_special_tokens(tokenizer, settings, generation, config, shape.vocab),
        generation=read_generation(generation, strict=False),
        chat_template=_chat_template(checkpoint, settings),
    )


def read_named_settings(files: TextFiles, tokens: SpecialTokens, generation: Generation, vocab: int) -> TextSettings:
    """Read tokenizer and chat template from *files*; which ids are special, and the sampling, are known already.

    Raises `ModelUnavailable` where ``tokenizer.json`` is missing or malformed, or knows ids that are not in *vocab*.
    """
    content, tokenizer = _read_tokenizer(files, vocab)
    settings = files.json(TOKENIZER_CONFIG, limit=_MAX_SETTINGS)
    return TextSettings(
        tokenizer=content,
        tokens=attrs.evolve(tokens, add_bos=_adds_bos(tokenizer, settings, tokens.bos)),
        generation=generation,
        chat_template=_chat_template(files, settings),
    )


def _read_tokenizer(files: TextFiles, vocab: int) -> tuple[bytes, Tokenizer]:
    content = files.read(TOKENIZER, _MAX_TOKENIZER)
    if content is None:
        raise refusal(files.model, TOKENIZER, "missing", "the tokenizer in its one-file form")
    content = _without_strangers(content, vocab, model=files.model)
    return content, load_tokenizer(content, vocab, model=files.model)


def _without_strangers(content: bytes, vocab: int, *, model: str) -> bytes:
    """Return ``tokenizer.json`` without the added tokens whose ids lie beyond *vocab*.

    Text models share a tokenizer with siblings that see pictures, whose tokens they have no entries for (Gemma 3 1B).
    Text that names such a token is then text like any other.
    """
    added = build_tokenizer(content, model=model).get_added_tokens_decoder()
    if max(added, default=-1) < vocab:
        return content
    state = json.loads(content)
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < vocab]
    return json.dumps(state, ensure_ascii=False).encode()


def load_tokenizer(content: bytes, vocab: int, *, model: str) -> Tokenizer:
    """Parse ``tokenizer.json``; raise `ModelUnavailable` where it is malformed or has an id beyond *vocab*."""
    tokenizer = build_tokenizer(content, model=model)
    check_ids(tokenizer, vocab, model=model)
    return tokenizer


def _special_tokens(
    tokenizer: Tokenizer, settings: Fields, generation: Fields, config: Fields, vocab: int
) -> SpecialTokens:
    """Collect the special ids: the tokenizer's own names first, then what the other files say."""
    bos = _named(tokenizer, settings, "bos_token", vocab)
    if bos is None:
        bos = next(iter(read_ids(generation, "bos_token_id", vocab) or read_ids(config, "bos_token_id", vocab)), None)
    named = _named(tokenizer, settings, "eos_token", vocab)
    eos = dict.fromkeys(read_ids(generation, "eos_token_id", vocab) or read_ids(config, "eos_token_id", vocab))
    if named is not None:
        eos[named] = None
    pad = _named(tokenizer, settings, "pad_token", vocab)
    return SpecialTokens(bos=bos, eos=tuple(eos), pad=pad, add_bos=_adds_bos(tokenizer, settings, bos))


def _adds_bos(tokenizer: Tokenizer, settings: Fields, bos: int | None) -> bool:
    """Follow ``add_bos_token`` where it is given, else what the tokenizer does by itself."""
    if bos is None:
        return False
    if settings.has("add_bos_token"):
        return settings.flag("add_bos_token")
    return tokenizer.encode("a", add_special_tokens=True).ids[:1] == [bos]


def read_ids(fields: Fields, name: str, vocab: int) -> tuple[int, ...]:
    """Return the ids under *name*: one, a list, or none."""
    if not fields.has(name):
        return ()
    if isinstance(fields.values[name], list):
        return fields.integers(name, 0, vocab - 1, most=64)
    return (fields.integer(name, 0, vocab - 1),)


def _named(tokenizer: Tokenizer, settings: Fields, name: str, vocab: int) -> int | None:
    """Return the id of the token that *settings* name, as a string or as an object with ``content``."""
    if not settings.has(name):
        return None
    inner = isinstance(settings.values[name], dict)
    text = settings.inner(name).text("content", 1000) if inner else settings.text(name, 1000)
    found = tokenizer.token_to_id(text)
    if found is None or found >= vocab:
        raise settings.refuse(name, f"a token of {TOKENIZER}")
    return int(found)


def _chat_template(checkpoint: TextFiles, settings: Fields) -> str | None:
    """Return the template of ``chat_template.jinja`` or of the tokenizer's settings (of several, ``default``)."""
    content = checkpoint.read(TEMPLATE_FILE, _MAX_TEMPLATE)
    if content is not None:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise refusal(checkpoint.model, TEMPLATE_FILE, str(error), "UTF-8") from error
    if not settings.has("chat_template"):
        return None
    value = settings.values["chat_template"]
    if not isinstance(value, list):
        return settings.text("chat_template", _MAX_TEMPLATE)
    for item in value:
        named = Fields(settings.model, f"{settings.where}: chat_template", item if isinstance(item, dict) else {})
        if named.text("name", 200) == "default":
            return named.text("template", _MAX_TEMPLATE)
    raise settings.refuse("chat_template", "a string, or a list with one named 'default'")
