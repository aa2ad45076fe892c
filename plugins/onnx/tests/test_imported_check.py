"""A graph that another exporter wrote is bounded, or refused before the runtime sees it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Plan
from llmos_kernel.errors import ModelUnavailable
from llmos_onnx import imported_folder
from llmos_onnx.backend import OnnxBackend
from llmos_onnx.encoder import EncoderExecutor, contract
from llmos_onnx.export import export_folder
from llmos_onnx.imported import EncoderFacts
from llmos_onnx.imported_check import check_imported
from llmos_onnx.manifest import DATA, GRAPH, MANIFEST
from llmos_onnx.options import ExportOptions
from plugins.onnx.tests.encoder_writer import EncoderRecipe, write_encoder_checkpoint

Change = Callable[[ModelProto], object]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder's folder; it is shared: do not change it."""
    root = tmp_path_factory.mktemp("imported")
    source = write_encoder_checkpoint(root / "source", EncoderRecipe(pooling="mean_tokens"))
    export_folder(source, root / "encoder", ExportOptions())
    return root / "encoder"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A folder of one's own, to break."""
    return shutil.copytree(exported, tmp_path / "encoder")


def load(folder: Path) -> EncoderExecutor:
    """Load the folder."""
    executor = OnnxBackend({"threads": 1}).load(ModelSpec(name="m", backend="onnx", path=str(folder)))
    assert isinstance(executor, EncoderExecutor)
    return executor


def edit(folder: Path, change: Change) -> None:
    """Change the graph, and its size and hash in the manifest."""
    model = ModelProto.FromString((folder / GRAPH).read_bytes())
    change(model)
    content = model.SerializeToString()
    (folder / GRAPH).write_bytes(content)
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    values["files"][GRAPH] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever creates a session fails the test."""

    def forbidden(*_: Any, **__: Any) -> Any:
        pytest.fail("the runtime has seen the graph")

    monkeypatch.setattr("llmos_onnx.encoder.open_session", forbidden)


def refused(folder: Path) -> ModelUnavailable:
    """Load the folder, which must fail, and return the error."""
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert {"model", "field", "value", "expected"} <= set(caught.value.fields)
    return caught.value


def external(model: ModelProto) -> TensorProto:
    """Return the first tensor in the data file."""
    return next(tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL)


def entry(key: str, value: str) -> Change:
    """Change one entry of the first external tensor."""

    def change(model: ModelProto) -> None:
        next(entry for entry in external(model).external_data if entry.key == key).value = value

    return change


def node(name: str, inputs: list[str], domain: str = "", **attributes: Any) -> Change:
    """Append a node whose output nobody reads."""
    return lambda model: model.graph.node.append(helper.make_node(name, inputs, ["more"], domain=domain, **attributes))


def subgraph(model: ModelProto) -> None:
    """Give a harmless operator a graph for an attribute."""
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))


def elsewhere(model: ModelProto) -> None:
    """Append a constant whose values lie in another file."""
    tensor = TensorProto(name="value", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["more"], value=tensor))


def sparse(model: ModelProto) -> None:
    """Add a sparse tensor whose values lie elsewhere."""
    values = model.graph.sparse_initializer.add().values
    values.name, values.data_location = "sparse", TensorProto.EXTERNAL
    values.external_data.add(key="location", value="/etc/passwd")


def function(model: ModelProto) -> None:
    """Add a function that calls itself."""
    model.functions.add(name="Again", domain="x").node.append(helper.make_node("Again", [], [], domain="x"))


def twice(model: ModelProto) -> None:
    """Let two tensors have the same bytes."""
    copy = TensorProto()
    copy.CopyFrom(external(model))
    copy.name = "copy"
    model.graph.initializer.append(copy)


def add_tensor(model: ModelProto, name: str, values: Any) -> None:
    """Store a small tensor of integers."""
    array = np.array(values, np.int64)
    model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, array.shape, array.ravel().tolist()))


def sized(op: str, sizes: list[int]) -> Change:
    """Append an operator that makes a tensor of the *sizes*."""

    def change(model: ModelProto) -> None:
        add_tensor(model, "sizes", sizes)
        inputs = ["sizes"] if op == "ConstantOfShape" else [external(model).name, "sizes"]
        model.graph.node.append(helper.make_node(op, inputs, ["more"]))

    return change


def endless(model: ModelProto) -> None:
    """Append a count to ten to the twelve."""
    for name, value in (("start", 0), ("stop", 10**12), ("step", 1)):
        add_tensor(model, name, value)
    model.graph.node.append(helper.make_node("Range", ["start", "stop", "step"], ["more"]))


def doubling(model: ModelProto) -> None:
    """Append constants that double with each node, which the runtime would compute while loading."""
    name = external(model).name
    for step in range(40):
        model.graph.node.append(helper.make_node("Concat", [name, name], [f"double_{step}"], axis=0))
        name = f"double_{step}"


def outer(model: ModelProto) -> None:
    """Append the product of a column and a row, each of ten thousand."""
    for name, shape in (("column", [10_000, 1]), ("row", [1, 10_000])):
        model.graph.initializer.append(
            TensorProto(name=name, data_type=TensorProto.UINT8, dims=shape, raw_data=bytes(10_000))
        )
    model.graph.node.append(helper.make_node("Add", ["column", "row"], ["more"]))


def short(model: ModelProto) -> None:
    """Add a tensor with fewer values than its dimensions say."""
    model.graph.initializer.append(
        TensorProto(name="short", data_type=TensorProto.FLOAT, dims=[1000], raw_data=bytes(4))
    )


def many_nodes(model: ModelProto) -> None:
    """Append more nodes than any model has."""
    model.graph.node.extend([helper.make_node("Identity", ["input_ids"], ["more"])] * 100_001)


def narrow(model: ModelProto) -> None:
    """Declare another width than the manifest."""
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 31


def fixed_batch(model: ModelProto) -> None:
    """Declare inputs of one row."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


