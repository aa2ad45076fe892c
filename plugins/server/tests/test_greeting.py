"""What a person reads when the server begins to listen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmos import Settings
from llmos.testing import EchoBackend, FirstComePlugin, ScriptedPolicy, echo_spec
from llmos_kernel import Decision, KernelConfig, ModelSpec, hookimpl
from llmos_kernel.errors import ConfigError, InvalidArgument
from llmos_server.command import _serve
from llmos_server.greeting import lines
from llmos_server.options import ServerOptions

PROGRAM = "import signal; signal.signal(2, signal.default_int_handler); from llmos.cli import main; main()"
"""llmos, which CI may have begun deaf to Ctrl-C."""
MODELS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("models", "told"),
    [([], "no model yet"), (["a"], "a at"), (MODELS[:3], "a, b, c at"), (MODELS, "a, b, c and 2 more at")],
)
def test_models_are_named(models: list[str], told: str) -> None:
    """The first by name, and how many there are besides."""
    assert told in lines("http://127.0.0.1:1", ServerOptions(), models, 0)[0]


def test_addresses_are_said() -> None:
    """For a browser, for both kinds of clients, and where the document of the API is."""
    told = "\n".join(lines("http://127.0.0.1:1", ServerOptions(), MODELS, 0))

    assert all(f"http://127.0.0.1:1{path}" in told for path in ("/\n", "/v1\n", "/openapi.json\n"))
    assert "No key is needed" in told
    assert "Ctrl-C" in told


@pytest.mark.parametrize(("keys", "told"), [(1, "there is 1 key."), (2, "there are 2 keys.")])
def test_who_may_come_is_said(keys: int, told: str) -> None:
    """Where keys are asked for, how many there are."""
    assert any(told in line for line in lines("http://10.0.0.1:1", ServerOptions(host="10.0.0.1"), MODELS, keys))


def test_a_socket_has_no_addresses(tmp_path: Path) -> None:
    """Browsers do not reach it."""
    told = "\n".join(lines("/run/llmos", ServerOptions(socket=str(tmp_path / "llmos")), MODELS, 0))

    assert "http" not in told
    assert "/run/llmos" in told


def test_a_person_hears_where_and_how_it_ends(tmp_path: Path) -> None:
    """Nothing else is said between the start and Ctrl-C, and the exit code is that of an interruption."""
    (tmp_path / "llmos.toml").write_text("plugins = ['llmos-server', 'llmos-schedulers']\n", "utf-8")
    command = [sys.executable, "-c", PROGRAM, "--config", str(tmp_path / "llmos.toml"), "serve", "--port", "0"]
    variables = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables, cwd=tmp_path) as process:
        assert process.stderr is not None
        told = [process.stderr.readline()]
        while told[-1] and "Ctrl-C" not in told[-1]:
            told.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert told[0].startswith("llmos serves no model yet (llmos models add brings one) at http://127.0.0.1:")
    assert ("interrupted\n", 130) == (rest.lstrip(), process.returncode)


class Namesake:
    """A plugin with a model whose name the settings give to another."""

    name = "namesake"

    @hookimpl
    def llmos_models(self) -> list[ModelSpec]:
        """Offer it."""
        return [echo_spec("echo", context=7)]


def test_what_is_wrong_is_told_before_anybody_can_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that cannot start is the end of the server, and not a failure of each request."""
    settings = Settings(kernel=KernelConfig(models=(echo_spec("echo"),)), home=tmp_path)
    options = ServerOptions(socket=str(tmp_path / "socket"))
    with pytest.raises(InvalidArgument, match="name 'echo' is taken"):
        asyncio.run(_serve(settings, (EchoBackend(), FirstComePlugin(), Namesake()), options, ["echo"]))

    assert "" == capsys.readouterr().err
    assert not (tmp_path / "socket").exists()


def test_a_policy_against_who_has_no_key_is_no_hindrance(tmp_path: Path) -> None:
    """The kernel runs all the same; here the server ends because its place is taken."""
    settings = Settings(kernel=KernelConfig(models=(echo_spec("echo"),)), home=tmp_path)
    policy = ScriptedPolicy(Decision.DENY)
    (tmp_path / "socket").touch()
    options = ServerOptions(socket=str(tmp_path / "socket"))
    with pytest.raises(ConfigError, match="cannot listen"):
        asyncio.run(_serve(settings, (EchoBackend(), FirstComePlugin(), policy), options, ["echo"]))

    assert ["attach"] == [action.name for action in policy.actions]
