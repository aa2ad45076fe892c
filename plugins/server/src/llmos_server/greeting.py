"""What ``llmos serve`` says to the person who started it, once it listens: where, what, for whom, and how it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from llmos_server.options import ServerOptions

if TYPE_CHECKING:
    import uvicorn

SHOWN = 3
"""Names of models that are said."""


def greet(server: uvicorn.Server, options: ServerOptions, models: Sequence[str], keys: int) -> None:
    """Have *server* say on standard error, when it listens, what it serves; its log says only what goes wrong.

    uvicorn calls nobody when it begins to listen, so the method of this one server that begins it is followed.
    """

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await type(server).startup(server, sockets=sockets)
        if server.started:
            for line in lines(_where(server, options), options, models, keys):
                click.echo(line, err=True)

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server.startup = startup  # type: ignore[method-assign]


def lines(where: str, options: ServerOptions, models: Sequence[str], keys: int) -> list[str]:
    """Return what is said of a server of *models* that listens at *where*, for which there are so many *keys*."""
    told = [f"llmos serves {_names(models)} at {where}", ""]
    if not options.socket:
        told += [
            f"  in a browser      {where}/",
            f"  OpenAI's clients  {where}/v1",
            f"  Ollama's clients  {where}",
            f"  API's document    {where}/openapi.json",
            "",
        ]
    count = f"{keys} key{'s' * (keys != 1)}"
    told.append("No key is needed on this machine." if options.open else f"A key is needed; there {_be(keys)} {count}.")
    return [*told, f"Ctrl-C stops it: requests that run have {options.drain:g} s to end, or until a second Ctrl-C."]


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _names(models: Sequence[str]) -> str:
    """Return the first *models* by name, and how many there are besides."""
    more = len(models) - SHOWN
    if not models:
        return "no model yet (llmos models add brings one)"
    return ", ".join(models[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _where(server: uvicorn.Server, options: ServerOptions) -> str:
    """Return the address of *server*, with the port that it was given where any was asked for."""
    if options.socket:
        return options.socket
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"http://[{options.host}]:{port}" if ":" in options.host else f"http://{options.host}:{port}"
