"""Model folders, the user's own list of models, and the note about an alias."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from llmos import Client, ModelInfo, Secret, _models
from llmos._library import Library
from llmos._models import folder_spec, note_alias, read_folder
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Kernel, KernelConfig
from llmos_kernel.errors import ConfigError, InvalidArgument, ModelUnavailable, NotFound

MANIFEST = {"name": "nano", "chat_template": "x", "licence": "MIT", "files": {"a": {"size": 3}, "b": {"size": 4}}}


def folder(path: Path, manifest: object = MANIFEST) -> Path:
    """Write a model folder's manifest."""
    path.mkdir()
    (path / "llmos.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest), "utf-8")
    return path


def test_a_folder_is_read_as_far_as_needed(tmp_path: Path) -> None:
    """Name, size, licence and what it serves come from the manifest."""
    spec = read_folder(folder(tmp_path / "m"))

    assert ("nano", "onnx", 7, "MIT") == (spec.name, spec.backend, spec.nbytes, spec.license)
    assert "chat" in spec.kinds


@pytest.mark.parametrize(
    "manifest", ["{", "[]", "{}", '{"name": ""}', '{"name": "a", "files": {"x": {}}}', "[" * 10**5]
)
def test_a_broken_manifest_is_refused(manifest: str, tmp_path: Path) -> None:
    """Whatever is in it, the outcome is one typed error that names the file."""
    with pytest.raises(ModelUnavailable, match=r"llmos\.json"):
        read_folder(folder(tmp_path / "m", manifest))


def test_a_folder_of_onnxruntime_genai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called like its folder, is as large as its files, and chats where it has a template."""
    (path := tmp_path / "theirs").mkdir()
    (path / "genai_config.json").write_text("{}", encoding="utf-8")
    (path / "model.onnx").write_bytes(b"x" * 98)
    monkeypatch.chdir(tmp_path)
    plain = read_folder(path)
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}), encoding="utf-8")
    by_word = folder_spec("theirs")

    assert ("theirs", "onnx", 100) == (plain.name, plain.backend, plain.nbytes)
    assert by_word is not None
    assert (False, True) == ("chat" in plain.kinds, "chat" in by_word.kinds)


def test_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path object and what has a separator are; a plain word only where it is a model folder."""
    monkeypatch.chdir(folder(tmp_path / "m").parent)

    assert folder_spec("tiny") is None
    for path in ("m", "./m", tmp_path / "m"):
        spec = folder_spec(path)
        assert spec is not None
        assert str(tmp_path / "m") == spec.name
    with pytest.raises(ModelUnavailable, match="no model folder"):
        folder_spec("./nothing")


def test_loading_a_folder_registers_it(tmp_path: Path) -> None:
    """It is offered to the kernel once, under its path, and loaded by the backend of folders."""
    path = folder(tmp_path / "m")
    backend = EchoBackend()
    backend.name = "onnx"
    with Kernel(plugins=[backend, FirstComePlugin()]) as kernel, Client(kernel=kernel) as client:
        first, second = client.load_model(path), client.load_model(str(path))

        assert [str(path)] * 2 == [first.name, second.name]
        assert "a b" == second.generate_text("a b")
        assert 1 == len(backend.executors)


def test_a_name_that_looks_like_a_path() -> None:
    """A model that is offered under it is meant, by its name or an alias, where there is no such folder."""
    specs = (echo_spec("org/model", aliases=("org/other",)),)
    config = KernelConfig(models=specs, aliases={"our/own": "org/model"})
    with Kernel(config, plugins=[EchoBackend(), FirstComePlugin()]) as kernel, Client(kernel=kernel) as client:
        assert ["org/model"] * 3 == [
            client.load_model(f"{name}").name for name in ("org/model", "org/other", "our/own")
        ]
        with pytest.raises(ModelUnavailable, match="org/absent is no model folder"):
            client.load_model("org/absent")
        with pytest.raises(ModelUnavailable, match="org/model is no model folder"):
            client.load_model(Path("org/model"))


def test_a_folder_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a model folder is meant as one, as where the name has no separator."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    path = folder(tmp_path / "org" / "model")
    backend = EchoBackend()
    backend.name = "onnx"
    config = KernelConfig(models=(echo_spec("org/model"),))
    with Kernel(config, plugins=[backend, FirstComePlugin()]) as kernel, Client(kernel=kernel) as client:
        assert str(path) == client.load_model("org/model").name


def test_own_models_are_kept(tmp_path: Path) -> None:
    """What is added is read again, by whoever reads next, until it is removed."""
    library = Library(tmp_path / "home")
    first = echo_spec("one", aliases=("uno",), options={"key": Secret(env="KEY"), "rows": 2})
    library.add(first)
    library.add(echo_spec("two"))

    assert (first, echo_spec("two")) == Library(tmp_path / "home").models()
    assert first == library.remove("one")
    assert (echo_spec("two"),) == library.models()
    assert ["models.json"] == [path.name for path in (tmp_path / "home").iterdir()]


def test_own_models_have_names_of_their_own(tmp_path: Path) -> None:
    """A name is listed once, and what is not listed cannot be removed."""
    library = Library(tmp_path)
    library.add(echo_spec("one"))

    with pytest.raises(InvalidArgument, match="already"):
        library.add(echo_spec("one"))
    with pytest.raises(NotFound, match="two"):
        library.remove("two")


@pytest.mark.parametrize("text", ["{", "{}", "[3]", '[{"name": "x"}]'])
def test_a_broken_list_is_named(text: str, tmp_path: Path) -> None:
    """It is not overwritten, and not ignored."""
    (tmp_path / "models.json").write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=r"models\.json"):
        Library(tmp_path).add(echo_spec("one"))
    assert text == (tmp_path / "models.json").read_text("utf-8")


def test_the_note_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for an alias, only of a demonstration model, and once per name."""
    monkeypatch.setattr(_models, "_noted", set())
    demo = ModelInfo(name="tiny", capabilities=["demonstration"])
    with caplog.at_level(logging.WARNING, logger="llmos"):
        for asked, info in (("gpt-3", demo), ("gpt-3", demo), ("tiny", demo), ("gpt-4", ModelInfo(name="real"))):
            note_alias(asked, info)

    assert [True] == ['"gpt-3" is an alias' in record.getMessage() for record in caplog.records]
