"""A folder of onnxruntime-genai's builder that is not what it says is refused, by one error that names the place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.genai import GENAI_CONFIG, GenaiManifest
from llmos_onnx.genai_check import check_genai
from llmos_onnx.manifest import DATA, GRAPH
from plugins.onnx.tests.driver import load

WHOLE = Path(__file__).parent / "data" / "genai" / "fp32"
CONFIG = (WHOLE / GENAI_CONFIG).read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one's own, to break."""
    return shutil.copytree(WHOLE, tmp_path / "fp32")


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever creates a session fails the test."""

    def forbidden(*_: Any, **__: Any) -> Any:
        pytest.fail("the runtime has seen the graph")

    monkeypatch.setattr("llmos_onnx.genai_layout.open_bytes", forbidden)


def refused(folder: Path, **options: Any) -> ModelUnavailable:
    """Load the folder, which must fail, and return the error."""
    with pytest.raises(ModelUnavailable) as caught:
        load(folder, **options)
    return caught.value


def configured(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the configuration after *change*."""
    values = json.loads(CONFIG)
    change(values)
    return json.dumps(values).encode()


def put(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Return a change that puts *value* at the dotted *path*."""
    *parents, last = path.split(".")

    def change(values: dict[str, Any]) -> None:
        for parent in parents:
            values = values[parent]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("model.vision", {}, "one of"),
        ("engine", {"dynamic_batching": {}}, "one of model, search"),
        ("model.decoder.pipeline", [], "one of"),
        ("model.vocab_size", 0, "an integer within 1"),
        ("model.vocab_size", "320", "an integer within 1"),
        ("model.context_length", 1 << 40, "an integer within 2"),
        ("model.decoder.num_key_value_heads", 3, "a divisor of the 2 attention heads"),
        ("model.decoder.num_hidden_layers", True, "an integer within 1"),
        ("model.decoder.filename", "../model.onnx", "the plain name of an .onnx file"),
        ("model.decoder.filename", "/model.onnx", "the plain name of an .onnx file"),
        ("model.decoder.filename", "model.bin", "the plain name of an .onnx file"),
        ("model.decoder.inputs.past_key_names", "past.key", "a name with one %d for the layer"),
        ("model.decoder.inputs.past_key_names", "past.%d.%d", "a name with one %d for the layer"),
        ("model.decoder.inputs.past_value_names", "past_key_values.%d.key", "another name than past_key_names"),
        ("model.decoder.inputs.block_table", "block_table", "one of"),
        ("model.decoder.inputs.attention_mask", None, "a string"),
        ("model.decoder.sliding_window", {"window_size": 4}, "false: the engine keeps the cache of every position"),
        ("model.eos_token_id", [1, 320], "a list of at most 64 integers within 0 … 319"),
        ("model.bos_token_id", -1, "an integer within 0 … 319"),
        ("search.do_sample", 1, "true or false"),
    ],
)
def test_configuration(path: str, value: object, expected: str) -> None:
    """A field that is not right is named, with what it is and what would be right."""
    with pytest.raises(ModelUnavailable) as caught:
        GenaiManifest.from_json(configured(put(path, value)), model="m")

    assert path.rpartition(".")[2] in caught.value.message
    assert expected in caught.value.message


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_configuration_at_random(data: st.DataObject) -> None:
    """Whatever stands in the place of any value, the configuration is read or refused, and nothing else happens."""
    values = json.loads(CONFIG)
    places = [(inner, key) for inner in _objects(values) for key in inner]
    inner, key = data.draw(st.sampled_from(places))
    scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    inner[key] = data.draw(scalar | st.lists(scalar, max_size=3) | st.dictionaries(st.text(max_size=3), scalar))
    try:
        manifest = GenaiManifest.from_json(json.dumps(values).encode(), model="m")
    except ModelUnavailable:
        return

    assert manifest.heads % manifest.kv_heads == 0


def _objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [found for value in values.values() if isinstance(value, dict) for found in _objects(value)]
    return [values, *inner]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"model": 1, "model": 2}', b"[" * 100_000, b"\xff", b"x" * (1 << 21)]
)
def test_configuration_that_is_none(content: bytes) -> None:
    """What is not one JSON object of at most 1 MiB is refused."""
    with pytest.raises(ModelUnavailable, match=GENAI_CONFIG):
        GenaiManifest.from_json(content, model="m")


def changed(change: Callable[[ModelProto], object]) -> bytes:
    """Return the whole folder's graph after *change*."""
    model = ModelProto.FromString((WHOLE / GRAPH).read_bytes())
    change(model)
    return bytes(model.SerializeToString())


def node(model: ModelProto, op: str, at: int = 0) -> NodeProto:
    """Return the node number *at* of the operator *op*."""
    return [node for node in model.graph.node if node.op_type == op][at]


def attribute(name: str, value: int) -> Callable[[ModelProto], object]:
    """Return a change that sets the attribute *name* of the first attention node."""

    def change(model: ModelProto) -> None:
        attention = node(model, "GroupQueryAttention")
        kept = [item for item in attention.attribute if item.name != name]
        del attention.attribute[:]
        attention.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def inputs(op: str, at: int, place: int, name: str) -> Callable[[ModelProto], object]:
    """Return a change that gives another input to a node."""

    def change(model: ModelProto) -> None:
        node(model, op, at).input[place] = name

    return change


def masked(model: ModelProto) -> None:
    """Let something else read the mask."""
    model.graph.node.append(helper.make_node("Cast", ["attention_mask"], ["spare"], to=TensorProto.FLOAT))


def without_attention(model: ModelProto) -> None:
    """Take the last attention node out."""
    model.graph.node.remove(node(model, "GroupQueryAttention", 1))


def short_tables(model: ModelProto) -> None:
    """Let the rotation know fewer positions than the context has."""
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "cos_cache")
    short = numpy_helper.from_array(np.ones((100, 8), np.float32), "cos_cache")
    table.CopyFrom(short)


