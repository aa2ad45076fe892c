"""Every remote client's session, and what becomes of those whose connection is gone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import msgspec

from llmos import AsyncClient, Key
from llmos.wire import VERSION, Connection, Hello, decode
from llmos_kernel.api import Credentials
from llmos_kernel.errors import (
    HandleRevoked, KernelBug, KernelError, KernelStopped, Overloaded, PluginIncompatible, PortBroken,
)  # fmt: skip
from llmos_server.options import ServerOptions
from llmos_server.remote.session import Left, Session, refuse

Connect = Callable[[Credentials], AsyncClient]
"""Attaches somebody to the kernel."""
GREETING = 10.0
"""Seconds in which a connection has to say who it is."""
_hello = msgspec.msgpack.Decoder(Hello)


class Sessions:
    """The sessions, by their names."""

    def __init__(self, connect: Connect, options: ServerOptions) -> None:
        self._connect, self._options = connect, options
        self._sessions: dict[str, Session] = {}
        self._parked: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._sessions)

    async def serve(self, connection: Connection, key: Key | None) -> None:
        """Serve one connection of the holder of *key* until it ends."""
        session: Session | None = None
        try:
            async with asyncio.timeout(GREETING):
                hello = decode(await connection.recv(), _hello)
            session = self._find(hello, key)
            await session.serve(connection, hello)
        except Left:
            await self._end(session)
        except (PortBroken, TimeoutError):
            self._park(session, connection)
        except KernelError as error:
            await refuse(connection, error)
            await self._end(session)
        except Exception as error:
            await refuse(connection, KernelBug(f"{type(error).__name__} in the session"))
            await self._end(session)
            raise
        finally:
            await connection.close()

    def _find(self, hello: Hello, key: Key | None) -> Session:
        """Return the session that *hello* asks for."""
        if hello.version != VERSION:
            message = f"the client speaks version {hello.version} of the protocol and this server version {VERSION}"
            raise PluginIncompatible(message, plugin="server", version=VERSION)
        owner = "" if key is None else key.number
        if hello.session:
            session = self._sessions.get(hello.session)
            if session is None or not secrets.compare_digest(session.owner, owner):
                raise HandleRevoked("the session has ended: its tasks were cancelled and its handles are gone")
            if (timer := self._parked.pop(hello.session, None)) is not None:
                timer.cancel()
            return session
        if self._stopping:
            raise _stopping()
        if len(self._sessions) >= self._options.sessions:
            message = f"the server has {self._options.sessions} remote clients, and takes no more"
            raise Overloaded(message, retry_after=1.0)
        name = secrets.token_urlsafe(32)
        client = self._connect(Credentials() if key is None else key.credentials)
        self._sessions[name] = Session(name, owner, client, self._options)
        return self._sessions[name]

    def _park(self, session: Session | None, connection: Connection) -> None:
        """Let the client come back for a while."""
        if session is None or not session.carried_by(connection) or session.name not in self._sessions:
            return
        loop = asyncio.get_running_loop()
        self._parked[session.name] = loop.call_later(self._options.grace, self._expire, session)

    def _expire(self, session: Session) -> None:
        job = asyncio.ensure_future(self._end(session))
        self._closing.add(job)
        job.add_done_callback(self._closing.discard)

    async def _end(self, session: Session | None) -> None:
        if session is None:
            return
        self._sessions.pop(session.name, None)
        if (timer := self._parked.pop(session.name, None)) is not None:
            timer.cancel()
        await session.close()

    def holds(self, owner: str) -> bool:
        """Return whether a remote client came with the key of that number."""
        return any(session.owner == owner for session in self._sessions.values())

    async def leave(self, owner: str) -> None:
        """End the sessions of the holder of a key that was taken back."""
        for session in [one for one in self._sessions.values() if one.owner == owner]:
            await self._end(session)

    def drain(self) -> None:
        """Take no more clients and no more tasks."""
        self._stopping = True
        for session in self._sessions.values():
            session.leaving = True

    @property
    def busy(self) -> bool:
        """Whether a client waits for something."""
        return any(session.busy for session in self._sessions.values())

    async def close(self) -> None:
        """End every session, and tell the clients that the server stops."""
        self.drain()
        sessions = list(self._sessions.values())
        await asyncio.gather(*(session.refuse(_stopping()) for session in sessions))
        for session in sessions:
            await self._end(session)
        if self._closing:
            await asyncio.wait(self._closing)


def _stopping() -> KernelStopped:
    return KernelStopped("the server is stopping", state="draining")
