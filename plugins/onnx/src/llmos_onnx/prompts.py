"""From a task to token ids: the inputs of each kind of task, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos_kernel.errors import InvalidArgument
from llmos_onnx.sampling import check_tokens

if TYPE_CHECKING:
    from llmos_kernel.api import Task
    from llmos_onnx.manifest import Decodes
    from llmos_onnx.template import ChatTemplate
    from llmos_onnx.text import Codec


class Prompts:
    """Encodes the inputs of tasks for one model.  Safe to use from several threads at once."""

    def __init__(
        self, manifest: Decodes, codec: Codec, template: ChatTemplate | None, context: int, prefix: tuple[int, ...] = ()
    ) -> None:
        """*prefix* are the tokens that answers begin with, of a model that reads the prompt with an encoder."""
        self._manifest = manifest
        self._codec = codec
        self._template = template
        self._context = context
        self._prefix = prefix

    def encode(self, task: Task) -> list[int]:
        """Return the prompt of a ``generate`` or ``chat`` task.

        Raises `InvalidArgument` for an empty prompt, one that leaves no room in the context, and wrong types.
        """
        ids = self._chat(task.input) if task.kind == "chat" else self._generate(task.input)
        if not ids:
            raise InvalidArgument.of("input", task.input, "a prompt of at least one token")
        if len(ids) >= self._context:
            self._too_long(str(len(ids)))
        return ids

    def tokenize(self, value: object) -> list[int]:
        """Return the ids of the string *value*: no control tokens, nothing added."""
        if not isinstance(value, str):
            raise InvalidArgument.of("input", value, "a string")
        return self._codec.encode(value)

    def detokenize(self, value: object) -> str:
        """Return the text of the token ids *value*."""
        return self._codec.decode(self._ids(value))

    def _generate(self, value: object) -> list[int]:
        if not isinstance(value, str):
            ids = self._ids(value)
            return [*ids, *self._prefix] if ids else ids
        if not value:
            raise InvalidArgument.of("input", value, "a prompt that is not empty")
        self._check_size(len(value))
        if self._prefix:
            ids = self._codec.encode_whole(value)
            return [*ids, *self._prefix] if ids else ids
        ids = self._codec.encode(value)
        tokens = self._manifest.tokens
        return [tokens.bos, *ids] if tokens.add_bos and tokens.bos is not None else ids

    def _ids(self, value: object) -> list[int]:
        if not isinstance(value, list | tuple):
            raise InvalidArgument.of("input", value, "a string or a list of token ids")
        return check_tokens("input", value, self._manifest.vocab)

    def _chat(self, value: object) -> list[int]:
        messages = check_messages(value)
        if self._template is None:
            expected = "generate with a plain prompt; this model has no chat template (export one with it to chat)"
            message = f"model {self._manifest.name!r} has no chat template: use {expected}"
            raise InvalidArgument(message, field="kind", value="chat", expected=expected)
        self._check_size(sum(len(message["content"]) for message in messages))
        return self._template.encode(messages, self._codec)

    def _check_size(self, characters: int) -> None:
        """Refuse what cannot fit before time is spent on it: no id stands for more than so many characters."""
        least = characters // self._codec.longest
        if least >= self._context:
            self._too_long(f"at least {least}")

    def _too_long(self, tokens: str) -> None:
        expected = f"at most {self._context - 1} tokens: the context is {self._context} and the output needs one"
        message = f"the prompt is {tokens} tokens long, expected {expected}"
        raise InvalidArgument(message, field="input", value=tokens, expected=expected)


_ROLES = ("system", "user", "assistant", "tool", "developer")


def check_messages(value: object) -> list[dict[str, str]]:
    """Return *value* if it is a list of ``{"role": ..., "content": ...}``; raise `InvalidArgument` otherwise."""
    if not isinstance(value, list | tuple) or not value:
        raise InvalidArgument.of("input", value, "a list of at least one message {role, content}")
    return [_message(f"input[{index}]", message) for index, message in enumerate(value)]


def _message(field: str, message: Any) -> dict[str, str]:  # noqa: ANN401 - whatever the caller sent
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        raise InvalidArgument.of(field, message, "a mapping with the keys role and content, and no others")
    if message["role"] not in _ROLES:
        raise InvalidArgument.of(f"{field}.role", message["role"], f"one of {', '.join(_ROLES)}")
    if not isinstance(message["content"], str):
        raise InvalidArgument.of(f"{field}.content", message["content"], "a string")
    return message
