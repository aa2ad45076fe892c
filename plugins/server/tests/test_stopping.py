"""How a server ends that is told to: in a process of its own, by signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs
import httpx
import pytest

from llmos_kernel.errors import ConfigError
from llmos_server.listener import listening
from llmos_server.options import ServerOptions
from plugins.server.tests.serving import PATIENCE

ROOT = Path(__file__).parents[3]
BODY = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "stream": True}


@attrs.frozen
class Alone:
    """A server in a process, and a client of its."""

    process: subprocess.Popen[str]
    http: httpx.Client

    def until(self, pipe: IO[str] | None, words: str) -> None:
        """Read lines until one has *words*."""
        assert pipe is not None
        for line in pipe:
            if words in line:
                return
        raise AssertionError(f"{words!r} was never said")

    def began(self) -> None:
        """Wait until a task has begun."""
        self.until(self.process.stdout, "visitor")

    def go_on(self) -> None:
        """Let the task end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def told(self, sig: signal.Signals) -> None:
        """Send the signal, and wait until it was heard."""
        self.process.send_signal(sig)
        self.until(self.process.stderr, "Waiting at most")


@contextmanager
def alone(path: Path) -> Iterator[Alone]:
    """Run a server on a Unix socket."""
    argv = [sys.executable, "-m", "plugins.server.tests.alone", json.dumps({"socket": str(path), "drain": PATIENCE})]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE) as http:
            found = Alone(process, http)
            try:
                found.until(process.stderr, "llmos serves echo")
                yield found
            finally:
                process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets and signals")
def test_sigterm_lets_streams_end(tmp_path: Path) -> None:
    """A stream that runs comes to its end, what is new is sent elsewhere, and then the process ends well."""
    path = tmp_path / "s"
    with alone(path) as server, httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE) as other:
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        request = server.http.build_request("POST", "/v1/chat/completions", json=BODY)
        with socket.socket(socket.AF_UNIX) as reader:
            reader.settimeout(PATIENCE)
            reader.connect(str(path))
            body = request.content
            head = f"POST {request.url.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            server.began()
            server.told(signal.SIGTERM)
            refused = [other.request(method, f"http://localhost{where}", json=BODY if method == "POST" else None)
                       for method, where in (("POST", "/v1/chat/completions"), ("GET", "/ready"))]  # fmt: skip
            healthy = other.get("http://localhost/health")
            server.go_on()
            said = b"".join(iter(lambda: reader.recv(2**16), b""))
        status = server.process.wait(PATIENCE)

    assert [(503, "1", "stopping")] * 2 == [
        (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) for answer in refused
    ]
    assert 200 == healthy.status_code
    assert said.startswith(b"HTTP/1.1 200")
    assert b"data: [DONE]" in said
    assert 0 == status
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets and signals")
def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """The process ends although a stream runs, and says so by its status."""
    path = tmp_path / "s"
    with alone(path) as server, socket.socket(socket.AF_UNIX) as reader:
        body = json.dumps(BODY).encode()
        reader.connect(str(path))
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        server.began()
        server.told(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)

        assert -signal.SIGTERM == server.process.wait(PATIENCE / 2)


# --- Unix sockets ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """By a server that is no more; and removed in the end."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = os.umask(0)
    try:
        with listening(ServerOptions(socket=str(path))) as sockets:
            assert sockets is not None
            assert 0o600 == stat.S_IMODE(path.stat().st_mode)
            assert 0 == os.umask(0)
    finally:
        os.umask(before)

    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
def test_what_is_there_stays(tmp_path: Path) -> None:
    """A socket that a server listens on, and a file that is no socket."""
    path, file = tmp_path / "s", tmp_path / "f"
    file.write_text("mine", "utf-8")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        for taken in (path, file):
            with pytest.raises(ConfigError, match="cannot listen on"), listening(ServerOptions(socket=str(taken))):
                pass

    assert "mine" == file.read_text("utf-8")
    assert path.exists()


def test_an_address_is_left_to_the_server() -> None:
    """Nothing is opened for it."""
    with listening(ServerOptions()) as sockets:
        assert sockets is None
