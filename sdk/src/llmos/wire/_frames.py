"""Frames: what each of them holds, and how it becomes bytes.

Numbers are whole, not negative, and below 2^53.  A frame with a field that is not known, or without one that is needed,
is refused: another version of the protocol has another number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from llmos_kernel.errors import InvalidArgument

VERSION = 1
"""The version of the protocol.  A server refuses a client of another one."""
MAILBOX, CONTROL = BORN = 1, 2
"""The numbers of the handles that every process is born with: its mailbox, and the kernel's control port."""
CHILDREN = 2**40
"""The first number of handles that a client numbers; those of the server are below."""
MAX_FRAME = 2**23
"""Most bytes of a frame, unless a server is told otherwise."""
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10.0 * 365 * 86400)]


class Frame(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="t", tag=False):
    """One message.  *n* is its number, from 1; 0 is for those that are not counted.  *a* is the latest that was had."""

    n: Count = 0
    a: Count = 0


class Hello(Frame, tag="hello"):
    """A client's first frame: *session* is empty, or the one that it goes on with, whose frames it has *seen*."""

    version: Count
    session: str = ""
    seen: Count = 0


class Welcome(Frame, tag="welcome"):
    """The server's answer to `Hello`."""

    session: str
    """Names the session when the connection has to be made again; whoever knows it needs the same key besides."""
    seen: Count
    """The frames of the client that the server has."""
    grace: Seconds
    """Seconds that the session outlives its connection."""
    timeout: Seconds
    """Seconds after which a call without a timeout gives up."""
    window: Count
    """Events of a task that are sent before the client has to ask for more."""
    frame: Count
    """Most bytes of a frame of the client."""
    principal: Any
    """Who the client is, as `pack` writes it."""


class Call(Frame, tag="call"):
    """One of the calls that are answered, with a `Reply` of the same *id*."""

    id: Count
    name: Literal["alloc", "schedule", "send"]
    body: Any
    """Its arguments: a tuple, as `pack` writes it."""
    timeout: Seconds | None = None


class Cancel(Frame, tag="cancel"):
    """Nobody waits for the answer to the call *id* any more.  It is answered all the same."""

    id: Count


class Credit(Frame, tag="credit"):
    """So many more messages of *handle* may be sent."""

    handle: Count
    count: Count


class Close(Frame, tag="close"):
    """What becomes of *handle*: closed, ``forgotten`` (a task runs to its end unread), or its task ``ended``."""

    handle: Count
    how: Literal["closed", "forgotten", "ended"] = "closed"


class Narrow(Frame, tag="narrow"):
    """Make *child*, a number from `CHILDREN` on that the client chose, of *handle*, with only *rights*."""

    handle: Count
    child: Annotated[int, msgspec.Meta(ge=CHILDREN, lt=2**53)]
    rights: Count


class Leave(Frame, tag="leave"):
    """The client is done: its tasks are cancelled and its handles closed."""


class Ack(Frame, tag="ack"):
    """Nothing but *a*."""


class Reply(Frame, tag="reply"):
    """The answer to the call *id*: a value or an error, as `pack` writes them."""

    id: Count
    value: Any


class Event(Frame, tag="event"):
    """A message that came to *handle*, or the error that says that none will; then nothing is sent until `Credit`."""

    handle: Count
    value: Any


class Refused(Frame, tag="refused"):
    """Why the server ends the connection, and the session."""

    error: Any


FromClient = Hello | Call | Cancel | Credit | Close | Narrow | Leave | Ack
"""What a server hears."""
FromServer = Welcome | Reply | Event | Refused | Ack
"""What a client hears."""
_FrameT = TypeVar("_FrameT", bound=Frame)
_encoder = msgspec.msgpack.Encoder()


def encode(frame: Frame) -> bytes:
    """Return *frame* as bytes; raise `InvalidArgument` for text that no UTF-8 can hold."""
    try:
        return _encoder.encode(frame)
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        message = f"what is sent cannot be encoded: {error}"
        raise InvalidArgument(message, field="frame", value=type(frame).__name__, expected="plain values") from error


def decode(data: bytes, decoder: msgspec.msgpack.Decoder[_FrameT]) -> _FrameT:
    """Return the frame that *data* holds; raise `InvalidArgument` for anything else."""
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError, TypeError, MemoryError) as error:  # msgspec's own errors are ValueErrors
        why = f"{type(error).__name__}: {error}"
        message = f"a frame of {len(data)} bytes cannot be read ({why:.200})"
        raise InvalidArgument(message, field="frame", value=len(data), expected="a frame of this protocol") from error
