"""Requests as bytes, for what no client library would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plugins.server.tests.serving import PATIENCE, Site

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def client(site: Site, room: int = 0) -> Iterator[socket.socket]:
    """Connect; *room* is how many bytes the client's side of the connection holds."""
    with socket.socket() as opened:
        opened.settimeout(PATIENCE)
        if room:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        opened.connect((site.http.base_url.host, site.http.base_url.port))
        yield opened


def asked(text: str = "hi", **more: Any) -> bytes:
    """Return a whole request."""
    body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": text}], **more}).encode()
    return HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def rest(opened: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    return b"".join(iter(lambda: opened.recv(2**16), b""))


def error(answer: bytes) -> tuple[int, str]:
    """Return status and code of an answer in OpenAI's form; there must be nothing after it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]
