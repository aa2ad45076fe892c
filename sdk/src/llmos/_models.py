"""Models as clients see them: what the kernel says of them, folders as models, and the tasks that they run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llmos._requests import (
    Messages, Options, Request, encoder_input, messages, plain_request, prompt, text_request,
)  # fmt: skip
from llmos._targets import AUTO, Target
from llmos._trace import Trace
from llmos_kernel.api import Auto
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable

MANIFEST = "llmos.json"
"""The file that makes a folder a model folder."""
GENAI_MANIFEST = "genai_config.json"
"""The file that makes a folder one of onnxruntime-genai's."""
MANIFESTS = (MANIFEST, GENAI_MANIFEST)
MANIFEST_LIMIT = 2**20
"""Most bytes of it."""
FOLDER_BACKEND = "onnx"
"""The backend that loads model folders."""
DEMONSTRATION = "demonstration"
"""The capability, or a word of the description, of a model that shows that everything works and is of no other use."""


def _tuple(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


@attrs.frozen(kw_only=True)
class ModelInfo:
    """What the kernel knows of a model."""

    name: str
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    backend: str = ""
    path: str = ""
    kinds: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    """Task kinds that it serves."""
    languages: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    capabilities: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    context: int = 0
    """Most tokens of prompt and output together; 0 is unknown until it is loaded."""
    nbytes: int = 0
    license: str = ""
    description: str = ""
    distribution: str = ""
    """Who brought it."""
    state: str = ""
    """``unloaded``, ``loading``, ``loaded`` or ``failed``."""
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """Everything else: its footprint, its handles, what its executor says."""

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> ModelInfo:
        """Make the record from a control message's answer."""
        known = {field.name for field in attrs.fields(cls)} - {"details"}
        given = {key: value for key, value in values.items() if key in known}
        return cls(**given, details={key: value for key, value in values.items() if key not in known})

    @property
    def is_demonstration(self) -> bool:
        """Whether the model only shows that everything works."""
        return DEMONSTRATION in (*self.capabilities, *self.description.lower().split())

    @property
    def keeps_contexts(self) -> bool:
        """Whether the model is loaded and can keep a conversation's cache between turns (`Model.conversation`)."""
        return "contexts" in self._executor

    @property
    def longest_context(self) -> int:
        """Most tokens of one sequence, as the loaded model was set up; 0 where that is unknown."""
        return int(self._executor.get("context", 0))

    @property
    def _executor(self) -> Mapping[str, Any]:
        return self.details.get("executor") or {}


class ModelRequests:
    """What the two kinds of model share: their name, what their tasks run on, and how arguments become requests."""

    def __init__(self, name: str, targets: tuple[Target, ...]) -> None:
        self.name, self._targets = name, targets

    def close(self) -> None:
        """Give the right to run the model back."""
        for target in self._targets:
            if not isinstance(target.what, str | Auto):
                target.what.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def _served_by(self) -> str | Auto:
        """The model's name, or what a router chooses by."""
        return any_model(self._targets[0].what) or self.name

    def _generate(self, text: str, options: Options, *, stream: bool = False) -> Request:
        return text_request("generate", prompt(text), options, stream=stream).aimed(self._targets)

    def _chat(self, value: str | Messages, system: str | None, options: Options, *, stream: bool = False) -> Request:
        return text_request("chat", messages(value, system), options, stream=stream).aimed(self._targets)

    def _encode(
        self, kind: str, text: str | Sequence[Any], truncate: bool, timeout: float | None, trace: Trace
    ) -> list[Request]:
        texts = [text] if isinstance(text, str) else text
        params = {"truncate": True} if truncate else {}
        plain = [plain_request(kind, encoder_input(item), timeout, trace, params) for item in texts]
        return [request.aimed(self._targets) for request in plain]

    def _tokenize(self, text: str, timeout: float | None, trace: Trace) -> Request:
        return plain_request("tokenize", prompt(text), timeout, trace).aimed(self._targets)

    def _detokenize(self, tokens: Sequence[int], timeout: float | None, trace: Trace) -> Request:
        return plain_request("detokenize", list(tokens), timeout, trace).aimed(self._targets)


def any_model(name: object) -> Auto | None:
    """Return what a router chooses by where *name* is no model's name: `Auto`, or the word ``auto``."""
    return Auto() if name == AUTO else name if isinstance(name, Auto) else None


def check_fallbacks(value: object) -> Sequence[str | Auto]:
    """Return *value* if it is a list of names; a string would be a list of letters."""
    names = [] if isinstance(value, str) or not isinstance(value, Sequence) else value
    if names is not value or not all(isinstance(one, str | Auto) for one in names):
        raise InvalidArgument.of("fallbacks", value, "a list of models' names")
    return names


def auto_info(want: Auto) -> ModelInfo:
    """Return what can be said of a model that a router chooses anew for each task."""
    return ModelInfo(
        name=AUTO, languages=want.languages, capabilities=want.capabilities, context=want.context,
        description="any model that will do: a router chooses one for each task",
    )  # fmt: skip


def warn_of_fallback(name: str, error: KernelError) -> None:
    """Say that *name* could not be loaded, where others stand in for it."""
    import logging  # noqa: PLC0415 - only where something is said

    logging.getLogger("llmos").warning("llmos: %s could not be loaded, its fallbacks stand in: %s", name, error)


def control_message(name: str, *args: Any, **fields: Any) -> object:  # noqa: ANN401 - the message's fields
    """Return the control message called *name*; raise `InvalidArgument` if there is none."""
    from llmos_kernel import control  # noqa: PLC0415 - only who asks needs it

    kind = getattr(control, name, None)
    if name.startswith("_") or not (isinstance(kind, type) and attrs.has(kind)):
        expected = "a message of llmos_kernel.control"
        raise InvalidArgument(f"there is no control message {name!r}", field="message", value=name, expected=expected)
    message: object = kind(*args, **fields)
    return message


def folder_spec(name: str | os.PathLike[str]) -> ModelSpec | None:
    """Return the specification of the model folder at the path *name*, or None if *name* is a model's name.

    A path object, or a string with a separator, is a path; a plain word is one only where it is a model folder.
    """
    path = Path(name)
    is_path = not isinstance(name, str) or os.sep in name or any((path / file).is_file() for file in MANIFESTS)
    return read_folder(path, str(path.resolve())) if is_path else None


def read_folder(folder: Path, name: str | None = None) -> ModelSpec:
    """Return the specification of the model in *folder*, called *name* or as its manifest says.

    Only enough of the manifest is read to offer the model; its backend checks all of it before it loads anything.
    """
    theirs = folder / GENAI_MANIFEST
    file = theirs if theirs.is_file() and not (folder / MANIFEST).exists() else folder / MANIFEST
    try:
        manifest = _read_object(file)
        return _genai_spec(folder, name) if file is theirs else _own_spec(folder, name, manifest)
    except OSError as error:
        message = f"{folder} is no model folder: {file.name} cannot be read ({error.strerror})"
        raise ModelUnavailable(
            message, model=str(folder), field="path", expected=f"a folder with {' or '.join(MANIFESTS)}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{folder} is no model folder: {file.name} is broken ({type(error).__name__}: {error})"
        raise ModelUnavailable(message, model=str(folder), field=file.name, expected="a manifest as written") from error


def _read_object(file: Path) -> Any:  # noqa: ANN401 - whatever a stranger's JSON holds
    with file.open("rb") as opened:
        return json.loads(opened.read(MANIFEST_LIMIT))


def _own_spec(folder: Path, name: str | None, manifest: Any) -> ModelSpec:  # noqa: ANN401 - read, not checked
    kinds = tuple(map(str, manifest.get("kinds", _decodes(chat=bool(manifest.get("chat_template"))))))
    sizes = [entry["size"] for entry in manifest.get("files", {}).values()]
    return ModelSpec(
        name=name or manifest["name"], backend=FOLDER_BACKEND, path=str(folder.resolve()), kinds=kinds,
        nbytes=sum(sizes), license=str(manifest.get("licence", "")), description=f"model folder {manifest['name']}",
    )  # fmt: skip


def _genai_spec(folder: Path, name: str | None) -> ModelSpec:
    """Return the specification of a folder that onnxruntime-genai's builder wrote: it is called like the folder."""
    settings, path = folder / "tokenizer_config.json", folder.resolve()
    chat = (folder / "chat_template.jinja").is_file()
    chat = chat or (settings.is_file() and bool(_read_object(settings).get("chat_template")))
    sizes = [file.stat().st_size for file in folder.iterdir() if file.is_file()]
    return ModelSpec(
        name=name or path.name, backend=FOLDER_BACKEND, path=str(path), kinds=_decodes(chat=chat), nbytes=sum(sizes),
        description=f"onnxruntime-genai folder {path.name}",
    )  # fmt: skip


def _decodes(*, chat: bool) -> tuple[str, ...]:
    return ("generate", "tokenize", "detokenize", *(("chat",) if chat else ()))


_noted: set[str] = set()


def note_alias(asked: str, info: ModelInfo) -> None:
    """Say, once per name and process, that *asked* is another name of a demonstration model.

    A log record, not a warning: a warning would be an exception where warnings are errors, and the program is right.
    """
    if asked == info.name or asked in _noted or not info.is_demonstration:
        return
    _noted.add(asked)
    import logging  # noqa: PLC0415 - only where something is said

    logging.getLogger("llmos").warning(
        'llmos: "%s" is an alias; here it means "%s", a small demonstration model. '
        'Name a real model, or set [aliases] "%s" = "..." in llmos.toml.', asked, info.name, asked,
    )  # fmt: skip
