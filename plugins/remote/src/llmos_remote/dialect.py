"""How one kind of far end is asked.  What all kinds share is in `llmos_remote.executor`."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel.api import Task, Usage

if TYPE_CHECKING:
    from llmos_remote.wire import Wire

Say = Callable[..., Awaitable[object]]
"""``await say(text, logprobs)`` delivers a piece of the answer."""


@attrs.frozen(kw_only=True)
class Answered:
    """What a far end said of a task, besides the text that was delivered."""

    finish: str = "stop"
    usage: Usage = attrs.field(factory=Usage)
    vector: tuple[float, ...] = ()
    """What an ``embed`` task wants."""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """What else the caller is told: the request's id, the model that answered, the tools that it calls."""


class Dialect(abc.ABC):
    """How one kind of far end is asked: a maker's client around a `Wire`."""

    failures: tuple[type[Exception], ...] = ()
    """What the maker's client raises."""

    @abc.abstractmethod
    def read(self, task: Task) -> Mapping[str, Any]:
        """Return the request for *task*; raise `InvalidArgument` naming what the far end cannot do."""

    @abc.abstractmethod
    def connect(self, wire: Wire) -> Any:  # noqa: ANN401 - each maker has a client of its own
        """Return the maker's client, which sends nothing but by *wire*."""

    @abc.abstractmethod
    async def ask(self, client: Any, kind: str, request: Mapping[str, Any], say: Say) -> Answered:  # noqa: ANN401
        """Send *request* once, deliver what comes, and return the rest.

        Raises `KernelError` for an answer that is not whole.
        """
