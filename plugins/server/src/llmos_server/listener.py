"""The HTTP server: uvicorn, with limits on how long clients may take, and an end that lets requests end.

uvicorn waits for ever for the rest of a head, for the rest of a body that was refused, and for a reader that takes
nothing.  Each of these holds a connection that costs its client nothing, so each has its time here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from llmos_kernel.errors import ConfigError
from llmos_server.failures import Refusal
from llmos_server.options import ServerOptions

HEAD = 2**16
"""Most bytes of a request's first line and headers."""
QUEUE = 2048
"""Clients that may wait to be accepted; uvicorn has it so for addresses."""
OWNER = 0o177
"""What nobody but the owner of a socket may do with it."""
_log = logging.getLogger("uvicorn.error")
_faults = _log.getChild("connections")
"""Hears of connections only what is wrong with the server.

uvicorn also says of each WebSocket that it came, and of each request that it is none, so that whoever is refused could
fill the log.
"""


class Connection(H11Protocol):
    """One client's connection."""

    def __init__(self, *args: Any, options: ServerOptions, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self.logger = _faults
        self._options = options
        self._late: asyncio.TimerHandle | None = None
        self._refused = False
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is answered."""
        return not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Expect a head."""
        super().connection_made(transport)
        self._watch(begun=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        _stop(self._late)
        _stop(self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, for so long."""
        if self._refused:
            return  # it is read and left, because a connection that is ended with bytes unread loses the answer too
        super().data_received(data)
        if not self._refused:
            self._watch()

    def eof_received(self) -> None:
        """Give up what is being answered: asyncio ends a connection whose client has ended its side.

        It would take until the last of what waits to be written was written, or could not be.
        """
        super().eof_received()
        if self.busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that nobody reads, or the next head."""
        super().on_response_complete()
        self._watch()

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

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the form of all errors."""
        error = sys.exception()  # uvicorn calls this where it caught it
        too_long = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431
        told = f"the first line and the headers have more than {HEAD} bytes" if too_long else "this is no HTTP request"
        self._refuse(Refusal(431 if too_long else 400, told, code="bad_request"))

    def _watch(self, *, begun: bool = False) -> None:
        """Let the time run while a head is awaited that began, or the rest of a body after its answer."""
        theirs, ours = self.conn.their_state, self.conn.our_state
        head = theirs is h11.IDLE and (begun or bool(self.conn.trailing_data[0]))
        rest = theirs is h11.SEND_BODY and ours is h11.DONE
        if self.transport.is_closing() or not (head or rest):
            _stop(self._late)
            self._late = None
        elif self._late is None:
            self._late = self.loop.call_later(self._options.head_seconds, self._too_late)

    def _too_late(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            told = f"the headers did not come within {self._options.head_seconds:g} seconds"
            self._refuse(Refusal(408, told, "timeout_error", code="request_timeout"))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless something else is being answered, and end the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = refusal.response()
            headers = [*response.raw_headers, (b"connection", b"close")]
            head = h11.Response(status_code=refusal.status, headers=headers)
            for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self._refused = True
            self.transport.write_eof()
            _stop(self._late)
            self._late = self.loop.call_later(self._options.head_seconds, self.transport.close)
        else:
            self.transport.close()


class Socket(WebSocketsSansIOProtocol):
    """One remote client's connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _faults

    async def send(self, message: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Send it.  A refusal that is whole ends the handshake: uvicorn would call that the application's error."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """End it; uvicorn would raise for one that is ending, and so end nothing after it."""
        if self.handshake_complete and self.conn.state is not State.OPEN:
            self.transport.close()
        else:
            super().shutdown()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    """Stop the timer, if there is one."""
    if timer is not None:
        timer.cancel()


class Guests(Protocol):
    """Clients that stay connected."""

    @property
    def busy(self) -> bool:
        """Whether one of them waits for something."""

    def drain(self) -> None:
        """Let them begin nothing new."""

    async def close(self) -> None:
        """Tell them that it is over, and end their connections."""


class Server(uvicorn.Server):
    """The server of one application.  When it is told to stop it answers 503 to what is new until what runs has ended.

    Told so a second time, it ends at once.
    """

    def __init__(self, config: uvicorn.Config, drain: float) -> None:
        super().__init__(config)
        self._drain = drain
        self.guests: Guests | None = None
        """The remote clients, who stay connected: whether they wait for something, and who tells them of the end."""
        self._until: float | None = None

    @property
    def leaving(self) -> bool:
        """Whether it is about to end."""
        return self.should_exit or self._until is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; the second time, end."""
        if self._until is None:
            self._until = time.monotonic() + self._drain
            if sig == signal.SIGINT:  # who is at a terminal is told so by the exit status; for SIGTERM it is 0
                self._captured_signals.append(sig)
            if self._busy():
                _log.warning("Waiting at most %g seconds for requests to end", self._drain)
        else:
            self._captured_signals.append(sig)
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to end; then the guests have been told."""
        over = await self._is_over(counter)
        if over and self.guests is not None:
            await self.guests.close()
        return over

    async def _is_over(self, counter: int) -> bool:
        if await super().on_tick(counter):
            return True
        if self._until is None:
            return False
        left = self._until - time.monotonic()
        self.config.timeout_graceful_shutdown = max(0, round(left))
        return not self._busy() or left <= 0

    def _busy(self) -> bool:
        """Return whether a request is answered, or a remote client waits for something; it may begin nothing new."""
        if self.guests is not None:
            self.guests.drain()
            if self.guests.busy:
                return True
        return any(isinstance(one, Connection) and one.busy for one in list(self.server_state.connections))


def make_server(app: Any, options: ServerOptions, guests: Guests | None = None) -> Server:  # noqa: ANN401 - any ASGI
    """Return the HTTP server for *app*, which takes leave of its *guests*."""
    protocol: Callable[..., Any] = partial(Connection, options=options)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, lifespan="off", log_level="info", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=round(options.drain),
        http=protocol,  # type: ignore[arg-type] # what makes one, as uvicorn uses it
        h11_max_incomplete_event_size=HEAD, ws=Socket, ws_max_size=options.body,
        ws_per_message_deflate=False,
    )  # fmt: skip
    _faults.setLevel(logging.ERROR)  # not before: the configuration takes the levels of its loggers' children away
    server = Server(config, options.drain)
    server.guests = guests
    return server


@contextmanager
def listening(options: ServerOptions) -> Iterator[list[socket.socket] | None]:
    """Yield the Unix socket to listen on, if that is wanted; only its owner can connect to it.  It is removed after.

    Raises `ConfigError` where the path is taken.
    """
    if not options.socket:
        yield None
        return
    path = Path(options.socket).expanduser()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        _make_room(path)
        before = os.umask(OWNER)
        try:
            opened.bind(str(path))
            opened.listen(QUEUE)
        except OSError as error:
            raise _taken(path, str(error.strerror)) from None
        finally:
            os.umask(before)
        try:
            yield [opened]
        finally:
            path.unlink(missing_ok=True)


def _make_room(path: Path) -> None:
    """Remove a socket that a server left that is no more."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # what is no socket stays, and binding says so
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise _taken(path, str(error.strerror)) from None
    raise _taken(path, "another server listens there")


def _taken(path: Path, why: str) -> ConfigError:
    message = f"cannot listen on {path}: {why}"
    return ConfigError(message, field="socket", value=str(path), expected="a path where nothing is")
