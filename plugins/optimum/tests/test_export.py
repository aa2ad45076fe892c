"""The exporter around optimum: options, its process and what that leaves behind, the manifest; optimum is played."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmos.testing.conformance import Export, ExporterConformance
from llmos_kernel.errors import (
    ConfigError, DeadlineExceeded, InvalidArgument, KernelError, ModelUnavailable, PluginFailed, PluginMissing,
)  # fmt: skip
from llmos_kernel.services import Exporter
from llmos_optimum.exporter import llmos_exporter
from llmos_optimum.folder import MANIFEST

FACTS: dict[str, Any] = {
    "architecture": "bert", "tokens": {"bos": None, "eos": [2], "pad": 0, "add_bos": False}, "chat_template": None,
    "context": 512, "layout": "encoder", "vocab": 9, "encoder": {"width": 4, "labels": [], "scores": "softmax"},
    "exporter": "optimum 0",
}  # fmt: skip
DECODER: dict[str, Any] = {
    **{name: value for name, value in FACTS.items() if name != "encoder"},
    "layout": "decoder",
    "chat_template": "{{ messages }}",
    "cache": {"layers": 1, "kv_heads": 1, "head_dim": 4, "prefix": [], "width": 0},
}
WRITE = """
import json, sys, pathlib
request = json.loads(sys.argv[-1])
print("a library's own words")
print(json.dumps({"progress": "working", "done": 1, "total": 2}), flush=True)
pathlib.Path(request["target"], "model.onnx").write_bytes(b"graph")
print(json.dumps({"facts": FACTS}), flush=True)
"""
"""A stand-in that succeeds."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint, as far as the exporter itself looks at it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    return folder


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., str]:
    """Return an interpreter that runs *code* whatever it is asked."""

    def made(code: str, facts: object = None) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nFACTS = {facts!r}\n{code}", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return made


@pytest.fixture
def exporter() -> Exporter:
    """The exporter."""
    return llmos_exporter({})


def silent(what: str, done: int, total: int) -> None:
    """Hear of progress, and say nothing."""


class TestConformance(ExporterConformance):
    """The kit's checks of what is around optimum."""

    @pytest.fixture
    def export(self, source: Path, stand_in: Callable[..., str], exporter: Exporter) -> Export:
        """A checkpoint, and who plays optimum."""
        return Export(exporter, source, {"python": stand_in(WRITE, DECODER)})


def left_over(source: Path) -> set[str]:
    """Return what stands beside the checkpoint and the stand-in."""
    return {path.name for path in source.parent.iterdir()} - {"checkpoint", "python", "alive"}


def test_manifest(exporter: Exporter, source: Path, stand_in: Callable[..., str]) -> None:
    """The folder holds what the process wrote, with hashes, and what the checkpoint says."""
    (source / "README.md").write_text("---\ntags: x\nlicense: mit\n---\nA model.", encoding="utf-8")
    (source / "generation_config.json").write_text('{"temperature": 0.5, "do_sample": true}', encoding="utf-8")
    target = source.parent / "model"
    heard: list[tuple[str, int, int]] = []
    options = {"python": stand_in(WRITE, DECODER), "name": "mine", "context": 100}
    returned = exporter.export(source, target, options, lambda *facts: heard.append(facts))
    manifest = json.loads((target / MANIFEST).read_text("utf-8"))

    assert manifest == returned
    assert [("working", 500, 1000)] == heard
    assert {"llmos.json", "model.onnx", "README.md"} == {path.name for path in target.iterdir()}
    assert {"size": 5, "sha256": hashlib.sha256(b"graph").hexdigest()} == manifest["files"]["model.onnx"]
    assert ("mine", "mit", 100, 0.5) == (
        manifest["name"], manifest["licence"], manifest["context"], manifest["generation"]["temperature"]
    )  # fmt: skip
    assert (["chat", "generate", "tokenize", "detokenize"], "decoder") == (manifest["kinds"], manifest["layout"])


@pytest.mark.parametrize(
    ("modules", "mode", "expected"),
    [
        (["Transformer", "Pooling", "Normalize"], "cls_token", ("cls", True, 64)),
        (["Transformer", "Pooling"], "lasttoken", ("last", False, 64)),
        ([], "", ("mean", False, 512)),
    ],
)
def test_pooling(
    exporter: Exporter,
    source: Path,
    stand_in: Callable[..., str],
    modules: list[str],
    mode: str,
    expected: tuple[Any, ...],
) -> None:
    """How vectors are made is what sentence-transformers' files say, and the mean without them."""
    if modules:
        write_modules(source, modules, {f"pooling_mode_{mode}": True, "pooling_mode_max_tokens": False})
        (source / "sentence_bert_config.json").write_text('{"max_seq_length": 64}', encoding="utf-8")
    manifest = exporter.export(source, source.parent / "model", {"python": stand_in(WRITE, FACTS)}, silent)
    encoder = manifest["encoder"]

    assert expected == (encoder["pooling"], encoder["normalize"], manifest["context"])
    assert ["embed", "tokenize", "detokenize"] == manifest["kinds"]


