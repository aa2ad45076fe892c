"""The int8 key and value cache: its rounding is what its scales say, and rows keep their promise with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.calibration import BUILT_IN
from llmos_onnx.export import export_model
from llmos_onnx.folder import read_manifest
from plugins.onnx.tests.checkpoint_writer import NANO, RECIPES
from plugins.onnx.tests.driver import Driver, load
from plugins.onnx.tests.numpy_decoder import NumpyDecoder
from plugins.onnx.tests.plain_loop import PlainLoop
from plugins.onnx.tests.stored import tensors_of

if TYPE_CHECKING:
    import numpy.typing as npt

PROMPT = np.random.default_rng(7).integers(4, 512, 30).tolist()


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the root mean square of ``a - b``, relative to that of *b*."""
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


def scales_of(folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return the scales that the folder's graph holds."""
    return {name: array.astype(np.float64) for name, array in tensors_of(folder).items() if "_scale_" in name}


def test_the_cache_holds_what_its_scales_say(model_folder: Callable[..., Path]) -> None:
    """Attention reads keys and values rounded to whole scales, those of the very token it computes included."""
    folder = model_folder("nano", "fp32", kv="int8")
    exact = NumpyDecoder.of(RECIPES["nano"], "fp32")
    expected = attrs.evolve(exact, cache=scales_of(folder)).logits(PROMPT)

    found = PlainLoop(folder).logits(PROMPT)

    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert 1e-3 < distance(expected, exact.logits(PROMPT)) < 3e-2


@pytest.mark.parametrize("name", NANO)
def test_every_architecture_keeps_its_cache_in_8_bits(name: str, model_folder: Callable[..., Path]) -> None:
    """Whatever turns, caps or windows keys: past the text's length too, logits stay near those of single precision."""
    room = min(RECIPES[name].context, 400)
    prompt = np.random.default_rng(5).integers(4, 512, room).tolist()
    expected = PlainLoop(model_folder(name, "fp32"), room=room).logits(prompt)

    found = PlainLoop(model_folder(name, "fp32", kv="int8"), room=room).logits(prompt)

    assert distance(found, expected) < 6e-2


@pytest.mark.parametrize("weights", ["w8a8", "q8", "q4"])
def test_an_int8_cache_adds_what_8_bit_weights_do(weights: str, model_folder: Callable[..., Path]) -> None:
    """On random weights, where every error counts in full, rounding the cache moves logits by less than 4 %."""
    expected = PlainLoop(model_folder("nano", weights)).logits(PROMPT)

    found = PlainLoop(model_folder("nano", weights, kv="int8")).logits(PROMPT)

    assert distance(found, expected) < 4e-2


@pytest.mark.parametrize("weights", ["fp32", "w8a8"])
def test_tokens_are_the_same_alone_and_batched(weights: str, model_folder: Callable[..., Path]) -> None:
    """Requests of different lengths, chunked, joining late, swapped out and dropped: each gets its own tokens."""
    executor = load(model_folder("nano", weights, kv="int8"), slots=8, context=128, threads=2)
    chance = np.random.default_rng(3)
    prompts = [chance.integers(4, 512, chance.integers(3, 40)).tolist() for _ in range(8)]
    expected = []
    for prompt in prompts:
        driver = Driver(executor)
        row = driver.add(0, prompt, max_tokens=40, ignore_eos=True)
        driver.finish()
        expected.append(row.tokens)

    driver = Driver(executor, chunk=7)
    for id, prompt in enumerate(prompts):
        driver.add(id, prompt, max_tokens=40, ignore_eos=True)
        driver.step()
    for id, how in ((1, "swap"), (4, "drop"), (6, "keep")):
        driver.pause(id, how)  # type: ignore[arg-type]  # the literals of this line
        driver.step()
    for id in (4, 6, 1):
        driver.resume(id)
        driver.step()
    driver.finish()

    assert expected == [driver.rows[id].tokens for id in range(len(prompts))]


def test_a_chunk_is_bitwise_what_single_tokens_are(model_folder: Callable[..., Path]) -> None:
    """With fp32 weights, a prompt in chunks, or token by token, leaves the cache of one computed whole."""
    whole, chunked = (PlainLoop(model_folder("nano", "fp32", kv="int8")) for _ in range(2))
    expected = whole.run([PROMPT], [30], wanted=[29])

    for end in (10, 20):
        chunked.run([PROMPT[end - 10 : end]], [end], wanted=[9])
    found = chunked.run([PROMPT[20:]], [30], wanted=[9])

    assert (expected == found).all()


def test_the_pool_is_a_quarter(model_folder: Callable[..., Path]) -> None:
    """The engine takes the cache's type from the manifest: the same bytes hold four times as many tokens."""
    sizes = [
        load(model_folder("nano", "fp32", kv=kv), slots=4, context=128).describe()["kv_bytes"]
        for kv in ("float32", "int8")
    ]

    assert sizes[0] == 4 * sizes[1]


def test_nothing_seen_is_cut_off(model_folder: Callable[..., Path], checkpoint: Callable[[str], Path]) -> None:
    """Scales leave room beyond the calibration text, and turning a pair of dimensions never leaves it."""
    scales = scales_of(model_folder("nano", "fp32", kv="int8"))
    loop = PlainLoop(model_folder("nano", "fp32"), room=512)
    loop.logits(np.random.default_rng(0).integers(4, 512, 500).tolist())

    for name, cache in loop._cache.items():
        layer, kind = name.split("_")
        most = np.abs(cache).max(axis=(0, 2))
        assert (most <= 127 * scales[f"{kind}_scale_{layer}"][0, :, 0]).mean() > 0.99


def test_the_manifest_names_the_text(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """A calibration text of one's own changes the scales; the manifest says which text it was, without its folder."""
    text = tmp_path / "mine.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")
    built_in = export_model(checkpoint("nano"), tmp_path / "a", kv="int8")
    mine = export_model(checkpoint("nano"), tmp_path / "b", kv="int8", calibration=str(text))

    assert (BUILT_IN, "int8") == (built_in.calibration, built_in.kv)
    assert "mine.txt" == mine.calibration
    assert scales_of(tmp_path / "a").keys() == scales_of(tmp_path / "b").keys()
    assert any((scales_of(tmp_path / "a")[name] != found).any() for name, found in scales_of(tmp_path / "b").items())
    assert read_manifest(tmp_path / "b").calibration == mine.calibration


@pytest.mark.parametrize("content", [b"", b"too short", b"\xff" * 500, None], ids=["empty", "short", "binary", "none"])
def test_a_text_that_cannot_be_used_is_refused(
    content: bytes | None, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Missing, binary or too short: the error names the option, and nothing is written."""
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)

    with pytest.raises(InvalidArgument) as caught:
        export_model(checkpoint("nano"), tmp_path / "target", kv="int8", calibration=str(text))

    assert "calibration" == caught.value.fields["field"]
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("options", [{"kv": "int4"}, {"calibration": "text"}], ids=str)
def test_options_that_mean_nothing_are_refused(
    options: dict[str, Any], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """An unknown type of cache, and a text that nobody reads."""
    with pytest.raises(InvalidArgument) as caught:
        export_model(checkpoint("nano"), tmp_path / "target", **options)

    assert next(iter(options)) == caught.value.fields["field"]


@pytest.mark.parametrize(("made", "said"), [("int8", "float32"), ("float32", "int8")])
def test_a_manifest_that_lies_about_the_cache_is_refused(
    made: str, said: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """The runtime would be given memory of the wrong size."""
    folder = shutil.copytree(model_folder("nano", "fp32", kv=made), tmp_path / "copy")
    values = json.loads((folder / "llmos.json").read_text("utf-8"))
    (folder / "llmos.json").write_text(json.dumps(values | {"kv": said}), encoding="utf-8")

    with pytest.raises(ModelUnavailable, match="GroupQueryAttention: scales"):
        load(folder)
