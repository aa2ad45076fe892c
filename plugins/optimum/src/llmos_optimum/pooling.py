"""What sentence-transformers' files beside a checkpoint say of making one vector of many positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from llmos_kernel.errors import ModelUnavailable

_MODULES: Final = "modules.json"
_POOLING: Final = "1_Pooling/config.json"
_SETTINGS: Final = "sentence_bert_config.json"
_KEYS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_MOST_BYTES: Final = 1 << 20


def read_pooling(source: Path, *, model: str) -> dict[str, Any]:
    """Return ``pooling`` and ``normalize``: the mean as it is, where the checkpoint at *source* has no such files.

    Raises `ModelUnavailable` for modules that no executor has.
    """
    modules = read_json(source, _MODULES, model=model)
    if modules is None:
        return {"pooling": "mean", "normalize": False}
    kinds = [str(item.get("type")).rpartition(".")[2] for item in modules if isinstance(item, dict)]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise refusal(model, _MODULES, kinds, "Transformer, Pooling, and perhaps Normalize")
    pooling = read_json(source, _POOLING, model=model) or {}
    chosen = [key for key, value in dict(pooling).items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _KEYS:
        raise refusal(model, _POOLING, chosen, f"exactly one of {', '.join(_KEYS)}")
    return {"pooling": _KEYS[chosen[0]], "normalize": "Normalize" in kinds}


def read_longest(source: Path, *, model: str) -> int | None:
    """Return the most tokens of a text that the model's makers recommend, where they say it."""
    settings = read_json(source, _SETTINGS, model=model)
    longest = settings.get("max_seq_length") if isinstance(settings, dict) else None
    return longest if isinstance(longest, int) and longest > 1 else None


def read_json(source: Path, name: str, *, model: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the content of the JSON file *name*, None where there is none; raise `ModelUnavailable` for bad JSON."""
    path = source / name
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise refusal(model, name, f"more than {_MOST_BYTES} bytes", "a small file")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refusal(model, name, str(error), "JSON") from error


def refusal(model: str, field: str, value: object, expected: str) -> ModelUnavailable:
    """Return the error for *field* of the checkpoint of *model*."""
    message = f"{model!r}: {field} is {value!r:.200}, expected {expected}"
    return ModelUnavailable(message, model=model, field=field, value=value, expected=expected)
