"""Checkpoints of strangers: whatever is wrong with one, exporting it is a typed error that says what, or works."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos_kernel.errors import InvalidArgument, ModelUnavailable
from llmos_onnx.export import export_model
from plugins.onnx.tests.test_export_safetensors import entry, write_raw
from plugins.onnx.tests.test_tokenizer_check import places

RECIPES = ("nano", "nano-yarn", "nano-phi3", "nano-gemma3", "nano-llama3")
values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**30, 1e308, 1e-320, "", "é", "a" * 3000, "llama", "gelu", "yarn"]),
    st.lists(st.integers(-1, 3), max_size=3), st.just({}), st.just({"a": 1}),
    st.just([{"name": "default", "template": "{% for x in range(10**9) %}{% endfor %}"}]),
)  # fmt: skip
damage = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def change(data: st.DataObject, content: Any) -> Any:
    """Return a copy of the JSON *content* in which a few things are other than they were."""
    copied = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        if not (ways := places(copied)):
            break
        *way, last = data.draw(st.sampled_from(ways))
        at = copied
        for step in way:
            at = at[step]
        if data.draw(st.booleans()):
            at[last] = copy.deepcopy(data.draw(values))
        else:
            del at[last]
    return copied


def change_weights(data: st.DataObject, path: Path) -> None:
    """Cut a safetensors file, overwrite bytes of its header, or say something else in it."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    kind = data.draw(st.sampled_from(["cut", "bytes", "header"]))
    if kind == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif kind == "bytes":
        changed = bytearray(content)
        for at in data.draw(st.lists(st.integers(0, 7 + length), min_size=1, max_size=3)):
            changed[at] = data.draw(st.integers(0, 255))
        path.write_bytes(changed)
    else:
        write_raw(path, change(data, json.loads(content[8 : 8 + length])), content[8 + length :])


def export_damaged(data: st.DataObject, checkpoint: Callable[[str], Path], place: Path) -> None:
    """Damage a copy of some checkpoint and export it."""
    source = place / "source"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(checkpoint(data.draw(st.sampled_from(RECIPES))), source)
    files = [*sorted(source.glob("*.safetensors")), *sorted(source.glob("*.json"))]
    path = data.draw(st.sampled_from([file for file in files if file.name != "tokenizer.json"]))
    if path.suffix == ".json":
        path.write_text(json.dumps(change(data, json.loads(path.read_text()))))
    else:
        change_weights(data, path)
    try:
        export_model(source, place / "target", weights=data.draw(st.sampled_from(["fp32", "w8a8", "q4"])))
    except (ModelUnavailable, InvalidArgument) as error:
        said = str(error)
    else:
        return

    assert 20 < len(said) < 3000


@settings(damage, max_examples=40)
@given(data=st.data())
def test_damaged_checkpoints(data: st.DataObject, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """A checkpoint with something changed is refused by a typed error of readable length, or exported."""
    export_damaged(data, checkpoint, tmp_path / "one")


@pytest.mark.nightly
@settings(damage, max_examples=5000)
@given(data=st.data())
def test_many_damaged_checkpoints(data: st.DataObject, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """The same, many times."""
    export_damaged(data, checkpoint, tmp_path / "one")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "README.md"])
def test_pipes_are_refused_at_once(checkpoint: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """A pipe in place of a file is refused by its name, and nobody waits for its writer."""
    source = tmp_path / "source"
    shutil.copytree(checkpoint("nano"), source)
    (source / name).unlink(missing_ok=True)
    os.mkfifo(source / name)

    with pytest.raises(ModelUnavailable, match="regular file") as caught:
        export_model(source, tmp_path / "target", weights="fp32")
    assert name == caught.value.fields["field"]


def test_caches_of_published_checkpoints_are_read(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Their snapshots consist of links to blobs beside them; weights may be links to anywhere."""
    source = tmp_path / "models--some--model" / "snapshots" / "0123"
    source.mkdir(parents=True)
    blobs = tmp_path / "models--some--model" / "blobs"
    shutil.copytree(checkpoint("nano"), blobs)
    for file in blobs.iterdir():
        (source / file.name).symlink_to(Path("..", "..", "blobs", file.name))
    (source / "model.safetensors").unlink()
    (source / "model.safetensors").symlink_to(checkpoint("nano") / "model.safetensors")

    assert "nano" == export_model(source, tmp_path / "target", weights="fp32", name="nano").name


@pytest.mark.parametrize("name", ["README.md", "chat_template.jinja", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("home", ["source", "snapshots/0123"])
def test_links_that_lead_elsewhere_are_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, home: str
) -> None:
    """What an export copies or quotes must not be a file of the person who exports."""
    source = tmp_path / home
    shutil.copytree(checkpoint("nano"), source)
    (source / name).unlink(missing_ok=True)
    secret = tmp_path / "secret"
    secret.write_text("a key")
    (source / name).symlink_to(secret)

    with pytest.raises(ModelUnavailable, match="leads elsewhere") as caught:
        export_model(source, tmp_path / "target", weights="fp32")
    assert name == caught.value.fields["field"]
    assert "a key" not in str(caught.value)


def test_names_of_any_length_are_shown_short(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """A tensor's name of a million characters is refused in a message of some hundred."""
    source = tmp_path / "source"
    shutil.copytree(checkpoint("nano"), source)
    write_raw(source / "model.safetensors", {"x" * 10**6: entry(0, 12, [3], "I8")}, bytes(12))

    with pytest.raises(ModelUnavailable) as caught:
        export_model(source, tmp_path / "target", weights="fp32")
    assert len(str(caught.value)) < 1000


def test_files_of_many_elements_are_not_parsed(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Elements are counted before memory is taken for them."""
    source = tmp_path / "source"
    shutil.copytree(checkpoint("nano"), source)
    (source / "tokenizer_config.json").write_bytes(b'{"x": [' + b"[]," * 1_000_000 + b"[]]}")

    with pytest.raises(ModelUnavailable) as caught:
        export_model(source, tmp_path / "target", weights="fp32")
    assert "tokenizer_config.json: elements" == caught.value.fields["field"]
