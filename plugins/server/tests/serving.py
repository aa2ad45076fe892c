"""A server in a thread, over a kernel with an echo model; and the clients that ask it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
from fastapi import FastAPI

from llmos import AsyncClient, KeyRing
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Clock, Kernel, KernelConfig, hookimpl
from llmos_server.app import build, close
from llmos_server.listener import Server, make_server
from llmos_server.console import Console
from llmos_server.options import ServerOptions

PATIENCE = 20.0


class Gauge:
    """An observer that says of whom it was asked, and in which format."""

    name = "gauge"

    @hookimpl
    def llmos_event(self) -> None:
        """Measure nothing."""

    @hookimpl
    def llmos_metrics(self, accept: str, facts: Mapping[str, Any]) -> tuple[str, bytes]:
        """Return both."""
        return "text/plain; version=0.0.4; charset=utf-8", f"{accept} {facts['tenant']}\n".encode()


class Site:
    """A running server, its kernel and its echo model."""

    def __init__(self, url: str, kernel: Kernel, echo: EchoBackend, server: Server, app: FastAPI) -> None:
        self.url, self.kernel, self.echo, self.server, self.app = url, kernel, echo, server, app
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Post JSON."""
        return self.http.post(path, json=body)

    def chat(self, text: str = "one two three", **more: Any) -> Any:
        """Ask the echo model."""
        return self.openai.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}], **more)


@contextmanager
def serving(
    *plugins: object, echo: EchoBackend | None = None, ring: KeyRing | None = None, config: Any = None,
    clock: Clock | None = None, **options: Any,
) -> Iterator[Site]:  # fmt: skip
    """Serve the models ``echo`` and ``toy`` while the block runs; nothing is left afterwards.

    *clock* is the kernel's.
    """
    backend = echo or EchoBackend()
    specs = (echo_spec("echo", aliases=("parrot",), context=64), echo_spec("toy"))
    settings = KernelConfig(**{"models": specs, "timeout": PATIENCE, **(config or {})})
    console = Console()
    with (
        Kernel(settings, plugins=(backend, FirstComePlugin(), console, *plugins), clock=clock) as kernel,
        serving_kernel(kernel, backend, ring, console, **options) as site,
    ):
        yield site


def _listening(path: Path | None) -> socket.socket:
    if path is not None:
        found = socket.socket(socket.AF_UNIX)
        found.bind(str(path))
        found.listen()  # clients may come before the server begins
        return found
    found = socket.create_server(("127.0.0.1", 0))
    # Python sets this for sockets that were made with their protocol's number, as uvicorn's own are.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


@contextmanager
def serving_kernel(
    kernel: Kernel, backend: EchoBackend, ring: KeyRing | None = None, console: Console | None = None,
    path: Path | None = None, **options: Any,
) -> Iterator[Site]:  # fmt: skip
    """Serve a kernel that runs while the block runs, at the Unix socket *path* if one is given.

    The server is gone afterwards.
    """
    chosen, console = ServerOptions(**{"port": 0, "drain": 1.0, "pace": 0.0, **options}), console or Console()
    ready: list[Site] = []
    up = threading.Event()
    with _listening(path) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}" if path is None else f"unix:{path}"

        async def serve() -> None:
            app = build(lambda who: AsyncClient(kernel=kernel, credentials=who), chosen, ring, console)
            server = make_server(app, chosen, app.state.llmos.sessions)
            console.leaving = lambda: server.leaving
            ready.append(Site(url, kernel, backend, server, app))
            up.set()
            await server.serve([listening])
            await close(app)

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        up.wait(PATIENCE)
        site = ready[0]
        try:
            yield site
        finally:
            backend.gate.open()
            site.http.close()
            site.openai.close()
            site.server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of everything that *app* answers, as it routes; a WebSocket has the method ``WEBSOCKET``.

    The document of the application would not do: it leaves some routes out.
    """
    found: set[tuple[str, str]] = set()
    for taken in app.routes:
        for route in getattr(getattr(taken, "original_router", None), "routes", [taken]):
            found |= {(method, route.path) for method in getattr(route, "methods", None) or {"WEBSOCKET"}}
    return found


def bearer(shown: str) -> dict[str, str]:
    """Return the header that shows a key."""
    return {"authorization": f"Bearer {shown}"}


@contextmanager
def streaming(site: Site, text: str = "one two three", **headers: str) -> Iterator[threading.Thread]:
    """Have a chat wait at the shut gate of the echo model while the block runs."""
    site.echo.gate.shut()
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}

    def ask() -> None:
        site.http.post("/v1/chat/completions", json=body, headers=headers)

    thread = threading.Thread(target=ask)
    thread.start()
    site.echo.gate.wait_for_visitor()
    try:
        yield thread
    finally:
        site.echo.gate.open()
        thread.join(PATIENCE)


def ended_tasks(site: Site, count: int, **headers: str) -> list[dict[str, Any]]:
    """Return the tasks that ended, when observers have heard of *count*."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found: list[dict[str, Any]] = site.http.get("/v1/llmos/tasks?state=ended", headers=headers).json()["data"]
        if len(found) >= count:
            return found
    raise TimeoutError(f"{count} tasks did not end")