HOSTILE: dict[str, tuple[Change, str]] = {
    "climbs": (entry("location", "../../etc/passwd"), "location"),
    "absolute": (entry("location", "/etc/passwd"), "location"),
    "address": (entry("location", "*/_ORT_MEM_ADDR_/*"), "location"),
    "own graph": (entry("location", GRAPH), "location"),
    "offset negative": (entry("offset", "-64"), "offset"),
    "offset beyond": (entry("offset", "999999999"), "offset"),
    "offset huge": (entry("offset", "9" * 40), "offset"),
    "length lies": (entry("length", "1"), "length"),
    "more keys": (lambda model: external(model).external_data.add(key="checksum", value="x"), "external_data"),
    "shared bytes": (twice, "offset"),
    "sparse": (sparse, "sparse_initializer"),
    "function": (function, "functions"),
    "training": (lambda model: model.training_info.add(), "training_info"),
    "domain": (lambda model: model.opset_import.add(domain="evil", version=1), "opset_import"),
    "old operators": (lambda model: setattr(model.opset_import[0], "version", 1), "opset_import"),
    "subgraph": (subgraph, "attribute body"),
    "constant elsewhere": (elsewhere, "attribute value"),
    "loop": (node("Loop", ["input_ids"]), "operator"),
    "if": (node("If", ["input_ids"]), "operator"),
    "scan": (node("Scan", ["input_ids"]), "operator"),
    "engine": (node("EPContext", ["input_ids"], "com.microsoft"), "operator"),
    "python": (node("PyOp", ["input_ids"], "ai.onnx.contrib"), "operator"),
    "long word": (node("Gelu", ["input_ids"], approximate="x" * 1000), "attribute approximate"),
    "name taken": (lambda model: model.graph.node.append(model.graph.node[0]), "outputs"),
    "many nodes": (many_nodes, "nodes"),
    "tile": (sized("Tile", [1 << 20, 1 << 20]), "size"),
    "expand": (sized("Expand", [1 << 20, 1 << 20, 1]), "size"),
    "fill": (sized("ConstantOfShape", [1 << 40]), "size"),
    "range": (endless, "size"),
    "doubling": (doubling, "size"),
    "outer": (outer, "size"),
    "short": (short, "values"),
    "negative": (
        lambda model: model.graph.initializer.append(TensorProto(name="odd", data_type=TensorProto.UINT8, dims=[-1])),
        "dims",
    ),
    "strings": (
        lambda model: model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"])),
        "data_type",
    ),
    "doubled name": (lambda model: model.graph.initializer.append(model.graph.initializer[0]), "initializer"),
    "input missing": (lambda model: model.graph.input.pop(0), "inputs"),
    "input more": (
        lambda model: model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, ["any"])),
        "inputs",
    ),
    "output missing": (lambda model: model.graph.output.pop(), "outputs"),
    "width lies": (narrow, "shape"),
    "one row": (fixed_batch, "shape"),
}


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs(folder: Path, name: str) -> None:
    """Each is one typed error that names the part of the graph, before a session is created."""
    change, field = HOSTILE[name]
    edit(folder, change)

    found = str(refused(folder).fields["field"])

    assert found.startswith(f"{GRAPH}: ")
    assert field in found


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("name", [MANIFEST, GRAPH, DATA, "tokenizer.json"])
def test_links_and_flipped_bits(folder: Path, name: str) -> None:
    """A file that is a link, or differs in one bit from what was exported, is refused."""
    content = bytearray((folder / name).read_bytes())
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    assert name in str(refused(folder).fields["field"])

    (folder / name).unlink()
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    if name != MANIFEST:
        assert f"{name}: sha256" == refused(folder).fields["field"]


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("layout", "vision"),
        ("layout", "decoder"),
        ("kinds", ["generate"]),
        ("kinds", ["embed", "chat"]),
        ("context", 1),
        ("vocab", 2**40),
        ("format", 2),
        ("more", 1),
        ("files", {}),
        ("encoder", None),
        ("cache", {"layers": 1}),
        ("encoder: width", 0),
        ("encoder: pooling", "median"),
        ("encoder: labels", ["a"]),
        ("encoder: labels", ["a"] * 32),
        ("tokens: pad", 10**6),
    ],
    ids=str,
)
def test_a_wrong_manifest_names_its_field(folder: Path, place: str, value: object) -> None:
    """Unknown layouts, kinds, numbers out of range, and records of another layout."""
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    *outer, last = place.split(": ")
    inner = values
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")

    error = refused(folder)

    assert str(error.fields["field"]).startswith(MANIFEST)
    assert last in str(error) or place == "layout"


