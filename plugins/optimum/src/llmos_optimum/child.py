"""What runs in the other process, in an interpreter that has optimum and torch: ``python -I child.py REQUEST``.

Nothing of llmos is imported here, so that the interpreter need not have it.  REQUEST is a JSON object with ``source``
(the checkpoint's folder), ``target`` (an empty folder) and ``task``.  Messages go to the standard output, one JSON
object per line:

    {"progress": "what", "done": 1, "total": 4}
    {"refused": {"field": ..., "value": ..., "expected": ...}}      the checkpoint cannot be exported
    {"missing": "optimum"}                                          something is not installed here
    {"facts": {...}}                                                the last one: what was written

Whatever else is printed goes to the standard error.  When the standard input ends, whoever asked is gone: so is this.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"
# As optimum calls the graphs, and as a model folder does.
GRAPHS = {
    "model.onnx": "model.onnx",
    "encoder_model.onnx": "encoder.onnx",
    "decoder_model.onnx": "decoder.onnx",
    "decoder_with_past_model.onnx": "decoder_with_past.onnx",
}
STEPS = 4
SEQ2SEQ, CAUSAL, CLASSES, HIDDEN = (
    "text2text-generation-with-past", "text-generation-with-past", "text-classification", "feature-extraction",
)  # fmt: skip
"""optimum's words for what to export."""
# Encoders whose positions begin after the padding token's.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "xmod")
# What configurations call the length of their table of positions, besides max_position_embeddings.
POSITIONS = ("n_positions", "max_seq_len", "seq_length")
LONGEST = 1 << 20
LEAST_EXTERNAL = 1024
HABITUAL = 512
"""Tokens of a source where positions are relative and nothing says how many."""
Ports = Mapping[str, list[int]]
"""The dimensions of a graph's inputs and outputs; 0 where the run says them."""


