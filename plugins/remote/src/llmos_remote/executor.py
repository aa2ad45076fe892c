"""Tasks at a far end: each is one request, asked again only while its answer has not begun.

What differs between far ends is a `Dialect`; the rest is here.  A request that was refused comes again after as long as
the far end says, within the task's deadline; one that was answered in part never does, because it was billed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from llmos_kernel.api import Task, Usage
from llmos_kernel.contracts import Emit, Limits, Result, RunExecutor
from llmos_kernel.errors import KernelError, Overloaded
from llmos_remote.dialect import Answered, Dialect, Say
from llmos_remote.failures import FarEnd, Refusal
from llmos_remote.options import Options
from llmos_remote.pace import Pace

if TYPE_CHECKING:
    from llmos_remote.wire import Wire

_NONSENSE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What a maker's client, or reading what it returns, raises over an answer that is not of the protocol."""
_FIRST_WAIT = 0.5
_WITHIN = 10
"""Turns of the loop before it ends: makers' clients leave generators, one within the other, for the loop to close."""
_SPREAD = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, are spread evenly: tasks that were refused together come again apart."""


@attrs.define
class Tally:
    """What a model was asked and what that used, since it was loaded."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    generated: int = 0
    cost: float = 0.0

    def add(self, used: Usage, cost: float) -> None:
        """Count one answer."""
        self.requests, self.cost = self.requests + 1, self.cost + cost
        self.prompt, self.cached = self.prompt + used.prompt, self.cached + used.cached
        self.generated += used.generated


@attrs.define
class _Said:
    """What a far end said of a task.

    For a task that does not stream only the first piece goes out at once, so that it is known when that came: each
    takes the kernel's lock, and there may be thousands.
    """

    id: int
    emit: Emit
    streams: bool = attrs.field(kw_only=True)
    begun: bool = False
    texts: list[str] = attrs.field(factory=list)
    logprobs: list[Any] = attrs.field(factory=list)

    async def say(self, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        """Deliver a piece, or keep it for the end."""
        if not (text or logprobs):
            return
        self.texts.append(text)
        self.logprobs += logprobs
        if self.streams or not self.begun:
            await self.deliver()

    async def deliver(self) -> None:
        """Deliver what was kept."""
        rest = self.rest()
        if rest.text or rest.logprobs:
            self.begun = True
            await self.emit(rest)

    def rest(self) -> Result:
        """Return what was kept, and keep it no longer."""
        rest = Result(self.id, text="".join(self.texts), logprobs=tuple(self.logprobs))
        self.texts, self.logprobs = [], []
        return rest


class RemoteExecutor(RunExecutor):
    """A model at a far end.  *wire* makes the HTTP client; each event loop has its own."""

    def __init__(self, dialect: Dialect, far: FarEnd, options: Options, wire: Callable[[Pace], Wire]) -> None:
        self._dialect, self._far, self._options = dialect, far, options
        self._broken: tuple[type[Exception], ...] = (*_NONSENSE, *dialect.failures)
        self._tally, self._pace, self._wire = Tally(), Pace(options.rows), wire
        self._spare: Wire | None = wire(self._pace)  # made while the model is loaded: it reads certificates
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def limits(self) -> Limits:
        """As many rows as the far end takes at the moment."""
        return Limits(rows=self._pace.rows, free=self._pace.rows)

    def describe(self) -> Mapping[str, Any]:
        """Return where the model is, and what it has used and cost until now."""
        used = attrs.asdict(self._tally)
        return {"provider": self._far.place.host, "model": self._far.name, "rows": self._pace.rows, "used": used}

    async def run(self, id: int, task: Task, emit: Emit) -> Result:
        """Ask for the task; raise `InvalidArgument`, `Overloaded` or `ModelUnavailable`."""
        request = self._dialect.read(task)
        now = asyncio.get_running_loop().time
        ends = math.inf if task.deadline is None else now() + task.deadline

        said = _Said(id, emit, streams=task.stream)
        for attempt in itertools.count():
            await self._turn(ends - now())
            try:
                answered = await self._ask(task.kind, request, said.say)
            except Refusal as refused:
                refusal = refused
            except KernelError:
                await said.deliver()
                raise
            else:
                return self._result(said.rest(), answered)
            await asyncio.sleep(self._wait(refusal, attempt, id, ends - now()))
        raise AssertionError("there is always another attempt, or an error")

    async def _turn(self, left: float) -> None:
        """Wait until the far end takes requests again."""
        if (wait := self._pace.wait) > min(left, self._options.patience):
            message = f"{self._far.model}: {self._far.place.host} takes nothing more for {wait:.1f} s"
            raise Overloaded(message, model=self._far.model, retry_after=wait)
        await asyncio.sleep(wait)

    def _wait(self, refusal: Refusal, attempt: int, id: int, left: float) -> float:
        """Return the seconds until the next attempt, or raise the error if there is to be none."""
        after = refusal.after
        if isinstance(refusal.error, Overloaded):
            self._pace.refused(after or 0.0)
        if after is None:
            after = _FIRST_WAIT * 2 ** min(attempt, 16) * (0.5 + 0.5 * (id * _SPREAD % 1))
        if not refusal.again or attempt >= self._options.retries or after > min(left, self._options.patience):
            raise refusal.error
        return after

    async def _ask(self, kind: str, request: Mapping[str, Any], say: Say) -> Answered:
        try:
            return await self._dialect.ask(self._connected(), kind, request, say)
        except (KernelError, Refusal):
            raise
        except self._broken as error:
            failure = _ours(error) or self._far.nonsense(error)
        raise failure  # without its cause, which holds the request and with it the key

    def _connected(self) -> Any:  # noqa: ANN401 - each maker has a client of its own
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            wire, self._spare = self._spare or self._wire(self._pace), None
            self._client, self._loop = self._dialect.connect(wire), loop
            self._keeper = loop.create_task(_keep(wire))
        return self._client

    def _result(self, rest: Result, answered: Answered) -> Result:
        used = answered.usage
        cost = self._options.prices.cost(used)
        self._tally.add(used, cost)
        if answered.vector:
            return Result(rest.id, value=list(answered.vector), usage=used)
        tokens = {"prompt": used.prompt, "cached": used.cached, "generated": used.generated}
        value = {**answered.facts, "usage": tokens, "cost": cost}
        return attrs.evolve(rest, value=value, finish=answered.finish, usage=used)


def _ours(error: BaseException) -> KernelError | Refusal | None:
    """Return the error of the wire's that a maker's client made its own *error* of, if it did."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None or isinstance(cause, KernelError | Refusal):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


async def _keep(wire: Wire) -> None:
    """Close the connections when the loop ends: it cancels what still runs in it, this too."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await wire.aclose()
        for _ in range(_WITHIN):
            await asyncio.sleep(0)
