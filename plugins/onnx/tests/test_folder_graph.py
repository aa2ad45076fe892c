"""A graph whose hash is right may still be hostile: what the exporter would not write is refused before the runtime."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.folder import ModelFolder, open_folder, read_manifest
from llmos_onnx.graph_check import check_graph
from llmos_onnx.manifest import GRAPH, MANIFEST

Change = Callable[[ModelProto], object]


@pytest.fixture
def folder(model_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A model folder of one's own, to break."""
    return shutil.copytree(model_folder("nano", "w8a8"), tmp_path / "nano")


def open_with(folder: Path, content: bytes) -> ModelFolder:
    """Put *content* in the graph's place, with the right size and hash, and open the folder."""
    (folder / GRAPH).write_bytes(content)
    values = json.loads((folder / MANIFEST).read_text("utf-8"))
    values["files"][GRAPH] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    return open_folder(folder)


def refused(folder: Path, change: Change) -> ModelUnavailable:
    """Change the graph, open the folder, which must fail, and return the error."""
    model = ModelProto.FromString((folder / GRAPH).read_bytes())
    change(model)
    with pytest.raises(ModelUnavailable) as caught:
        open_with(folder, model.SerializeToString())
    return caught.value


def external(model: ModelProto) -> TensorProto:
    """Return the first tensor in the data file."""
    return next(tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL)


def set_entry(key: str, value: str) -> Change:
    """Change one entry of the first external tensor."""

    def change(model: ModelProto) -> None:
        next(entry for entry in external(model).external_data if entry.key == key).value = value

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("location", "../../etc/passwd"),
        ("location", "/etc/passwd"),
        ("location", "*/_ORT_MEM_ADDR_/*"),
        ("location", "model.onnx"),
        ("location", ""),
        ("offset", "-64"),
        ("offset", "999999999"),
        ("offset", "9" * 40),
        ("offset", "0x10"),
        ("offset", "٣"),
        ("length", "1"),
        ("length", "99999999999999999999"),
        ("key", "checksum"),
    ],
)
def test_external_data_is_the_declared_file_within_its_bounds(folder: Path, key: str, value: str) -> None:
    """Locations that climb, are absolute, are addresses or are other files, and offsets and lengths that lie."""
    if key == "key":
        error = refused(folder, lambda model: external(model).external_data.add(key=value, value="x"))
    else:
        error = refused(folder, set_entry(key, value))

    assert value.lower() in str(error).lower()
    assert str(error.fields["field"]).startswith("model.onnx: initializer ")


def test_tensors_do_not_share_bytes(folder: Path) -> None:
    """A small file cannot pose as many large tensors."""

    def twice(model: ModelProto) -> None:
        copy = TensorProto()
        copy.CopyFrom(external(model))
        copy.name = "copy"
        model.graph.initializer.append(copy)

    assert "offset" in str(refused(folder, twice).fields["field"])


def sparse(model: ModelProto) -> None:
    """Add a sparse tensor whose values lie elsewhere."""
    values = model.graph.sparse_initializer.add().values
    values.name, values.data_location = "sparse", TensorProto.EXTERNAL
    values.external_data.add(key="location", value="/etc/passwd")


def function(model: ModelProto) -> None:
    """Add a function that calls itself."""
    model.functions.add(name="Again", domain="x").node.append(helper.make_node("Again", [], [], domain="x"))


def subgraph(model: ModelProto) -> None:
    """Give a harmless operator a graph for an attribute."""
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def tensor_attribute(model: ModelProto) -> None:
    """Give a harmless operator a tensor for an attribute, with data elsewhere."""
    tensor = TensorProto(name="value", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../elsewhere")
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))


def operator(name: str, domain: str = "") -> Change:
    """Append a node of that operator."""

    def change(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node(name, ["input_ids"], ["more"], domain=domain))

    return change


def many_nodes(model: ModelProto) -> None:
    """Append ten thousand nodes."""
    model.graph.node.extend([model.graph.node[-1]] * 10_000)


def doubling(model: ModelProto) -> None:
    """Append constants that double with each node, which the runtime would compute while loading."""
    name = external(model).name
    for step in range(40):
        model.graph.node.append(helper.make_node("Concat", [name, name], [f"double_{step}"], axis=0))
        name = f"double_{step}"


def look_up(model: ModelProto) -> None:
    """Append a look-up by a constant, which the runtime would compute while loading."""
    name = external(model).name
    model.graph.node.append(helper.make_node("Gather", [name, name], ["more"]))


def inline(model: ModelProto) -> None:
    """Add a tensor of a megabyte within the graph."""
    model.graph.initializer.append(
        TensorProto(name="big", data_type=TensorProto.UINT8, dims=[1 << 20], raw_data=bytes(1 << 20))
    )


def typed_values(model: ModelProto) -> None:
    """Add a tensor with values in a typed field."""
    model.graph.initializer.append(helper.make_tensor("typed", TensorProto.FLOAT, [1], [1.0]))


def strings(model: ModelProto) -> None:
    """Add a tensor of strings."""
    model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"x"]))


def endless(model: ModelProto) -> None:
    """Add a tensor with a negative size."""
    model.graph.initializer.append(TensorProto(name="odd", data_type=TensorProto.UINT8, dims=[-1]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (sparse, "sparse_initializer"),
        (function, "functions"),
        (lambda model: model.training_info.add(), "training_info"),
        (lambda model: model.opset_import.add(domain="evil", version=1), "opset_import"),
        (subgraph, "attribute body"),
        (tensor_attribute, "attribute value"),
        (operator("EPContext", "com.microsoft"), "operator"),
        (operator("Anything", "evil.domain"), "operator"),
        (operator("DynamicQuantizeLinear"), "operator"),
        (operator("Loop"), "operator"),
        (many_nodes, "nodes"),
        (doubling, "Concat: inputs"),
        (look_up, "Gather: indices"),
        (inline, "initializer big: raw_data"),
        (typed_values, "initializer typed"),
        (strings, "initializer text: data_type"),
        (endless, "initializer odd: dims"),
        (lambda model: model.graph.initializer.append(model.graph.initializer[0]), "initializer"),
        (lambda model: model.graph.input.pop(), "inputs"),
        (lambda model: model.graph.input.append(model.graph.output[0]), "inputs"),
        (lambda model: model.graph.output.pop(0), "outputs"),
    ],
    ids=range(21),
)
def test_what_the_exporter_would_not_write_is_refused(folder: Path, change: Change, field: str) -> None:
    """Each is one typed error that names the part of the graph."""
    error = refused(folder, change)

    assert f"model.onnx: {field}" == error.fields["field"] or str(error.fields["field"]).endswith(f": {field}")


def test_dimensions_of_inputs_follow_the_manifest(folder: Path) -> None:
    """A cache of another width than the manifest says is refused."""

    def widen(model: ModelProto) -> None:
        model.graph.input[-1].type.tensor_type.shape.dim[3].dim_value = 17

    assert "model.onnx: inputs" == refused(folder, widen).fields["field"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_arbitrary_damage_is_the_typed_error_or_a_graph(data: st.DataObject, model_folder: Callable[..., Path]) -> None:
    """Whatever bytes change in a graph, the check refuses it in its own words or finds nothing wrong."""
    folder = model_folder("nano", "w8a8")
    content = bytearray((folder / GRAPH).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))

    try:
        check_graph(bytes(content), read_manifest(folder), model="any")
    except ModelUnavailable as error:
        named = {"model", "field", "value", "expected"} <= set(error.fields)
    else:
        named = True

    assert named
