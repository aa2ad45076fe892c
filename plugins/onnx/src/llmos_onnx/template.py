"""Chat templates: a conversation becomes token ids, and nothing in it becomes a control token.

The template never sees what people wrote.  Each message's text is replaced by a mark that nobody can guess (the white
space around it stays, so that ``trim`` works); the rendered output is cut at the marks, which tells for every
character who wrote it.  The whole is then encoded at once, exactly as transformers would encode it, **if** every
control token in the result lies in text that the template wrote.  If one does not, somebody forged it: then the
template's parts are encoded with control tokens and the messages without.

What a template sees of a message is only the mark: one that looks for a word in it (to cut off earlier reasoning, say)
does not find it, and one that changes the mark is refused.
"""

from __future__ import annotations

import bisect
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.sandbox import ConversationRefused, TemplateRefused, compile_template, render

if TYPE_CHECKING:
    import jinja2

    from llmos_onnx.manifest import Decodes
    from llmos_onnx.text import Codec

_OPEN, _CLOSE = "\ue000", "\ue001"


@attrs.frozen
class Piece:
    """Rendered text of one author."""

    text: str
    message: bool
    """Written by somebody else than the template."""


class ChatTemplate:
    """A model's chat template.  Safe to use from several threads at once."""

    def __init__(self, source: str, special: Mapping[str, str], *, model: str) -> None:
        """Compile *source*; *special* are variables such as ``bos_token``.

        A template that cannot be compiled is refused when it is used, so that the model still generates.
        """
        self._special = dict(special)
        self._model = model
        self._template: jinja2.Template | None = None
        self._broken: TemplateRefused | None = None
        try:
            self._template = compile_template(source)
        except TemplateRefused as error:
            self._broken = error

    @classmethod
    def of(cls, manifest: Decodes, codec: Codec, *, model: str) -> ChatTemplate | None:
        """Return the template of a model folder, or None where it has none."""
        if manifest.chat_template is None:
            return None
        tokens = manifest.tokens
        ids = {"bos_token": tokens.bos, "eos_token": tokens.eos[0] if tokens.eos else None, "pad_token": tokens.pad}
        special = {name: codec.token(id) for name, id in ids.items() if id is not None}
        return cls(manifest.chat_template, special, model=model)

    def encode(self, messages: Sequence[Mapping[str, str]], codec: Codec) -> list[int]:
        """Return the prompt of *messages*, ending where the assistant's answer begins.

        Raises `InvalidArgument` where the template does not take such a conversation, and `ModelUnavailable` where the
        template itself is at fault.
        """
        pieces = self.render(messages)
        whole = "".join(piece.text for piece in pieces)
        ids, spans = codec.encode_template(whole)
        if not _forged(pieces, ids, spans, codec):
            return ids
        parts = (codec.encode(p.text) if p.message else codec.encode_template(p.text)[0] for p in pieces)
        return [id for part in parts for id in part]

    def render(self, messages: Sequence[Mapping[str, str]]) -> list[Piece]:
        """Return the conversation as text, piece by piece."""
        nonce = str(secrets.randbits(64))
        texts: list[str] = []
        marked = []
        for message in messages:
            content = message["content"]
            text = content.strip()
            if text:
                before, after = content.split(text, 1)
                content = f"{before}{_OPEN}{nonce}:{len(texts)}{_CLOSE}{after}"
                texts.append(text)
            marked.append({**message, "content": content})
        return self._cut(self._render(marked), nonce, texts)

    def _render(self, messages: list[dict[str, str]]) -> str:
        variables = {**self._special, "messages": messages, "add_generation_prompt": True, "tools": None}
        try:
            if self._template is None:
                raise self._broken or TemplateRefused("it was not compiled")
            return render(self._template, variables)
        except ConversationRefused as error:
            expected = "a conversation that the model's chat template takes"
            message = f"the chat template of {self._model!r} refuses the messages: {error}"
            raise InvalidArgument(message, field="input", value=str(error), expected=expected) from error
        except TemplateRefused as error:
            raise self._refused(error) from error

    def _refused(self, why: object) -> ModelUnavailable:
        expected = "a template that renders within its limits; generate with a plain prompt, or replace the template"
        message = f"the chat template of {self._model!r} is refused: {why}"
        return ModelUnavailable(message, model=self._model, field="chat_template", value=str(why), expected=expected)

    def _cut(self, rendered: str, nonce: str, texts: list[str]) -> list[Piece]:
        """Cut *rendered* at the marks and put the messages' own texts in."""
        # A capturing pattern: template text, "j" within JSON, number, template text, ...
        parts = re.split(f"{_OPEN}(j?){nonce}:([0-9]+){_CLOSE}", rendered)
        for text in parts[::3]:
            if _OPEN in text or _CLOSE in text:
                raise self._refused("it changes the text of messages")
        pieces = [Piece(parts[0], message=False)]
        for in_json, number, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            content = texts[int(number)]
            content = json.dumps(content, ensure_ascii=False)[1:-1] if in_json else content
            pieces += [Piece(content, message=True), Piece(text, message=False)]
        return [piece for piece in pieces if piece.text]


def _forged(pieces: Sequence[Piece], ids: Sequence[int], spans: Sequence[tuple[int, int]], codec: Codec) -> bool:
    """Say whether some control token of *ids* touches text that a message brought."""
    starts, ends, at = [], [], 0
    for piece in pieces:
        if piece.message:
            starts.append(at)
            ends.append(at + len(piece.text))
        at += len(piece.text)
    for id, (begin, end) in zip(ids, spans, strict=True):
        if id in codec.control_ids:
            # The first message that ends after the token begins is the only one that it can touch first.
            index = bisect.bisect_right(ends, begin)
            if index < len(starts) and starts[index] < max(end, begin + 1):
                return True
    return False
