"""Half precision: for GPUs, and it is as far from single precision as rounding puts it, also where the CPU runs it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.export import export_folder, export_model
from llmos_onnx.folder import open_folder, read_manifest
from llmos_onnx.manifest import Manifest
from llmos_onnx.options import ExportOptions
from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES, tensors, write_safetensors
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.encoder_writer import EncoderRecipe, write_encoder_checkpoint
from plugins.onnx.tests.numpy_decoder import NumpyDecoder
from plugins.onnx.tests.plain_loop import PlainLoop
from plugins.onnx.tests.test_export_formats import LONG, distance

STEP = 2.0**-11
"""Half precision rounds a number by at most this share of it."""
WIDE = ("nano-gemma", "nano-gemma2", "nano-gemma3", "nano-granite")
"""Models whose residual stream is kept in single precision."""


@pytest.mark.parametrize("name", NANO)
def test_rounding_explains_the_error(name: str, model_folder: Callable[..., Path]) -> None:
    """Logits are no farther from single precision than 1.6 times what rounding products and embeddings makes of them.

    Cosines, scores, shares, activations, norms and, for most, the residual stream are rounded as well: products are
    most of it, and all of it together is a few steps of half precision.
    """
    exact = NumpyDecoder.of(RECIPES[name], "fp32").logits(LONG)
    rounded = NumpyDecoder.of(RECIPES[name], "fp16").logits(LONG)

    found = PlainLoop(model_folder(name, "fp16")).logits(LONG)

    assert distance(found, exact) <= 1.6 * distance(rounded, exact)
    assert distance(found, exact) <= 8 * STEP


def kinds(path: Path, op: str) -> set[str]:
    """Return the types of the weights that nodes of one kind have."""
    graph = onnx.ModelProto.FromString(open_folder(path).graph).graph
    stored = {tensor.name: onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name for tensor in graph.initializer}
    return {stored[node.input[1]] for node in graph.node if node.op_type == op}


@pytest.mark.parametrize("name", NANO)
def test_what_is_half(name: str, model_folder: Callable[..., Path]) -> None:
    """Matrices and cache are, logits are not, and the residual stream is not where embeddings are scaled up."""
    path = model_folder(name, "fp16")
    folder, graph = open_folder(path), onnx.ModelProto.FromString(open_folder(path).graph).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    heads = {"float16"} if "qwen3" in name or "gemma3" in name else set()  # queries and keys are no part of the stream
    norms = kinds(path, "SimplifiedLayerNormalization") - heads

    assert ("fp16", "float16") == (folder.manifest.weights, folder.manifest.kv)
    assert {"float16"} == kinds(path, "Gemm")
    assert (1, 10, 10) == (types["logits"], types["past_0_k"], types["present_0_v"])
    assert norms <= ({"float32"} if name in WIDE else {"float16"})


def test_half_the_size(model_folder: Callable[..., Path]) -> None:
    """Weights and rotation take half of what single precision takes."""
    sizes = [(model_folder("nano", form) / "model.onnx.data").stat().st_size for form in ("fp16", "fp32")]

    assert 0.49 < sizes[0] / sizes[1] < 0.52


def test_the_cpu_runs_it(model_folder: Callable[..., Path]) -> None:
    """Where there is no GPU the folder runs, and says that its tokens may depend on their company."""
    executor = load(model_folder("nano", "fp16"), slots=4, provider="cpu")
    driver = Driver(executor)
    for id in range(4):
        driver.add(id, LONG[: 5 + 3 * id], max_tokens=8, ignore_eos=True)
    driver.finish()
    facts = executor.describe()

    assert [8] * 4 == [len(row.tokens) for row in driver.rows.values()]
    assert ("CPUExecutionProvider", "fp16", "float16", False) == (
        facts["provider"], facts["weights"], facts["kv"], facts["batch_invariant"],
    )  # fmt: skip


def test_greedy_tokens_are_nearly_always_those_of_single_precision(model_folder: Callable[..., Path]) -> None:
    """On random weights, whose logits are close together, nine first tokens of ten agree."""
    prompts = [LONG[begin : begin + 10] for begin in range(30)]
    half, single = PlainLoop(model_folder("nano", "fp16")), PlainLoop(model_folder("nano", "fp32"))
    agree = [half.greedy(prompt, 1) == single.greedy(prompt, 1) for prompt in prompts]

    assert sum(agree) >= 27


@pytest.mark.parametrize(
    ("options", "field"),
    [({"kv": "int8"}, "kv"), ({"weights": "fp32", "kv": "float16"}, "kv"), ({"block_size": 32}, "block_size")],
)
def test_options_that_do_not_go_with_it(
    options: dict[str, Any], field: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its cache is its own, and nothing is rounded in blocks."""
    with pytest.raises(InvalidArgument) as caught:
        export_model(checkpoint("nano"), tmp_path / "target", **{"weights": "fp16", **options})

    assert field == caught.value.fields["field"]
    assert not (tmp_path / "target").exists()


def test_a_weight_that_does_not_fit(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Beyond 65504 there is no half precision: the tensor is named, and nothing is written."""
    source = shutil.copytree(checkpoint("nano"), tmp_path / "source")
    values = dict(tensors(RECIPES["nano"]))
    values["model.layers.1.mlp.down_proj.weight"][0, 0] = 70_000
    shapes = {name: value.shape for name, value in values.items()}
    write_safetensors(source / "model.safetensors", shapes, iter(values.items()), "F32")
    with pytest.raises(InvalidArgument, match=r"model\.layers\.1\.mlp\.down_proj\.weight has values above 65504"):
        export_model(source, tmp_path / "target", weights="fp16")

    assert not (tmp_path / "target").exists()


def test_encoders_have_none(tmp_path: Path) -> None:
    """An encoder runs on the CPU, where half precision gains nothing."""
    source = write_encoder_checkpoint(tmp_path / "source", EncoderRecipe())
    with pytest.raises(InvalidArgument, match="encoders run on the CPU"):
        export_folder(source, tmp_path / "target", ExportOptions(weights="fp16"))


@pytest.mark.parametrize(("weights", "kv"), [("fp16", "float32"), ("fp32", "float16"), ("fp16", "int8")])
def test_manifest_that_contradicts_itself(weights: str, kv: str, model_folder: Callable[..., Path]) -> None:
    """Half precision has its own cache, and nothing else has it."""
    written = read_manifest(model_folder("nano", "fp16")).to_json()
    changed = written.replace(b'"weights": "fp16"', f'"weights": "{weights}"'.encode())
    changed = changed.replace(b'"kv": "float16"', f'"kv": "{kv}"'.encode())
    with pytest.raises(ModelUnavailable, match="kv is"):
        Manifest.from_json(changed, model="m")