class Refused(Exception):
    """The checkpoint cannot be exported: *field* is *value*, and *expected* would be right."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} is {value}, expected {expected}")
        self.facts = {"field": field, "value": str(value)[:200], "expected": expected}


def main() -> int:
    """Do what the command line asks; return the exit status."""
    request = json.loads(sys.argv[1])
    # Libraries print; only messages go to whoever asked.
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def tell(**message: object) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    def progress(what: str, done: int) -> None:
        tell(progress=what, done=done, total=STEPS)

    try:
        progress("starting torch", 0)
        facts = export(Path(request["source"]), Path(request["target"]), request["task"], progress)
    except Refused as error:
        tell(refused=error.facts)
        return 1
    except ModuleNotFoundError as error:
        tell(missing=error.name)
        return 1
    tell(facts=facts)
    return 0


def _die_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held when the interpreter ends
        pass
    os._exit(1)


def export(source: Path, target: Path, task: str, progress: Callable[[str, int], None]) -> dict[str, Any]:
    """Write graphs, their data and the tokenizer into *target*, and return what the manifest needs to know."""
    import torch  # noqa: PLC0415 - seconds, after the first message
    import transformers  # noqa: PLC0415 - the same
    from optimum.exporters.onnx import main_export  # noqa: PLC0415 - the same

    torch.manual_seed(0)
    config = _config(source)
    kind = _kind(config, task)
    _check_supported(config, kind)
    tokenizer = _tokenizer(source)
    raw = target / "optimum"
    progress("exporting with optimum", 1)
    main_export(
        str(source), output=str(raw), task=kind, library_name="transformers", no_post_process=True,
        do_validation=False, device="cpu", local_files_only=True, trust_remote_code=False,
    )  # fmt: skip
    progress("writing graphs", 2)
    ports = {GRAPHS[name]: _rewrite(raw / name, target, GRAPHS[name]) for name in GRAPHS if (raw / name).exists()}
    progress("writing the tokenizer", 3)
    (target / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    facts = {
        "architecture": config.model_type,
        "tokens": _tokens(source, config, tokenizer),
        "chat_template": tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
        "context": _context(config, tokenizer),
        "exporter": f"optimum-onnx {version('optimum-onnx')}, transformers {transformers.__version__}",
        **_layout(config, ports, kind),
    }
    progress("done", STEPS)
    return facts


def _config(source: Path) -> Any:  # noqa: ANN401 - of a library that is not here
    import transformers  # noqa: PLC0415 - see `export`

    try:
        return transformers.AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        expected = f"an architecture that transformers {transformers.__version__} knows, and no code of its own"
        raise Refused("config.json", str(error).strip().partition("\n")[0], expected) from error


def _kind(config: Any, task: str) -> str:  # noqa: ANN401 - of a library that is not here
    """Return optimum's word for what to export."""
    from transformers.models.auto import modeling_auto as names  # noqa: PLC0415 - see `export`

    listed = config.architectures or []
    known = {
        SEQ2SEQ: names.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        CAUSAL: names.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        CLASSES: names.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    asked = {"generate": SEQ2SEQ if config.is_encoder_decoder else CAUSAL, "classify": CLASSES, "embed": HIDDEN}
    found = (kind for kind, table in known.items() if listed and listed[0] in table.values())
    kind = next(found, HIDDEN) if task == "auto" else asked[task]
    if config.is_encoder_decoder and kind != SEQ2SEQ:
        expected = "a model that writes: of an encoder and a decoder, neither is exported without the other"
        raise Refused("config.json: architectures", listed, expected)
    return kind


def _check_supported(config: Any, kind: str) -> None:  # noqa: ANN401 - of a library that is not here
    import optimum.exporters.onnx.model_configs  # noqa: F401, PLC0415 - tells the manager what can be exported
    from optimum.exporters.tasks import TasksManager  # noqa: PLC0415 - see `export`

    try:
        supported = TasksManager.get_supported_tasks_for_model_type(
            config.model_type, "onnx", library_name="transformers"
        )
    except KeyError:
        raise Refused("config.json: model_type", config.model_type, "an architecture that optimum exports") from None
    if kind not in supported:
        expected = f"a task that optimum exports {config.model_type} for: {', '.join(sorted(supported))}"
        raise Refused("task", kind, expected)


def _tokenizer(source: Path) -> Any:  # noqa: ANN401 - of a library that is not here
    import transformers  # noqa: PLC0415 - see `export`

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise Refused(TOKENIZER, f"{type(error).__name__}: {error}", "a tokenizer that transformers reads") from error
    if not tokenizer.is_fast:
        raise Refused(TOKENIZER, "none", f"a tokenizer with a fast form, kept in {TOKENIZER}")
    return tokenizer


def _rewrite(path: Path, target: Path, name: str) -> Ports:
    """Write the graph at *path* as *name* with its tensors beside it; return its inputs and outputs."""
    import onnx  # noqa: PLC0415 - see `export`
    from onnx.external_data_helper import convert_model_to_external_data  # noqa: PLC0415 - the same

    model = onnx.load(str(path))
    data = target / f"{name}.data"
    data.touch()
    convert_model_to_external_data(
        model, all_tensors_to_one_file=True, location=data.name, size_threshold=LEAST_EXTERNAL
    )
    onnx.save_model(model, str(target / name))
    path.unlink()
    ports = (*model.graph.input, *model.graph.output)
    return {port.name: [size.dim_value for size in port.type.tensor_type.shape.dim] for port in ports}


def _layout(config: Any, graphs: Mapping[str, Ports], kind: str) -> dict[str, Any]:  # noqa: ANN401 - see `_kind`
    """Return what the backend needs to know of *graphs*, by their names."""
    if kind == SEQ2SEQ:
        first = graphs["decoder.onnx"]
        sizes = {"prefix": _prefix(config), "width": graphs["encoder.onnx"]["last_hidden_state"][2]}
        cache = {**_cache(first, "present.{}.decoder.key"), **sizes}
        return {"layout": "seq2seq", "vocab": first["logits"][2], "cache": cache}
    graph = graphs["model.onnx"]
    if kind == CAUSAL:
        cache = {**_cache(graph, "present.{}.key"), "prefix": [], "width": 0}
        return {"layout": "decoder", "vocab": graph["logits"][2], "cache": cache}
    labels = [config.id2label[at] for at in range(config.num_labels)] if kind == CLASSES else []
    scores = "sigmoid" if config.problem_type == "multi_label_classification" else "softmax"
    width = len(labels) or graph["last_hidden_state"][2] or config.hidden_size
    encoder = {"width": width, "labels": labels, "scores": scores}
    return {"layout": "encoder", "vocab": config.vocab_size, "encoder": encoder}


def _cache(graph: Ports, names: str) -> dict[str, int]:
    layers = 0
    while names.format(layers) in graph:
        layers += 1
    if not layers:
        raise Refused("graph: outputs", sorted(graph), f"keys and values as {names.format(0)}")
    shapes = {tuple(graph[names.format(layer)]) for layer in range(layers)}
    shape = min(shapes)
    if len(shapes) > 1 or len(shape) != 4 or not (shape[1] and shape[3]):
        raise Refused("graph: keys", sorted(shapes), "the same heads and sizes in each layer")
    return {"layers": layers, "kv_heads": shape[1], "head_dim": shape[3]}


def _prefix(config: Any) -> list[int]:  # noqa: ANN401 - of a library that is not here
    """Return what answers begin with: the start token, and one that the model's makers force to follow."""
    start = config.decoder_start_token_id
    if start is None:
        raise Refused("config.json: decoder_start_token_id", "missing", "the token that answers begin with")
    forced = getattr(config, "forced_bos_token_id", None)
    return [start] if forced is None else [start, forced]


def _tokens(source: Path, config: Any, tokenizer: Any) -> dict[str, Any]:  # noqa: ANN401 - see `_kind`
    stated = config.eos_token_id
    path = source / "generation_config.json"
    if path.is_file():
        stated = json.loads(path.read_text("utf-8")).get("eos_token_id", stated)
    eos = dict.fromkeys(stated if isinstance(stated, list) else [stated])
    eos[tokenizer.eos_token_id] = None
    bos = tokenizer.bos_token_id
    adds = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    ends = [id for id in eos if id is not None]
    return {"bos": bos, "eos": ends, "pad": tokenizer.pad_token_id, "add_bos": adds}


def _context(config: Any, tokenizer: Any) -> int | None:  # noqa: ANN401 - of libraries that are not here
    """Return the most tokens of a sequence: of the source and the answer together where an encoder reads the source."""
    table = getattr(config, "max_position_embeddings", None)
    stated = (getattr(config, name, None) for name in POSITIONS)
    positions = table or next(filter(None, stated), None)
    if config.model_type in OFFSET_POSITIONS and positions:
        positions -= (config.pad_token_id or 0) + 1
    limits: list[int] = [size for size in (positions, tokenizer.model_max_length) if size and size <= LONGEST]
    if config.is_encoder_decoder and table is None:
        return 2 * min([*limits, HABITUAL])  # positions are relative, and the limit of each side is one of habit
    return min(limits, default=None)


if __name__ == "__main__":
    sys.exit(main())
