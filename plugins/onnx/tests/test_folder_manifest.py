"""``llmos.json`` says back what it was told, and arbitrary bytes never surprise its reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos_kernel.errors import ModelUnavailable
from llmos_onnx.folder import read_manifest
from llmos_onnx.manifest import (
    BLOCK_SIZES,
    GOALS,
    WEIGHTS,
    Blocks,
    Choice,
    FileEntry,
    Generation,
    Manifest,
    SpecialTokens,
    Speeds,
)
from llmos_onnx.shape import ACTIVATIONS, ARCHITECTURES, NORMS, SCALINGS, Rope, Scales, Shape

FLAGS = ("tied", "qk_norm", "qkv_bias", "out_bias", "mlp_bias", "wide_qk_norm", "norm_offset", "packed")
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
entries = st.builds(FileEntry, size=st.integers(0, 1 << 20), sha256=digests)
ropes = st.builds(
    Rope,
    theta=st.floats(1, 1e9),
    scaling=st.sampled_from([name for name in SCALINGS if name != "longrope"]),
    factor=st.floats(1, 64),
    original_context=st.integers(1, 131072),
    beta_fast=st.floats(1, 64),
    truncate=st.booleans(),
    magnitude=st.floats(0.1, 10),
    width=st.sampled_from([0, 16]),
) | st.builds(Rope, scaling=st.just("longrope"), factors=st.just((1.0, 1.5) * 4), width=st.just(16))
layers = st.sets(st.integers(0, 511), max_size=4).map(lambda found: tuple(sorted(found)))
shapes = st.builds(
    lambda kv_heads, shared, sixteens, **others: Shape(
        heads=kv_heads * shared, kv_heads=kv_heads, head_dim=16 * sixteens, window=0, norm_eps=1e-6, **others
    ),
    kv_heads=st.integers(1, 16),
    shared=st.integers(1, 8),
    sixteens=st.integers(1, 16),
    architecture=st.sampled_from(ARCHITECTURES),
    vocab=st.integers(100, 1 << 20),
    hidden=st.integers(1, 1 << 16),
    layers=st.integers(1, 512),
    mlp=st.integers(1, 1 << 16),
    context=st.integers(1, 131072),
    rope=ropes,
    norms=st.sampled_from(NORMS),
    activation=st.sampled_from(ACTIVATIONS),
    local_rope=st.none() | ropes,
    global_layers=layers,
    unrotated_layers=layers,
    scales=st.builds(Scales, embedding=st.floats(0.1, 100), logits_cap=st.floats(0, 100)),
    **{name: st.booleans() for name in FLAGS},
)
optional_ids = st.none() | st.integers(0, 99)
rates = st.floats(1e-3, 1e6)
choices = st.builds(
    Choice,
    goal=st.sampled_from(GOALS),
    speeds=st.dictionaries(
        st.sampled_from(WEIGHTS), st.builds(Speeds, prefill=rates, decode_1=rates, decode_16=rates), max_size=3
    ),
)
manifests = st.builds(
    Manifest,
    name=st.text(max_size=50),
    choice=st.none() | choices,
    shape=shapes,
    weights=st.sampled_from(WEIGHTS),
    blocks=st.none()
    | st.builds(
        Blocks,
        size=st.sampled_from(BLOCK_SIZES),
        symmetric=st.booleans(),
        search=st.booleans(),
        accuracy_level=st.sampled_from((1, 4)),
    ),
    files=st.fixed_dictionaries(dict.fromkeys(("model.onnx", "model.onnx.data", "tokenizer.json"), entries)),
    tokens=st.builds(
        SpecialTokens,
        bos=optional_ids,
        eos=st.lists(st.integers(0, 99), max_size=5).map(tuple),
        pad=optional_ids,
        add_bos=st.booleans(),
    ),
    generation=st.builds(Generation, temperature=st.none() | st.floats(0, 2), top_k=st.none() | st.integers(0, 100)),
    chat_template=st.none() | st.text(max_size=50),
    licence=st.text(max_size=20),
    source=st.text(max_size=20),
).map(lambda manifest: attrs.evolve(manifest, kv="float16" if manifest.weights == "fp16" else manifest.kv))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(manifests)
def test_a_manifest_survives_its_file(manifest: Manifest) -> None:
    """Reading what was written gives the same record."""
    assert manifest == Manifest.from_json(manifest.to_json(), model="any")


def test_a_manifest_that_knows_of_no_variations_has_none(model_folder: Callable[..., Path]) -> None:
    """Folders that older releases wrote stay what they are."""
    manifest = read_manifest(model_folder("nano", "fp32"))
    written = json.loads(manifest.to_json())
    older = (
        "architecture vocab hidden layers heads kv_heads head_dim mlp context norm_eps rope tied qk_norm qkv_bias "
        "out_bias mlp_bias window"
    ).split()
    written["shape"] = {name: written["shape"][name] for name in older}
    turns = "theta scaling factor low_freq_factor high_freq_factor original_context".split()
    written["shape"]["rope"] = {name: written["shape"]["rope"][name] for name in turns}

    assert manifest == Manifest.from_json(json.dumps(written).encode(), model="any")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_the_typed_error(content: bytes) -> None:
    """No byte string makes the reader fail in another way."""
    with pytest.raises(ModelUnavailable):
        Manifest.from_json(content, model="any")


def paths(found: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every value of a JSON object."""
    if not isinstance(found, dict):
        return [path]
    return [path, *(inner for key, value in found.items() for inner in paths(value, (*path, key)))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_wrong_value_is_the_typed_error_or_a_manifest(
    data: st.DataObject, model_folder: Callable[..., Path]
) -> None:
    """Any JSON value in any place is refused by name or taken; a manifest that is taken can be written again."""
    stored: dict[str, Any] = json.loads(read_manifest(model_folder("nano", "q4")).to_json())
    *outer, last = data.draw(st.sampled_from(paths(stored)[1:]))
    place = stored
    for key in outer:
        place = place[key]
    place[last] = data.draw(values)

    try:
        manifest = Manifest.from_json(json.dumps(stored).encode(), model="any")
    except ModelUnavailable as error:
        named = {"model", "field", "value", "expected"} <= set(error.fields)
    else:
        named = manifest == Manifest.from_json(manifest.to_json(), model="any")

    assert named
