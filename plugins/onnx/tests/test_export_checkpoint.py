"""A checkpoint that the exporter would get wrong is refused by the name of what is wrong; nothing is left behind."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tokenizers import Tokenizer

from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable
from llmos_onnx.export import export_model, main
from llmos_onnx.folder import open_folder
from plugins.onnx.tests.checkpoint_writer import CHAT_TEMPLATE, RECIPES, Recipe, write_checkpoint


@pytest.fixture
def source(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint of one's own, to break."""
    return shutil.copytree(checkpoint("nano"), tmp_path / "source")


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None removes one."""
    values = json.loads(path.read_text("utf-8"))
    values.update(changes)
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), encoding="utf-8")


def refused(source: Path, kind: type[KernelError] = ModelUnavailable, **options: Any) -> KernelError:
    """Export *source*, which must fail and leave nothing, and return the error."""
    target = source.parent / "target"
    with pytest.raises(kind) as caught:
        export_model(source, target, **options)
    assert [source] == list(source.parent.iterdir())
    assert {"field", "value", "expected"} <= set(caught.value.fields)
    return caught.value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "mamba"),
        ("model_type", None),
        ("hidden_act", "gelu"),
        ("hidden_size", None),
        ("hidden_size", 10**9),
        ("num_hidden_layers", 0),
        ("num_key_value_heads", 3),
        ("head_dim", 15),
        ("rms_norm_eps", -1),
        ("vocab_size", "many"),
        ("rope_scaling", {"rope_type": "proportional", "factor": 4.0}),
        ("rope_scaling", {"rope_type": "yarn"}),
        ("rope_scaling", {"type": "yarn", "factor": 2.0, "beta_fast": "quick"}),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 2.0}),
        ("rope_parameters", {"rope_type": "longrope", "rope_theta": 1e4}),
        ("rope_scaling", {"rope_type": "longrope", "long_factor": [1.0] * 7, "short_factor": [1.0] * 7}),
        ("rope_scaling", {"type": "su", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("partial_rotary_factor", 0.25),
        ("rope_interleaved", True),
        ("quantization_config", {"quant_method": "gptq"}),
        ("auto_map", {"AutoModel": "modeling.Custom"}),
        ("tie_word_embeddings", "yes"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_understood_is_named(source: Path, key: str, value: object) -> None:
    """Unknown architectures, rotations, activations and quantisations, code, and numbers out of range."""
    edit(source / "config.json", **{key: value})

    error = refused(source)

    assert "config.json" in str(error.fields["field"])
    shown = value if isinstance(value, str) else next(iter(value.values())) if isinstance(value, dict) else key
    assert key in str(error.fields["field"]) or str(shown) in str(error.fields["value"])


def test_an_unknown_architecture_lists_the_nearest(source: Path) -> None:
    """The error says what would have been right, the likeliest first."""
    edit(source / "config.json", model_type="qwen3_moe")

    assert str(refused(source).fields["expected"]).startswith("one of qwen3, ")


def test_an_unexpected_tensor_is_named(tmp_path: Path) -> None:
    """Biases that the configuration does not mention would be lost silently."""
    recipe = attrs.evolve(RECIPES["nano"], config={"attention_bias": True})
    source = write_checkpoint(tmp_path / "source", recipe)
    edit(source / "config.json", attention_bias=False)

    assert "model.layers.0.self_attn.q_proj.bias" in str(refused(source).fields["value"])


def test_a_missing_tensor_is_named(source: Path) -> None:
    """A model whose head is not its embedding needs one."""
    edit(source / "config.json", tie_word_embeddings=False)

    assert "tensor lm_head.weight" == refused(source).fields["field"]


def test_a_tensor_of_the_wrong_shape_is_named(source: Path) -> None:
    """Tensors have the dimensions that the configuration says."""
    edit(source / "config.json", intermediate_size=127)

    assert "tensor model.layers.0.mlp.gate_proj.weight: shape" == refused(source).fields["field"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(source: Path, name: str) -> None:
    """Each of the three is necessary."""
    (source / name).unlink()

    assert name == refused(source).fields["field"]


@pytest.mark.parametrize(
    "shard",
    ["../source/model.safetensors", "/model.safetensors", "model.pkl", "a/b.safetensors", 3, "other.safetensors"],
)
def test_an_index_names_files_of_the_checkpoint(source: Path, shard: object) -> None:
    """Shards that climb, are absolute, lie deeper, are not safetensors, or do not exist are refused."""
    index = {"weight_map": {"model.norm.weight": shard}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    assert str(shard) in str(refused(source))


@pytest.mark.parametrize("listed", [True, False])
def test_index_and_shards_agree(source: Path, listed: bool) -> None:
    """A tensor that the index places elsewhere, or does not place at all, is refused."""
    placed = {"model.norm.weight": "model.safetensors"} | ({"more": "model.safetensors"} if listed else {})
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}), encoding="utf-8")

    assert ("more" if listed else "not in the index") in str(refused(source))


def test_pickles_and_code_are_not_even_read(source: Path, tmp_path: Path) -> None:
    """What else lies in a checkpoint stays there."""
    for name in ("pytorch_model.bin", "tokenizer.py", "modeling.py", "training_args.bin"):
        (source / name).write_bytes(b"\x80\x04cos\nsystem\n")

    export_model(source, tmp_path / "target")

    written = {path.name for path in (tmp_path / "target").iterdir()}
    assert {"llmos.json", "model.onnx", "model.onnx.data", "tokenizer.json"} == written


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"weights": "fp8"}, "weights"),
        ({"context": 0}, "context"),
        ({"context": 513}, "context"),
    ],
    ids=str,
)
def test_wrong_options_are_named(source: Path, options: dict[str, Any], field: str) -> None:
    """Unknown formats and contexts beyond the model's own."""
    assert field == refused(source, InvalidArgument, **options).fields["field"]


