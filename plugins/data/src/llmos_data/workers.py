"""Worker processes: each gets blocks over a pipe and answers with what became of them; the order stays.

A frame is two lengths, a head in JSON, and bytes.  A worker is the command ``llmos data worker``: it reads the settings
as its parent did, so nothing but plain values crosses.  It ends with its standard input, so also when its parent is
killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Self

from llmos_data.blocks import Block
from llmos_data.plan import Plan
from llmos_data.work import Done
from llmos_kernel.errors import ExecutorCrashed, KernelError

_LENGTHS = struct.Struct(">IQ")
_AHEAD = 2
"""Blocks in flight per worker: one is worked on while the other is read or written."""


def send(stream: IO[bytes], head: Mapping[str, Any], *parts: bytes) -> None:
    """Write one frame."""
    line = json.dumps(head).encode()
    stream.write(_LENGTHS.pack(len(line), sum(map(len, parts))) + line)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the next frame; None at the end, also where it comes in the middle of a frame."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    of_head, of_data = _LENGTHS.unpack(lengths)
    line, data = stream.read(of_head), stream.read(of_data)
    return (json.loads(line), data) if len(line) == of_head and len(data) == of_data else None


class Workers:
    """*count* processes that each run *command* and work by *plan*.  Closing ends them, whatever they are doing."""

    def __init__(self, command: Sequence[str], plan: Plan, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "llmos-data")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._count, self._all = count, [_start(command) for _ in range(count)]
        try:
            for process in self._all:
                _ask(process, json.loads(plan.to_json()))
                self._idle.put(process)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def map(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, Done]]:
        """Yield each block and what became of it, in the order of *blocks*, a few of which are read ahead."""
        waiting: deque[tuple[Block, Future[Done]]] = deque()
        for block in blocks:
            waiting.append((block, self._threads.submit(self._work, block)))
            if len(waiting) >= _AHEAD * self._count:
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()

    def _work(self, block: Block) -> Done:
        process = self._idle.get()
        head = {"number": block.number, "count": block.count, "end": block.end, "fault": block.fault}
        try:
            answer, data = _ask(process, head, block.data)
        finally:
            self._idle.put(process)  # a dead one as well: whoever gets it is told so, and does not wait
        cut = answer["out"]
        return Done(data[:cut], data[cut:], answer["written"], answer["rejected"], answer["fault"])

    def close(self) -> None:
        """End the processes and the threads that wait for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._all:
            process.kill()
        self._threads.shutdown()
        for process in self._all:
            with contextlib.suppress(BrokenPipeError), process:  # what was still to be written
                process.wait()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    with _deaf():
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=2**16)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back: what is started meanwhile inherits it, and does not hear Ctrl-C from its first instruction."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ask(process: subprocess.Popen[bytes], head: Mapping[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
    """Return the worker's answer.  Raises what it says is wrong, and `ExecutorCrashed` if it is gone."""
    stdin, stdout = _pipe(process.stdin), _pipe(process.stdout)
    try:
        send(stdin, head, data)
        answer = receive(stdout)
    except BrokenPipeError:
        answer = None
    if answer is None:
        code = process.wait()
        raise ExecutorCrashed(f"a worker process ended with {code} before its work was done", code=code)
    if "error" in answer[0]:
        raise KernelError.from_wire(answer[0])
    return answer


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ExecutorCrashed("a worker process has no pipe")
    return stream


def serve(make: Callable[[Plan], Callable[[Block], Done]]) -> None:
    """Be a worker: answer what comes on standard input, by the plan that comes first, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a processor prints must not get between the frames
    first = receive(stdin)
    if first is None:
        return
    try:
        work = make(Plan(**first[0]))
    except KernelError as error:
        send(stdout, error.to_wire())
        return
    send(stdout, {})
    while (frame := receive(stdin)) is not None:
        done = work(Block(frame[1], **frame[0]))
        facts = {"written": done.written, "rejected": done.rejected, "fault": done.fault, "out": len(done.out)}
        send(stdout, facts, done.out, done.rejects)
