"""What the server can be told, and what it refuses to do."""

from __future__ import annotations

import functools
import ipaddress
from pathlib import Path
from typing import Any, Literal

import attrs

from llmos_kernel.api import MAX_SECONDS, listed, names, number
from llmos_kernel.errors import ConfigError

FEW, LONGEST = 6, 5.0
"""Answers at once of which each has its pieces at the `ServerOptions.pace`, and how many times longer it is at most.

Up to thirty answers then cost together, in pieces, what six cost; more of them cost more again, but a fifth of it each.
"""
LOCALHOST = "localhost"
SOURCE = "command:serve"
"""Where the options stand in the settings."""


def _text(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError.of(attribute.name, value, "a string")


def _local(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("open", "keys"):
        raise ConfigError.of(attribute.name, value, "'open' or 'keys'")


@attrs.frozen(kw_only=True)
class ServerOptions:
    """Where the server listens, and how much it takes from anybody."""

    host: str = attrs.field(default="127.0.0.1", validator=_text)
    """An address of this machine."""
    port: int = attrs.field(default=11535, validator=number(0, 65535))
    """0 is any that is free."""
    socket: str = attrs.field(default="", validator=_text)
    """A Unix socket's path, instead of host and port."""
    local: Literal["open", "keys"] = attrs.field(default="open", validator=_local)
    """Whether whoever is on this machine may come without a key, or nobody."""
    body: int = attrs.field(default=2**23, validator=number(1, 2**40))
    """Most bytes of a request."""
    streams: int = attrs.field(default=512, validator=number(1, 2**20))
    """Most requests that are answered at once; more get 429."""
    seconds: float = attrs.field(default=600.0, validator=number(0.001, MAX_SECONDS, whole=False))
    """Most seconds that one request takes."""
    pace: float = attrs.field(default=0.02, validator=number(0, 60, whole=False))
    """Seconds from one piece of a streamed answer to the next: what is made sooner is joined to it.

    Fifty a second are about as many as a screen shows, and each is a wake-up and a write that tokens are not.
    """
    head_seconds: float = attrs.field(default=10.0, validator=number(0.001, 86400, whole=False))
    """Seconds in which the first line and the headers of a request must come."""
    body_seconds: float = attrs.field(default=60.0, validator=number(0.001, 86400, whole=False))
    """Seconds in which a body must come."""
    stall_seconds: float = attrs.field(default=60.0, validator=number(0.001, 86400, whole=False))
    """Seconds after which a client that takes nothing of its answer is let go."""
    reading: int = attrs.field(default=2**28, validator=number(1, 2**40))
    """Most bytes of the bodies that are read at the same time, together; more get 429."""
    kept: int = attrs.field(default=256, validator=number(0, 2**20))
    """Most responses that are kept for each holder of a key, for ``previous_response_id``."""
    sessions: int = attrs.field(default=256, validator=number(0, 2**20))
    """Most remote clients at once (`llmos.Client` with an address); more are refused with `Overloaded`."""
    grace: float = attrs.field(default=5.0, validator=number(0, 86400, whole=False))
    """Seconds that a remote client whose connection broke has to come back; then its tasks are cancelled."""
    functions: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Functions that remote clients may call: ``module:name``, or ``module:*`` for all of a module.  None by itself."""
    drain: float = attrs.field(default=30.0, validator=number(0, 86400, whole=False))
    """Seconds that requests get to end when the server is told to stop."""

    def __attrs_post_init__(self) -> None:
        if self.socket and not Path(self.socket).expanduser().parent.is_dir():
            message = f"the folder of the socket {self.socket} does not exist"
            raise ConfigError(message, field="socket", value=self.socket, expected="a path in a folder that exists")

    @functools.cached_property
    def open(self) -> bool:
        """Whether who comes without a key is let in: only where nobody but this machine can come."""
        return self.local == "open" and (bool(self.socket) or is_loopback(self.host))

    def pace_of(self, answers: int) -> float:
        """Return the seconds from piece to piece of one of so many *answers* at once: many share what a few have."""
        return self.pace * min(LONGEST, max(1.0, answers / FEW))

    def offers(self, function: object) -> bool:
        """Return whether remote clients may call *function*, a reference ``module:name``."""
        module, colon, _ = function.partition(":") if isinstance(function, str) else ("", "", "")
        return bool(colon) and (function in self.functions or f"{module}:*" in self.functions)

    def check_keys(self, count: int) -> None:
        """Raise `ConfigError` if *count* keys are too few for where the server listens: nobody could come in."""
        if not self.open and not count:
            message = (
                f"the server would listen on {self.socket or self.host} and let in nobody without a key, and there is "
                "none: llmos keys create NAME makes one; without keys it serves 127.0.0.1 with local = 'open'"
            )
            raise ConfigError(message, field="host", value=self.host, expected="127.0.0.1, or at least one key")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == LOCALHOST