def test_what_could_not_be_read_back_is_not_written(source: Path) -> None:
    """A name or template beyond what a manifest may hold is refused while exporting, not when the folder is opened."""
    assert "llmos.json: name" == refused(source, name="x" * 201).fields["field"]

    edit(source / "tokenizer_config.json", chat_template="語" * 400_000)
    assert "llmos.json: size" == refused(source).fields["field"]


def test_block_formats_say_which_matrix_is_too_narrow(tmp_path: Path) -> None:
    """Widths that are no multiple of 16 have no blocks."""
    source = write_checkpoint(tmp_path / "source", attrs.evolve(RECIPES["nano"], hidden=40))

    error = refused(source, InvalidArgument, weights="q4")

    assert "model.embed_tokens.weight" in str(error)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("nano-qwen2-mixed", {"layer_types": ["sliding_attention", "chunked_attention"]}, "layer_types"),
        ("nano-qwen2-mixed", {"layer_types": ["sliding_attention"]}, "layer_types"),
        ("nano-mistral", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("nano-mistral", {"num_key_value_heads": None}, "num_key_value_heads"),
        ("nano-gemma2", {"sliding_window_pattern": 3}, "sliding_window_pattern"),
        ("nano-gemma2", {"hidden_activation": "gelu"}, "hidden_activation"),
        ("nano-gemma2", {"final_logit_softcapping": -30.0}, "final_logit_softcapping"),
        ("nano-gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("nano-gemma3", {"rope_parameters": {"chunked_attention": {}}}, "rope_parameters"),
        ("nano-smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("nano-smollm3", {"no_rope_layers": [1, 0, 2, 0]}, "no_rope_layers"),
        ("nano-phi3", {"partial_rotary_factor": 0.3}, "partial_rotary_factor"),
        ("nano-phi4", {"partial_rotary_factor": 1.0}, "long_factor"),
        ("nano-phi4", {"auto_map": {"AutoModelForCausalLM": "modeling_phi3_changed.Phi3ForCausalLM"}}, "auto_map"),
        ("nano-granite", {"logits_scaling": 0}, "logits_scaling"),
        ("nano-yarn", {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_theta": 1.0}, "rope_theta"),
    ],
    ids=str,
)
def test_a_variation_that_an_architecture_does_not_have_is_named(
    name: str, changes: dict[str, object], field: str, tmp_path: Path
) -> None:
    """What is right for one architecture is not guessed for another."""
    source = write_checkpoint(tmp_path / "source", RECIPES[name])
    edit(source / "config.json", **changes)

    assert field in str(refused(source).fields["field"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "not compressed"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "gemma3_text"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "text alone"),
        ({"model_type": "gpt2"}, "llmos export --with optimum"),
    ],
    ids=str,
)
def test_another_kind_of_decoder_is_refused_with_the_way_out(
    source: Path, changes: dict[str, object], reason: str
) -> None:
    """The error says what about the model is not written, and what would export it."""
    edit(source / "config.json", **changes)

    assert reason in str(refused(source).fields["expected"])


def test_a_window_as_long_as_the_context_is_none(tmp_path: Path) -> None:
    """Below the window every layer sees everything, but local layers still turn by their own rotation."""
    qwen = write_checkpoint(tmp_path / "qwen", RECIPES["nano-qwen2-mixed"])
    gemma = write_checkpoint(tmp_path / "gemma", RECIPES["nano-gemma3"])

    shape = export_model(qwen, tmp_path / "qwen-model", context=12).shape
    assert (0, ()) == (shape.window, shape.global_layers)

    shape = export_model(gemma, tmp_path / "gemma-model", context=12).shape
    assert (0, (5,)) == (shape.window, shape.global_layers)
    assert (100.0, 1e4) == tuple(rope.theta for layer in (4, 5) if (rope := shape.layer_rope(layer)))


def test_the_manifest_says_what_the_checkpoint_said(source: Path, tmp_path: Path) -> None:
    """Special tokens, template, sampling, licence and source reach the folder."""
    (source / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Nano\n", encoding="utf-8")

    manifest = export_model(source, tmp_path / "target", weights="q8", context=100, name="small")

    assert manifest == open_folder(tmp_path / "target").manifest
    assert ("small", "source", "apache-2.0", "q8", 100) == (
        manifest.name, manifest.source, manifest.licence, manifest.weights, manifest.shape.context,
    )  # fmt: skip
    assert (0, (1, 3), 1, False) == attrs.astuple(manifest.tokens)
    assert 0.7 == manifest.generation.temperature
    assert manifest.generation.top_k is None
    assert CHAT_TEMPLATE == manifest.chat_template


@pytest.mark.parametrize(
    ("changes", "template"),
    [
        ({"chat_template": [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]}, "b"),
        ({"chat_template": None}, None),
    ],
    ids=str,
)
def test_templates_come_in_several_forms(
    source: Path, tmp_path: Path, changes: dict[str, object], template: str | None
) -> None:
    """One string, a list of named ones, or none."""
    edit(source / "tokenizer_config.json", **changes)
    assert template == export_model(source, tmp_path / "target").chat_template


def test_a_template_file_comes_first(source: Path, tmp_path: Path) -> None:
    """``chat_template.jinja`` stands above the tokenizer's settings."""
    (source / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")

    assert "{{ messages }}" == export_model(source, tmp_path / "target").chat_template


def test_tokens_that_the_model_does_not_have_are_refused(source: Path) -> None:
    """Ids past the vocabulary, and names that the tokenizer does not know."""
    edit(source / "tokenizer_config.json", bos_token="<|never|>")
    assert "tokenizer_config.json: bos_token" == refused(source).fields["field"]

    edit(source / "tokenizer_config.json", bos_token="<s>")
    edit(source / "generation_config.json", eos_token_id=512)
    assert "generation_config.json: eos_token_id" == refused(source).fields["field"]

    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"]["beyond"] = 512
    (source / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert "tokenizer.json: token id" == refused(source).fields["field"]


def test_added_tokens_that_the_model_has_no_entry_for_are_left_out(source: Path, tmp_path: Path) -> None:
    """A text model shares its tokenizer with a sibling that sees pictures; to it, that token's name is plain text."""
    before = (source / "tokenizer.json").read_text("utf-8")
    tokenizer = Tokenizer.from_str(before)
    tokenizer.add_special_tokens(["<image>"])
    (source / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    assert [512] == tokenizer.encode("<image>").ids

    export_model(source, tmp_path / "target")

    found = Tokenizer.from_file(str(tmp_path / "target" / "tokenizer.json"))
    assert Tokenizer.from_str(before).encode("a <image> b").ids == found.encode("a <image> b").ids


def test_a_tokenizer_that_cannot_be_parsed_is_refused(source: Path) -> None:
    """The library's own error becomes the typed one."""
    (source / "tokenizer.json").write_text('{"version": "9"}', encoding="utf-8")

    assert "tokenizer.json" == refused(source).fields["field"]


def test_progress_counts_every_byte_of_the_weights(source: Path, tmp_path: Path) -> None:
    """It grows from tensor to tensor up to the total."""
    heard: list[tuple[str, int, int]] = []

    export_model(source, tmp_path / "target", progress=lambda *report: heard.append(report))

    done = [done for _, done, _ in heard]
    assert sorted(done) == done
    assert {done[-1]} == {total for _, _, total in heard}
    assert "model.embed_tokens.weight" == heard[0][0]


def test_the_same_checkpoint_makes_the_same_folder(source: Path, tmp_path: Path) -> None:
    """Exports are reproducible byte for byte."""
    for name in ("a", "b"):
        export_model(source, tmp_path / name, weights="w8a8")

    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    "options", [{"weights": "fp32"}, {"weights": "w8a8"}, {"weights": "q4", "search": True}], ids=str
)
def test_memory_is_bounded_by_the_largest_tensor(options: dict[str, Any], tmp_path: Path) -> None:
    """An export holds at most twice the largest tensor and a constant, however many such tensors there are."""
    recipe = Recipe(hidden=256, mlp=256, head_dim=64, vocab=32768, tied=False, dtype="F16")
    source = write_checkpoint(tmp_path / "source", recipe)
    largest, constant = 32768 * 256 * 4, 16 << 20
    tracemalloc.start()

    export_model(source, tmp_path / "target", **options)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 2 * largest + constant


def test_a_tied_head_that_is_stored_again_is_passed_over(tmp_path: Path) -> None:
    """Some checkpoints repeat the embedding as head; tied means the embedding counts."""
    source = write_checkpoint(tmp_path / "source", Recipe(tied=False))
    edit(source / "config.json", tie_word_embeddings=True)

    assert export_model(source, tmp_path / "target").shape.tied


def test_the_command_line_exports_or_says_why_not(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0 with the size, or 1 with the error in one line."""
    assert 0 == main([str(source), str(tmp_path / "target"), "--weights", "q4"])
    assert "llama, q4" in capsys.readouterr().out

    assert 1 == main([str(source), str(tmp_path / "target")])
    assert capsys.readouterr().err.startswith("InvalidArgument: target is 'target'")