def typed(model: ModelProto) -> None:
    """Declare one cache in half precision."""
    next(value for value in model.graph.input if value.name.endswith("1.key")).type.tensor_type.elem_type = 10


def typed_otherwise(model: ModelProto) -> None:
    """Declare every cache as integers."""
    for value in model.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32


def elsewhere(model: ModelProto) -> None:
    """Name another file for a tensor."""
    tensor = model.graph.initializer[0]
    next(entry for entry in tensor.external_data if entry.key == "location").value = "../../secret"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (attribute("num_heads", 4), "2"),
        (attribute("kv_num_heads", 2), "1"),
        (attribute("qk_output", 1), "0"),
        (inputs("GroupQueryAttention", 0, 3, "past_key_values.1.key"), "read by one GroupQueryAttention"),
        (inputs("GroupQueryAttention", 0, 3, "past_key_values.0.value"), "read by one GroupQueryAttention"),
        (inputs("GroupQueryAttention", 0, 5, "/model/attn_mask_reformat/attn_mask_subgraph/Gather/Cast/output_0"),
         "Cast, Identity, ReduceSum"),
        (inputs("GroupQueryAttention", 0, 6, "cos_cache"), "Cast, Gather, Identity"),
        (inputs("GroupQueryAttention", 0, 9, "input_ids"), "no positions, bias or cache scales"),
        (masked, "read by ReduceSum and Shape only"),
        (without_attention, "2, one per layer"),
        (short_tables, "a stored table of at least 128 rows"),
        (typed, "one and the same type"),
        (elsewhere, DATA),
    ],
    ids=map(str, range(13)),
)  # fmt: skip
def test_graph(change: Callable[[ModelProto], object], expected: str) -> None:
    """A graph that the engine cannot drive as it does, or that is not bounded, is refused before a runtime sees it."""
    manifest = GenaiManifest.from_json(CONFIG, model="m")
    with pytest.raises(ModelUnavailable) as caught:
        check_genai(changed(change), manifest, (WHOLE / DATA).stat().st_size, model="m")

    assert expected in caught.value.message


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("name", [GRAPH, DATA, "tokenizer.json", GENAI_CONFIG])
def test_links(folder: Path, name: str) -> None:
    """A file that is a link is refused, whatever it leads to."""
    (folder / name).unlink()
    (folder / name).symlink_to(WHOLE / name)

    assert name in refused(folder).message


@pytest.mark.usefixtures("no_runtime")
def test_tokenizer_of_another_model(folder: Path) -> None:
    """A tokenizer whose ordinary words have ids beyond the vocabulary is refused."""
    values = json.loads((folder / GENAI_CONFIG).read_text("utf-8"))
    values["model"]["vocab_size"] = 300
    (folder / GENAI_CONFIG).write_text(json.dumps(values), encoding="utf-8")

    assert "token id" in refused(folder).message


@pytest.mark.usefixtures("no_runtime")
def test_cuda(folder: Path) -> None:
    """Asked for CUDA, a folder of single precision is refused, not run elsewhere."""
    assert "half precision" in refused(folder, provider="cuda").message


def see_each_other(model: ModelProto) -> None:
    """Let the rows of a batch see each other: their logits lose what they have in common."""
    last = model.graph.node[-1]
    last.output[0] = "own"
    axes = numpy_helper.from_array(np.array([0], np.int64), "axis")
    model.graph.initializer.append(axes)
    model.graph.node.append(helper.make_node("ReduceMean", ["own", "axis"], ["common"], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", ["own", "common"], ["logits"]))


def fewer_positions(model: ModelProto) -> None:
    """Declare logits for the last position only, and give them for all."""
    dimension = model.graph.output[0].type.tensor_type.shape.dim[1]
    dimension.Clear()
    dimension.dim_value = 1
    del model.graph.value_info[:]


def shorter_rows(model: ModelProto) -> None:
    """Let each row be shorter by five tokens than the mask says."""
    subtract = node(model, "Sub")
    model.graph.initializer.append(numpy_helper.from_array(np.array([5], np.int64), "five"))
    subtract.input[1] = "five"


@pytest.mark.parametrize("change", [see_each_other, fewer_positions, shorter_rows])
def test_graph_that_lies(folder: Path, change: Callable[[ModelProto], object]) -> None:
    """What a graph's structure does not show, a short trial run does: it is refused when it is loaded."""
    (folder / GRAPH).write_bytes(changed(change))

    assert GRAPH in refused(folder, slots=2).message or "trial run" in refused(folder, slots=2).message


@pytest.mark.usefixtures("no_runtime")
def test_measure(folder: Path) -> None:
    """What the folder will take is known from the manifest, the graph's inputs and the sizes of its files."""
    footprint = OnnxBackend({}).measure(ModelSpec(name="m", backend="onnx", path=str(folder), options={"slots": 2}))

    assert (folder / DATA).stat().st_size < footprint.nbytes
    assert "cpu" == footprint.device


@pytest.mark.parametrize("content", [b"nothing", b"", changed(typed_otherwise)], ids=["bytes", "empty", "integers"])
def test_measure_of_what_is_none(folder: Path, content: bytes) -> None:
    """A graph without a cache of floating point is refused here already."""
    (folder / GRAPH).write_bytes(content)
    with pytest.raises(ModelUnavailable, match=GRAPH):
        OnnxBackend({}).measure(ModelSpec(name="m", backend="onnx", path=str(folder)))