def write_modules(source: Path, modules: list[str], pooling: dict[str, bool]) -> None:
    """Write sentence-transformers' files."""
    listed = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
    (source / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")


@pytest.mark.parametrize(
    ("modules", "pooling", "field"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_cls_token": True}, "modules.json"),
        (["Transformer", "Pooling"], {}, "1_Pooling/config.json"),
        (["Transformer", "Pooling"], {"pooling_mode_weightedmean_tokens": True}, "1_Pooling/config.json"),
    ],
)
def test_pooling_that_nobody_has(
    exporter: Exporter,
    source: Path,
    stand_in: Callable[..., str],
    modules: list[str],
    pooling: dict[str, bool],
    field: str,
) -> None:
    """Modules that no executor has are refused, not passed over."""
    write_modules(source, modules, pooling)

    assert field == refused(exporter, source, ModelUnavailable, python=stand_in(WRITE, FACTS)).fields["field"]


def refused(exporter: Exporter, source: Path, kind: type[KernelError], **options: Any) -> KernelError:
    """Export, which must fail and leave nothing behind, and return the error."""
    with pytest.raises(kind) as caught:
        exporter.export(source, source.parent / "model", options, silent)

    assert set() == left_over(source)
    return caught.value


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"task": "translate"}, "task"),
        ({"task": 1}, "task"),
        ({"taks": "embed"}, "taks"),
        ({"context": 3}, "context"),
        ({"context": True}, "context"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"weights": "q4"}, "weights"),
        ({"name": ""}, "name"),
        ({"python": "no/such/interpreter"}, "python"),
    ],
)
def test_wrong_options(exporter: Exporter, source: Path, options: dict[str, Any], field: str) -> None:
    """A wrong option is refused by its name, with what would be right."""
    error = refused(exporter, source, InvalidArgument, **options)

    assert field == error.fields["field"]
    assert error.fields["expected"]


def test_settings() -> None:
    """There are none, and one that is given is refused."""
    with pytest.raises(InvalidArgument) as caught:
        llmos_exporter({"task": "embed"})

    assert "task" == caught.value.fields["field"]
    assert not isinstance(caught.value, ConfigError)


def test_weights_must_be_safetensors(exporter: Exporter, source: Path) -> None:
    """A checkpoint in a form that can hold code is refused before a process is started."""
    (source / "model.safetensors").rename(source / "pytorch_model.bin")

    assert "weights" == refused(exporter, source, ModelUnavailable, python="no/such/interpreter").fields["field"]


def test_target_must_be_new(exporter: Exporter, source: Path) -> None:
    """A folder that exists is never written to."""
    with pytest.raises(InvalidArgument) as caught:
        exporter.export(source, source, {}, silent)

    assert "target" == caught.value.fields["field"]


@pytest.mark.parametrize(("longest", "asked"), [(None, {}), (64, {"context": 65})])
def test_context(
    exporter: Exporter, source: Path, stand_in: Callable[..., str], longest: int | None, asked: dict[str, int]
) -> None:
    """A checkpoint that does not say its context needs the option, and one that does is a limit to it."""
    python = stand_in(WRITE, {**DECODER, "context": longest})
    error = refused(exporter, source, KernelError, python=python, **asked)

    assert "context" in str(error)
    assert error.fields["field"] in ("context", "config.json: max_position_embeddings")


def test_refusal_of_the_process(exporter: Exporter, source: Path, stand_in: Callable[..., str]) -> None:
    """What the process refuses is an error about the checkpoint, with its field."""
    facts = {"field": "config.json: model_type", "value": "new", "expected": "one that optimum exports"}
    error = refused(exporter, source, ModelUnavailable, python=stand_in(f"print({json.dumps({'refused': facts})!r})"))

    assert {"model": "checkpoint", **facts} == error.fields


def test_optimum_is_missing(exporter: Exporter, source: Path, stand_in: Callable[..., str]) -> None:
    """An interpreter without optimum is told so, with what to install and the other way."""
    error = refused(exporter, source, PluginMissing, python=stand_in("""print('{"missing": "optimum"}')"""))

    assert "llmos-optimum[export]" in str(error)
    assert "python" in str(error)


def test_a_crash_shows_its_end(exporter: Exporter, source: Path, stand_in: Callable[..., str]) -> None:
    """A process that fails is one error with the last of what it printed."""
    code = (
        "import sys\nfor n in range(500): print(n, file=sys.stderr)\nprint('{not json')\nraise OSError('disk on fire')"
    )
    error = refused(exporter, source, PluginFailed, python=stand_in(code))

    assert "disk on fire" in str(error)
    assert 1 == error.fields["status"]
    assert "disk on fire" in str(error.fields["stderr"])
    assert len(str(error.fields["stderr"])) <= 4000


def test_a_silent_end_is_an_error(exporter: Exporter, source: Path, stand_in: Callable[..., str]) -> None:
    """A process that ends well without saying what it wrote has failed."""
    assert "printed nothing" in str(refused(exporter, source, PluginFailed, python=stand_in("")))


HANG = """
import os, pathlib, subprocess, sys, time
alive = os.open(pathlib.Path(__file__).with_name("alive"), os.O_WRONLY)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=[alive])
os.write(alive, b"x")
print('{"progress": "hanging", "done": 0, "total": 1}', flush=True)
time.sleep(600)
"""
"""A stand-in that never ends; it and what it starts hold a pipe open."""


@pytest.fixture
def alive(source: Path) -> Iterator[Callable[[], bytes]]:
    """Return what waits until nobody holds the pipe, and reads what was written to it."""
    path = source.parent / "alive"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def wait() -> bytes:
        os.set_blocking(reader, True)
        return os.read(reader, 10) + os.read(reader, 10)

    yield wait
    os.close(reader)


def test_time_limit(exporter: Exporter, source: Path, stand_in: Callable[..., str], alive: Callable[[], bytes]) -> None:
    """A process that takes too long is ended, with what it started."""
    assert 2 == refused(exporter, source, DeadlineExceeded, python=stand_in(HANG), timeout=2).fields["value"]
    assert b"x" == alive()


def test_interruption(
    exporter: Exporter, source: Path, stand_in: Callable[..., str], alive: Callable[[], bytes]
) -> None:
    """Ctrl-C ends the process with what it started, and leaves no folder."""

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporter.export(source, source.parent / "model", {"python": stand_in(HANG)}, interrupt)

    assert set() == left_over(source)
    assert b"x" == alive()
