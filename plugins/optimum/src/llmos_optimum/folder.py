"""Writing the model folder: the graphs that optimum wrote, and ``llmos.json`` with what they are and their hashes.

``llmos.json`` is a format of its own right, read and checked by the backend: nothing of the backend is imported here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llmos_kernel.errors import InvalidArgument
from llmos_optimum.options import Options
from llmos_optimum.pooling import read_json, read_longest, read_pooling, refusal

FORMAT: Final = 1
MANIFEST: Final = "llmos.json"
CARD: Final = "README.md"
GENERATION: Final = "generation_config.json"
_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")
_GENERATION_KEYS: Final = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_MOST_CARD: Final = 1 << 20
_PIECE: Final = 1 << 22
_TEXT_KINDS: Final = ("tokenize", "detokenize")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a hidden sibling of *target* that takes its name when the block ends, and vanishes when the block raises.

    Raises `InvalidArgument` where *target* exists or its parent does not.
    """
    if os.path.lexists(target) or not target.parent.is_dir():
        expected = "a folder that does not exist yet, inside one that does"
        message = f"target is {target.name!r}, expected {expected}"
        raise InvalidArgument(message, field="target", value=target.name, expected=expected)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's folders are private; a model folder is not
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_source(source: Path, *, model: str) -> int:
    """Return the bytes of the checkpoint's weights; raise `ModelUnavailable` unless they are safetensors."""
    if not any((source / name).is_file() for name in _WEIGHTS):
        raise refusal(model, "weights", "missing", f"{' or '.join(_WEIGHTS)}: other forms can hold code")
    return sum(path.stat().st_size for path in source.glob("*.safetensors"))


def finish(folder: Path, source: Path, facts: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Add what is missing in *folder* and write its manifest; return the manifest.

    *facts* are what `llmos_optimum.child` reported of the checkpoint at *source*.
    """
    model = options.name or source.name
    card = _card(source)
    if card is not None:
        (folder / CARD).write_bytes(card)
    shutil.rmtree(folder / "optimum", ignore_errors=True)
    manifest = {
        "format": FORMAT,
        "name": model,
        "layout": facts["layout"],
        "architecture": facts["architecture"],
        "kinds": _kinds(facts),
        "context": _context(source, facts, options, model),
        "vocab": facts["vocab"],
        "weights": options.weights,
        "files": {path.name: _entry(path) for path in sorted(folder.iterdir())},
        "tokens": facts["tokens"],
        "generation": _generation(source, model),
        "chat_template": facts["chat_template"],
        "encoder": None,
        "cache": facts.get("cache"),
        "licence": options.licence or _licence(card),
        "source": source.name,
        "exporter": facts["exporter"],
    }
    if "encoder" in facts:
        manifest["encoder"] = {**read_pooling(source, model=model), **facts["encoder"]}
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _kinds(facts: Mapping[str, Any]) -> list[str]:
    if facts["layout"] == "encoder":
        return ["classify" if facts["encoder"]["labels"] else "embed", *_TEXT_KINDS]
    return [*(["chat"] if facts["chat_template"] else []), "generate", *_TEXT_KINDS]


def _context(source: Path, facts: Mapping[str, Any], options: Options, model: str) -> int:
    longest = facts["context"]
    if options.context is not None:
        if longest is not None and options.context > longest:
            expected = f"at most {longest}, the checkpoint's own limit"
            message = f"option context is {options.context}, expected {expected}"
            raise InvalidArgument(message, field="context", value=options.context, expected=expected)
        return options.context
    if longest is None:
        raise refusal(model, "config.json: max_position_embeddings", "missing", "the option context: -o context=2048")
    recommended = read_longest(source, model=model) if facts["layout"] == "encoder" else None
    return int(min(longest, recommended or longest))


def _generation(source: Path, model: str) -> dict[str, Any]:
    stated = read_json(source, GENERATION, model=model)
    stated = stated if isinstance(stated, dict) else {}
    return {name: stated.get(name) for name in _GENERATION_KEYS}


def _entry(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _card(source: Path) -> bytes | None:
    path = source / CARD
    return path.read_bytes() if path.is_file() and path.stat().st_size <= _MOST_CARD else None


def _licence(card: bytes | None) -> str:
    """Return the licence that the card's heading names."""
    heading = re.match(r"---\n(.*?)\n---", (card or b"").decode("utf-8", "replace"), re.DOTALL)
    named = re.search(r"^license:\s*([\w.+-]{1,200})\s*$", heading[1], re.MULTILINE) if heading else None
    return named[1] if named else "unknown"
