"""A far end on this machine: it answers what a test tells it to, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

PATIENCE = 20.0
EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"


@attrs.frozen
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    """With names in small letters."""
    body: Any


@attrs.frozen
class Reply:
    """An answer: *pieces* are sent one by one; then it ends as *ending* says.

    ``whole`` ends it as HTTP should, ``break`` closes the connection in the middle, and ``stay`` sends nothing more
    until the other side has gone.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    type: str = JSON
    headers: Mapping[str, str] = attrs.field(factory=dict)
    ending: str = "whole"


def plain(value: object, status: int = 200, **headers: str) -> Reply:
    """Return an answer of JSON; underscores in the names of *headers* are hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply((json.dumps(value).encode(),), status, headers=named)


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Return a refusal in OpenAI's form."""
    return plain({"error": {"message": message, "type": "error", "param": None, "code": code}}, status, **headers)


def events(*values: object, done: bool = True, ending: str = "whole", **headers: str) -> Reply:
    """Return server-sent events with JSON for data."""
    pieces = [f"data: {json.dumps(value)}\n\n".encode() for value in values]
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply([*pieces, *([b"data: [DONE]\n\n"] if done else [])], 200, EVENTS, named, ending)


class FarEnd(ThreadingHTTPServer):
    """The server.  `replies` are given one after the other; when none is left, `always`."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: deque[Reply] = deque()
        self.always = Reply(status=500)
        self.asked: list[Asked] = []
        self.gone = threading.Event()
        """Set when the other side closed a connection on which the answer was to stay."""
        self.begun = threading.Event()
        """Set when an answer that stays has sent its pieces."""

    def reply(self, asked: Asked) -> Reply:
        """Return the answer to a request."""
        return self.replies.popleft() if self.replies else self.always

    @property
    def url(self) -> str:
        """Its address, as a ``base_url``."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FarEnd

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        named = {name.lower(): text for name, text in self.headers.items()}
        self.server.asked.append(Asked(self.path, named, json.loads(body)))
        self._send(self.server.reply(self.server.asked[-1]))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, text in {"content-type": reply.type, "transfer-encoding": "chunked", **reply.headers}.items():
            self.send_header(name, text)
        self.end_headers()
        try:
            for piece in reply.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if reply.ending == "whole":
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # the other side had enough
            self.close_connection = True
        if reply.ending != "whole":
            self.close_connection = True
        if reply.ending == "stay":
            self._stay()

    def _stay(self) -> None:
        self.wfile.flush()
        self.server.begun.set()
        self.connection.settimeout(PATIENCE)
        try:
            if self.connection.recv(1) == b"":
                self.server.gone.set()
        except ConnectionError:
            self.server.gone.set()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def far_end(kind: type[FarEnd] = FarEnd) -> Iterator[FarEnd]:
    """Give a server that runs while the block does."""
    with kind() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="far-end")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
