"""Served beside embedded, one and many clients, and streams that wait: measured, printed, and saved if told."""

from __future__ import annotations

import argparse
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.figures import machine, quantile
from tests.benchmarks.serving.asking import Answered
from tests.benchmarks.serving.report import SHORT, markdown
from tests.benchmarks.serving.side import MODEL

HOST = "127.0.0.1"
SETTINGS = """
[[models]]
name = "{name}"
backend = "onnx"
path = "{path}"
options = {{ slots = 16, context = 1024, threads = {threads} }}

[options."command:serve"]
port = {port}
streams = 1200
"""
WRITE = """
import pathlib, sys
from tests.benchmarks.peers.llamacpp import prepare
prepare(*map(pathlib.Path, sys.argv[1:]), "q8_0")
"""
CLIENTS = (1, 4, 16, 64, 256)
LOADS = (0.5, 0.8)
"""Shares of the highest rate at which requests come by themselves."""
SHARE = 0.8
"""Of the rate at which clients are answered in the kernel's process: how often requests come by themselves."""
IDLE, LONG = 1000, 400
"""Streams that wait, and the tokens that those ask for whose turn it is."""
ENOUGH = 0.95
"""The share of them that have to wait at once: the first come to their end while the last begin."""
PATIENCE = 60.0


@attrs.frozen(kw_only=True)
class Figures:
    """What one run came to.  Times are in seconds."""

    n: int
    failed: int
    tokens_per_second: float
    requests_per_second: float
    first_p50: float
    first_p95: float
    between_p50: float

    @classmethod
    def of(cls, answers: Sequence[Answered]) -> Figures:
        """Return the figures of *answers*."""
        good = [one for one in answers if not one.error]
        span = max(one.began + one.total for one in good) - min(one.began for one in good)
        firsts = [one.first for one in good]
        between = [(one.total - one.first) / (one.tokens - 1) for one in good if one.tokens > 1]
        return cls(
            n=len(answers), failed=len(answers) - len(good),
            tokens_per_second=sum(one.tokens for one in good) / span, requests_per_second=len(good) / span,
            first_p50=statistics.median(firsts), first_p95=quantile(firsts, 0.95),
            between_p50=statistics.median(between) if between else 0.0,
        )  # fmt: skip


def side(*arguments: object) -> Figures:
    """Ask in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.serving.side", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Figures.of([Answered(**one) for one in json.loads(done.stdout)])


def ours(settings: Path) -> list[str]:
    """Return the command that serves by *settings*."""
    return [sys.executable, "-m", "llmos", "--config", str(settings), "serve"]


def theirs(python: str, checkpoint: Path, folder: Path, port: int, threads: int) -> list[str]:
    """Return the command of llama-cpp-python's server, of the environment of *python*; the model is written first."""
    subprocess.run([python, "-c", WRITE, str(checkpoint), str(folder)], check=True, stderr=subprocess.DEVNULL)
    model = ["--model", str(folder / "q8_0.gguf"), "--model_alias", MODEL, "--n_ctx", "1024"]
    how = ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--interrupt_requests", "false"]
    return [python, "-m", "llama_cpp.server", "--host", HOST, "--port", str(port), *model, *how]


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve while the block runs."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _listening(port, process)
            yield process
        finally:
            process.terminate()


def _listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((HOST, port), 1.0).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server((HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def resident(process: subprocess.Popen[bytes]) -> int:
    """Return the bytes of memory that a process has."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def idle(process: subprocess.Popen[bytes], port: int, count: int) -> dict[str, int]:
    """Return what *count* streams cost that were begun and wait for their turn behind sixteen long ones."""
    wish = {"model": MODEL, "prompt": "one two", "max_tokens": LONG, "stream": True, "temperature": 0.0}
    body = json.dumps(wish).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    before, opened = resident(process), list[socket.socket]()
    try:
        for _ in range(count):
            opened.append(socket.create_connection((HOST, port), PATIENCE))
            opened[-1].sendall(request)
        waiting, until = 0, time.monotonic() + PATIENCE
        while waiting < ENOUGH * count and time.monotonic() < until:
            waiting = _live(port)
            time.sleep(0.2)
        return {"streams": waiting, "bytes": resident(process) - before}
    finally:
        for one in opened:
            one.close()


def _live(port: int) -> int:
    """Return how many tasks the kernel has."""
    with socket.create_connection((HOST, port), PATIENCE) as connection:
        request = f"GET /v1/llmos/stats HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    stats = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    return sum(stats["tasks"].values())


def both(settings: Path, port: int, *wish: object) -> dict[str, Any]:
    """Ask for the same in the kernel's process and over HTTP, one after the other; return the figures of both."""
    embedded = side("--settings", settings, *wish)
    with server(ours(settings), port):
        served = side("--url", f"http://{HOST}:{port}", *wish)
    return {"embedded": attrs.asdict(embedded), "served": attrs.asdict(served)}


def one_round(settings: Path, port: int, *wish: object) -> dict[str, Any]:
    """Return both ways' figures by how requests come: from clients that wait, by themselves, and for short answers."""
    closed = both(settings, port, *wish)
    rate = SHARE * closed["embedded"]["requests_per_second"]
    return {
        "closed": closed, "open": both(settings, port, *wish, "--rate", rate),
        "short": both(settings, port, *wish, "--tokens", SHORT),
    }  # fmt: skip


def measure(settings: Path, port: int, rounds: int, requests: int) -> dict[str, Any]:
    """Return everything, with so many *requests* a side of each round."""
    url = f"http://{HOST}:{port}"
    found = [one_round(settings, port, "--seed", number, "--requests", requests) for number in range(rounds)]
    with server(ours(settings), port) as process:
        crowds = [side("--url", url, "--clients", count, "--requests", max(16, 2 * count)) for count in CLIENTS]
        most = max(one.requests_per_second for one in crowds)
        loads = [side("--url", url, "--rate", share * most, "--requests", 48) for share in LOADS]
        waiting = idle(process, port, IDLE)
    return {
        "machine": machine(), "requests": requests, "rounds": found,
        "crowds": [{"clients": count, **attrs.asdict(one)} for count, one in zip(CLIENTS, crowds, strict=True)],
        "loads": [{"share": share, **attrs.asdict(one)} for share, one in zip(LOADS, loads, strict=True)],
        "idle": waiting,
    }  # fmt: skip


def main() -> None:
    """Measure, print the tables, and save the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description="Measure llmos serve.")
    parser.add_argument("folder", type=Path, help="a native model folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=48, help="of each side of a round; more for a quick model")
    parser.add_argument("--threads", type=int, default=1, help="of the model; the rest is left to server and clients")
    parser.add_argument("--llamacpp", metavar="PYTHON", help="an interpreter with llama-cpp-python[server] and gguf")
    parser.add_argument("--checkpoint", type=Path, help="what the folder was exported from, for llama.cpp")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--name", help="what the model is called in the tables; the folder's name unless told")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as name:
        settings, port = Path(name) / "llmos.toml", free_port()
        path = options.folder.resolve()
        peers = {}
        if options.llamacpp:
            command = theirs(options.llamacpp, options.checkpoint, Path(name), port, options.threads)
            with server(command, port):
                peers["llama-cpp-python's server, q8_0"] = attrs.asdict(side("--url", f"http://{HOST}:{port}"))
        settings.write_text(SETTINGS.format(name=MODEL, path=path, threads=options.threads, port=port), "utf-8")
        facts = {"model": options.name or path.name, "threads": options.threads, "peers": peers}
        found = facts | measure(settings, port, options.rounds, options.requests)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(markdown([found]))


if __name__ == "__main__":
    main()
