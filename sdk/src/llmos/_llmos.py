"""`LLMOS`, the smallest way in: submit functions, get their results in the order of submission."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from llmos._client import Client, Model
from llmos._text import outcome
from llmos_kernel.errors import DeadlineExceeded, NotFound

if TYPE_CHECKING:
    from llmos._settings import Settings
    from llmos_kernel import Kernel, KernelConfig, TaskHandle


class LLMOS:
    """An operating system for language models, in this process or at an address.  Its arguments are those of `Client`.

    At an address, functions travel as their names, and only those run that the server offers.
    """

    def __init__(
        self, address: str | None = None, *, kernel: Kernel | None = None,
        config: KernelConfig | Settings | None = None, plugins: Iterable[object] = (), token: str | None = None,
    ) -> None:  # fmt: skip
        self.client = Client(address, kernel=kernel, config=config, plugins=plugins, token=token)
        self._submitted: deque[TaskHandle] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def submit_task(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TaskHandle:  # noqa: ANN401
        """Run ``fn(*args, **kwargs)`` as a task; `get_result` returns what it returns."""
        task = self.client.submit(fn, *args, **kwargs)
        self._submitted.append(task)
        return task

    def get_result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - whatever the task returns
        """Wait for the earliest task whose result was not taken yet; return its result or raise its error.

        When *timeout* seconds pass first, that is `DeadlineExceeded`, and the task stays the earliest one.
        """
        try:
            task = self._submitted.popleft()
        except IndexError:
            message = "no submitted task is left whose result was not taken"
            raise NotFound(message, field="task", value=None, nearest=[]) from None
        try:
            event = self.client.process.recv(task, timeout=timeout).body
        except DeadlineExceeded:
            self._submitted.appendleft(task)
            raise
        return outcome(event).value

    def load_model(self, name: str) -> Model:
        """Return the model called *name*."""
        return self.client.load_model(name)

    def close(self) -> None:
        """Cancel what runs and give everything back."""
        self.client.close()


_lock = threading.Lock()
_clients: list[Client] = []


def load_model(name: str) -> Model:
    """Return the model called *name* at the default kernel, which then lives as long as this process."""
    with _lock:
        if not _clients:
            _clients.append(Client())
        client = _clients[0]
    return client.load_model(name)