@pytest.mark.usefixtures("no_runtime")
def test_a_tokenizer_beyond_the_vocabulary(folder: Path) -> None:
    """Ids that the model does not have are refused when the folder is opened."""
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    values["vocab"] = 10
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")

    assert "tokenizer.json: token id" == refused(folder).fields["field"]


def test_a_shape_that_lies_is_found_when_loading(folder: Path) -> None:
    """A graph that leaves its width open and gives another than the manifest is refused by its trial run."""

    def lie(model: ModelProto) -> None:
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "any"
        last = model.graph.node[-1]
        last.input[0], hidden = "both", last.input[0]
        model.graph.node.insert(
            len(model.graph.node) - 1, helper.make_node("Concat", [hidden, hidden], ["both"], axis=-1)
        )

    edit(folder, lie)

    assert "last_hidden_state" in str(refused(folder).fields["field"])


def test_what_grows_with_its_inputs_is_an_error(folder: Path) -> None:
    """A graph that asks for more memory than imported graphs may have fails, and the process lives on."""

    def bomb(model: ModelProto) -> None:
        add_tensor(model, "huge", [1 << 17, 1 << 17])
        last = model.graph.node[-1]
        hidden, last.input[0] = last.input[0], "tail"
        at = len(model.graph.node) - 1
        for offset, made in enumerate(
            (
                helper.make_node("Mul", ["shape_ids", "huge"], ["much"]),
                helper.make_node("ConstantOfShape", ["much"], ["full"]),
                helper.make_node("ReduceMax", ["full"], ["peak"], keepdims=0),
                helper.make_node("Add", [hidden, "peak"], ["tail"]),
            )
        ):
            model.graph.node.insert(at + offset, made)

    edit(folder, bomb)

    assert imported_folder.ARENA_BYTES < 1 << 34
    assert GRAPH == refused(folder).fields["field"]


def test_an_id_beyond_the_table_is_an_error(exported: Path, tmp_path: Path) -> None:
    """A manifest that promises more ids than the graph has gives typed errors, and the next text is served."""
    folder = shutil.copytree(exported, tmp_path / "encoder")
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"]["beyond"] = 5000
    content = json.dumps(tokenizer).encode()
    (folder / "tokenizer.json").write_bytes(content)
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    values["files"]["tokenizer.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    values["vocab"] = 6000
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    executor = load(folder)
    for id, text in enumerate(("beyond", "the cat")):
        executor.prepare(id, Task("embed", None, text))
        executor.admit(id)

    with pytest.raises(ModelUnavailable, match="failed"):
        executor.step(Plan(prefill=((0, 3),)))
    (served,) = executor.step(Plan(prefill=((1, 4),)))

    assert "stop" == served.finish


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_arbitrary_damage_is_the_typed_error_or_a_graph(data: st.DataObject, exported: Path) -> None:
    """Whatever bytes change in a graph, the check refuses it in its own words or finds nothing wrong."""
    content = bytearray((exported / GRAPH).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    inputs, outputs = contract(EncoderFacts(width=32))
    size = (exported / DATA).stat().st_size

    try:
        check_imported(
            bytes(content), graph=GRAPH, data=DATA, data_size=size, inputs=inputs, outputs=outputs, model="any"
        )
    except ModelUnavailable as error:
        named = {"model", "field", "value", "expected"} <= set(error.fields)
    else:
        named = True

    assert named
