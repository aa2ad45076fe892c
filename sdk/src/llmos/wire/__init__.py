"""What remote clients and servers say to each other: frames, the values in them, and the line that carries them.

    Link (llmos)                                                    Session (llmos_server)
      Hello ───────────────────────────────────────────────────────►    the first frame, or the first after a break
           ◄─────────────────────────────────────────────────── Welcome
      Call, Credit, Cancel, Close, Narrow, Leave ──────────────────►
           ◄───────────────────────────────────────────── Reply, Event
      Ack ◄────────────────────────────────────────────────────────► Ack
           ◄────────────────────────────────────────────────────── Refused, and the connection ends

Each frame is one binary message of a WebSocket and holds one map of MessagePack.  It needs ``llmos-sdk[remote]``.
"""

from llmos.wire._frames import (
    BORN, CHILDREN, CONTROL, MAILBOX, MAX_FRAME, VERSION, Ack, Call, Cancel, Close, Credit, Event, Frame, FromClient,
    FromServer, Hello, Leave, Narrow, Refused, Reply, Welcome, decode, encode,
)  # fmt: skip
from llmos.wire._line import Connection, Line
from llmos.wire._values import MAX_DEPTH, HandleFacts, pack, reference, unpack

__all__ = [
    "BORN", "CHILDREN", "CONTROL", "MAILBOX", "MAX_DEPTH", "MAX_FRAME", "VERSION", "Ack", "Call", "Cancel", "Close",
    "Connection", "Credit", "Event", "Frame", "FromClient", "FromServer", "HandleFacts", "Hello", "Leave", "Line",
    "Narrow", "Refused", "Reply", "Welcome", "decode", "encode", "pack", "reference", "unpack",
]  # fmt: skip
