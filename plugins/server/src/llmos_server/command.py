"""``llmos serve``."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import click

from llmos import AsyncClient, KeyRing, Settings, read_options
from llmos.cli import Common, pass_common
from llmos_kernel.api import Credentials
from llmos_kernel.errors import PermissionDenied
from llmos_kernel.hookspecs import hookimpl
from llmos_server.console import Console
from llmos_server.options import SOURCE, ServerOptions

api = 1
"""The version of the command contract that this module is written for."""


@hookimpl
def llmos_command() -> click.Command:
    """Return the command."""
    return serve


@click.command("serve")
@click.option("--host", help="An address of this machine.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 is any that is free.  [default: 11535]")
@click.option("--socket", metavar="PATH", help="Listen on a Unix socket instead.")
@pass_common
def serve(common: Common, /, **given: object) -> None:
    """Serve the models over HTTP, to the clients of OpenAI's API.

    By itself only programs of this machine can reach the server; on any other address it asks for keys, which `llmos
    keys create` makes.  Ctrl-C and SIGTERM let the requests that run come to their end;
    a second one does not wait for them.
    """
    settings = common.settings()
    configured = settings.kernel.options.get(SOURCE, {})
    chosen = {name: value for name, value in given.items() if value is not None}
    options = read_options(ServerOptions, {**configured, **chosen}, SOURCE)
    models = sorted(spec.name for spec in (*common.installed().models(), *settings.kernel.models))
    asyncio.run(_serve(settings, common.plugins, options, models))


async def _serve(settings: Settings, plugins: tuple[object, ...], options: ServerOptions, models: list[str]) -> None:
    """Serve; the kernel starts first, so that what is wrong with the settings is told here and not to a client.

    It stays until the end, whoever comes and goes.
    """
    from llmos_server.app import build, close  # noqa: PLC0415 - FastAPI takes half a second, which only who serves pays
    from llmos_server.greeting import greet  # noqa: PLC0415 - the same
    from llmos_server.listener import listening, make_server  # noqa: PLC0415 - the same for uvicorn

    console = Console()
    given = (console, *plugins)

    def connect(who: Credentials) -> AsyncClient:
        return AsyncClient(config=settings, plugins=given, credentials=who)

    ring = KeyRing(settings.home)
    app = build(connect, options, ring, console)
    app.state.home = settings.home
    server = make_server(app, options, app.state.llmos.sessions)
    greet(server, options, models, len(ring.listed()))
    console.leaving = lambda: server.leaving
    try:
        async with AsyncExitStack() as held:
            with suppress(PermissionDenied):  # a policy that lets in holders of keys alone: the kernel has started
                await held.enter_async_context(connect(Credentials()))
            with listening(options) as sockets:
                await server.serve(sockets)
    finally:
        await close(app)
