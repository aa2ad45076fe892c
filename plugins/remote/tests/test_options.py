"""What a model's options may be, and which far ends a key may go to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from llmos import Secret
from llmos_kernel import ModelSpec
from llmos_kernel.errors import ModelUnavailable, PluginMissing
from llmos_remote.openai import OpenAIBackend
from llmos_remote.options import Prices, read_place

WRONG: dict[str, Any] = {
    "api_key": "sk-plain", "rows": 0, "timeout": 0, "retries": -1, "prices": {"output": 1}, "extra": "top_k",
    "text": "either", "length": "long", "insecure": "yes", "model": 5, "base_url": 5, "patience": float("nan"),
    "basurl": "",
}  # fmt: skip


def spec(**options: Any) -> ModelSpec:
    """Return the specification of a model at OpenAI's."""
    return ModelSpec(name="gpt-4o", backend="openai", kinds=("chat",), options=options)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name: str) -> None:
    """An option that is wrong is named with what would be right, by `measure` already; a key is not shown."""
    with pytest.raises(ModelUnavailable) as refused:
        OpenAIBackend({}).measure(spec(**{name: WRONG[name]}))

    assert str(refused.value.fields["field"]).startswith(name)
    assert refused.value.fields["expected"]
    assert "sk-plain" not in repr(refused.value.to_wire())


@pytest.mark.parametrize("kinds", [("classify",), ("chat", "tokenize")])
def test_wrong_kinds(kinds: tuple[str, ...]) -> None:
    """A kind of task that such a model cannot serve is refused when it is loaded, not when it is asked."""
    with pytest.raises(ModelUnavailable, match=kinds[-1]):
        OpenAIBackend({}).measure(ModelSpec(name="x", backend="openai", kinds=kinds))


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1", "http://169.254.169.254/latest", "http://127.0.0.1.example.com", "ftp://127.0.0.1",
        "https://", "https://user:pass@api.example.com", "https://api.example.com?key=1", "https://api.example.com#x",
        "https://api.example.com:port", "https://api.exa mple.com", "file:///etc/passwd", "api.example.com", "https://[::1",
        "http://0x7f000001.example", "http://10.0.0.1:8000/v1",
    ],
)  # fmt: skip
def test_refused_places(url: str) -> None:
    """Only https goes to other machines, and an address is nothing but scheme, host, port and path."""
    with pytest.raises(ModelUnavailable) as refused:
        OpenAIBackend({}).measure(spec(base_url=url))

    assert refused.value.fields["field"] == "base_url"
    assert "pass" not in repr(refused.value.to_wire()) or "passwd" in url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://localhost:11434/v1/", "http://[::1]:1/v1", "https://10.0.0.1/v1"]
)
def test_allowed_places(url: str) -> None:
    """Plain http goes to this machine."""
    assert (
        read_place(url, "far", insecure=False).url == url.rstrip("/")
        or ":443" in read_place(url, "far", insecure=False).url
    )


def test_insecure() -> None:
    """Plain http to another machine has to be asked for."""
    assert read_place("http://10.0.0.1:8000", "far", insecure=True).port == 8000


@given(st.text(max_size=80))
def test_any_address(url: str) -> None:
    """Whatever the address is, it is a place or the one error."""
    try:
        place = read_place(url, "far", insecure=False)
    except ModelUnavailable:
        return

    assert place.scheme == "https" or (place.scheme == "http" and place.local)


def test_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenAI's models need a key: where it is missing, empty or broken, the error says where to put it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        OpenAIBackend({}).load(spec())
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(ModelUnavailable, match="EMPTY"):
        OpenAIBackend({}).load(spec(api_key=Secret(env="EMPTY")))
    broken = tmp_path / "key"
    broken.write_text("two words", "utf-8")
    with pytest.raises(ModelUnavailable) as refused:
        OpenAIBackend({}).load(spec(api_key=Secret(file=str(broken))))
    assert "two words" not in repr(refused.value.to_wire())


def test_key_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key may be in a file, and OpenAI's own in the environment."""
    (tmp_path / "key").write_text("sk-1\n", "utf-8")
    OpenAIBackend({}).load(spec(api_key=Secret(file=str(tmp_path / "key")))).close()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-2")
    OpenAIBackend({}).load(spec()).close()


def test_missing_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the maker's client the error is the command that installs it, and `doctor` says the same."""
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    backend = OpenAIBackend({})
    with pytest.raises(PluginMissing, match=r"pip install 'llmos-remote\[openai\]'"):
        backend.load(spec())

    assert backend.doctor()["providers"]["openai"]["runs"] is False


def test_cached_tokens_cost_what_others_do() -> None:
    """A price of cached tokens that is not given is the prompt's."""
    options = OpenAIBackend({})._read(spec(prices={"prompt": 3.0}))[0]

    assert options.prices == Prices(prompt=3.0, cached=3.0)


def test_nothing_heavy_before_a_model_is_loaded() -> None:
    """Importing the plugins and measuring a model imports no client of a maker's, and no HTTP."""
    program = (
        "import sys; from llmos_kernel import ModelSpec; from llmos_remote.openai import llmos_backend\n"
        "llmos_backend({}).measure(ModelSpec(name='gpt-4o', backend='openai'))\n"
        "heavy = {'openai', 'anthropic', 'google.genai', 'httpx', 'httpx2', 'pydantic', 'ssl', 'anyio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
