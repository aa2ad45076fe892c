"""One client's HTTP connection: uvicorn's, with httptools, and limits on how much and how long a client may send.

uvicorn waits for ever for the rest of a head, for the rest of a body that was refused, and for a reader that takes
nothing.  Each of these holds a connection that costs its client nothing, so each has its time here.  httptools reads
what it is given without a bound, and leaves it to who uses it what a request must have (RFC 9112).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, Literal, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from llmos_kernel.errors import KernelBug
from llmos_server.failures import Refusal
from llmos_server.options import ServerOptions

HEAD = 2**16
"""Most bytes of a request's first line and headers, and of whatever else comes that is no body."""
AHEAD = 16
"""Most requests that may be sent before the one before them was answered."""
faults = logging.getLogger("uvicorn.error").getChild("connections")
"""Hears of connections only what is wrong with the server.

uvicorn also says of each WebSocket that it came, and of each request that it is none, so that whoever is refused could
fill the log.
"""


class Joined:
    """A transport that sends together what is written to it in one turn of the event loop.

    uvicorn writes the head of an answer, what is in it and its end apart, and each would be a call of the system, and
    one more that wakes the client.  What is not said here is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send *data* at the end of this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def write_eof(self) -> None:
        """End this side after what was written."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """End the connection after what was written."""
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were written and are not sent."""
        return sum(map(len, self._parts)) + self._transport.get_write_buffer_size()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, options: ServerOptions, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self.logger = faults
        self._options = options
        self._at: Literal["start", "head", "body"] = "start"
        """What of a request is read now."""
        self._apart = 0
        """Bytes that came since the last of a body, or of a request."""
        self._latest = b""
        """What came last."""
        self._wrong: Refusal | None = None
        """What the parser was stopped for."""
        self._deaf = False
        """Whether what comes is read and left: a connection that is ended with bytes unread loses the answer too."""
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is answered."""
        return not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

    # --- the transport -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Expect a head."""
        super().connection_made(cast("asyncio.Transport", Joined(transport, self.loop)))
        self._watch(begun=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        _stop(self._late)
        _stop(self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, for so much and so long."""
        if self._deaf:
            return
        self._apart += len(data)
        self._latest = data
        super().data_received(data)
        self._latest = b""
        if self._apart > HEAD and not self._deaf:
            self._refuse(_too_long())
        if not self._deaf:
            self._watch()

    def eof_received(self) -> None:
        """Give up what is being answered: asyncio ends a connection whose client has ended its side.

        It would take until the last of what waits to be written was written, or could not be.
        """
        if self.busy:
            self._give_up()

    def pause_writing(self) -> None:
        """Wait for a reader that takes nothing, for so long."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._options.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the reader took something."""
        _stop(self._stalled)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also one whose last answer was never taken."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self._stalled = self.loop.call_later(self._options.stall_seconds, self.transport.abort)

    # --- the parser --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._at = "head"

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is nobody's, and its request is being answered."""
        if self._at == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Answer a request, unless it is none."""
        self._wrong = self._problem()
        if self._wrong is not None:
            raise ValueError(self._wrong.message)  # this alone stops the parser
        self._at = "body"
        if not self._is_foreign():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._apart = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next request."""
        self._at, self._apart = "start", 0
        if not self._is_foreign():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that nobody reads, or the next head."""
        super().on_response_complete()
        if self._at == "body" and self.expect_100_continue and not self.busy:
            self._end()  # the client need not send it now (RFC 9110, section 10.1.1)
        else:
            self._watch()

    def _is_foreign(self) -> bool:
        """Return whether a protocol is asked for that is not spoken here."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Answer in this protocol (RFC 9110, section 7.8).

        The parser takes what follows such a head for the other protocol's, so it reads it again without the wish.
        """
        (end,) = cast("httptools.HttpParserUpgrade", sys.exception()).args  # uvicorn calls this where it caught it
        fields = b"".join(b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade")
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (self.parser.get_method(), self.url, fields)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + self._latest[end:])

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the form of all errors."""
        error = sys.exception()
        if self._wrong is None and isinstance(error, httptools.HttpParserCallbackError):
            faults.error("A connection failed", exc_info=error)
            self._wrong = Refusal.of(KernelBug("a connection failed"))
        self._refuse(self._wrong or Refusal(400, "this is no HTTP request", code="bad_request"))

    def _problem(self) -> Refusal | None:
        """Return what is wrong with the head that was read, besides what the parser finds."""
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            return Refusal(400, "a request has one Host", code="bad_request")
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD:
            return _too_long()
        if self.parser.get_method() == b"CONNECT" or not _has_path(self.url):
            return Refusal(400, "a request has a path", code="bad_request")
        if len(self.pipeline) >= AHEAD:
            return Refusal(400, f"more than {AHEAD} requests wait for the one before them", code="bad_request")
        return None

    # --- limits ------------------------------------------------------------------------------------------------

    def _watch(self, *, begun: bool = False) -> None:
        """Let the time run while a head is awaited that began, or the rest of a body after its answer."""
        head = self._at == "head" or (self._at == "start" and (begun or self._apart > 0))
        rest = self._at == "body" and self.cycle.response_complete
        if self.transport.is_closing() or not (head or rest):
            _stop(self._late)
            self._late = None
        elif self._late is None:
            self._late = self.loop.call_later(self._options.head_seconds, self._too_late)

    def _too_late(self) -> None:
        if self._apart and self._at != "body":
            told = f"the headers did not come within {self._options.head_seconds:g} seconds"
            self._refuse(Refusal(408, told, "timeout_error", code="request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless something else is being answered, and end the connection."""
        if self.pipeline or (self.busy and self.cycle.response_started):
            self.transport.close()
            return
        if self.busy:
            self._give_up()
        response = refusal.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + head + b"\r\n" + bytes(response.body))
        self._end()

    def _give_up(self) -> None:
        """Let who answers know that nobody reads."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def _end(self) -> None:
        """End the connection once the client has, or has had the time to."""
        self._deaf = True
        self.transport.write_eof()
        _stop(self._late)
        self._late = self.loop.call_later(self._options.head_seconds, self.transport.close)


def _too_long() -> Refusal:
    return Refusal(431, f"the first line and the headers have more than {HEAD} bytes", code="bad_request")


def _has_path(url: bytes) -> bool:
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        return False
    return bool(path) and path.isascii()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    """Stop the timer, if there is one."""
    if timer is not None:
        timer.cancel()
