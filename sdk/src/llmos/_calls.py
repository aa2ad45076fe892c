"""`call`: send a message with a single-use reply and wait for the answer.  Sugar over the four system calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from llmos_kernel.api import Reply
from llmos_kernel.errors import KernelError

if TYPE_CHECKING:
    from llmos_kernel import Handle, Process, ReplyHandle
    from llmos_kernel.aio import AsyncProcess


def call(process: Process, to: Handle, body: object, timeout: float | None = None) -> Any:  # noqa: ANN401
    """Send *body* to the port behind *to* and return what is answered; an answer that is an error is raised."""
    reply = cast("ReplyHandle", process.alloc(Reply()))
    with reply:
        process.send(to, body, handles=(reply.sender,), timeout=timeout)
        return _answer(process.recv(reply, timeout=timeout).body)


async def call_async(process: AsyncProcess, to: Handle, body: object, timeout: float | None = None) -> Any:  # noqa: ANN401
    """Do what `call` does, for asyncio."""
    reply = cast("ReplyHandle", await process.alloc(Reply()))
    with reply:
        await process.send(to, body, handles=(reply.sender,), timeout=timeout)
        return _answer((await process.recv(reply, timeout=timeout)).body)


def _answer(body: Any) -> Any:  # noqa: ANN401
    if isinstance(body, KernelError):
        raise body
    return body
