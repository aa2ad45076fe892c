"""A gate that holds a step until the test lets it pass: deterministic, without sleeping."""

from __future__ import annotations

import threading


class Gate:
    """Open at first.  While it is shut, whoever comes waits; `cut` sends away those who wait at that moment."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open = True
        self._cuts = 0
        self._held = 0

    def shut(self) -> None:
        """Let nobody pass from now on."""
        with self._condition:
            self._open = False

    def open(self) -> None:
        """Let everybody pass."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def cut(self) -> None:
        """Send away those who wait now; the gate stays as it is."""
        with self._condition:
            self._cuts += 1
            self._condition.notify_all()

    def enter(self) -> bool:
        """Wait until the gate is open and return True, or return False when cut."""
        with self._condition:
            cuts = self._cuts
            self._held += 1
            self._condition.notify_all()
            try:
                self._condition.wait_for(lambda: self._open or self._cuts > cuts)
            finally:
                self._held -= 1
                self._condition.notify_all()
            return self._open

    def wait_for_visitor(self, timeout: float = 10.0) -> None:
        """Return when somebody stands at the shut gate; raise `TimeoutError` if nobody comes."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._held > 0, timeout):
                raise TimeoutError(f"nobody came to the gate within {timeout:g} s")

    def wait_until_left(self, timeout: float = 10.0) -> bool:
        """Return whether nobody stands at the gate, as soon as that is so or after *timeout* seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._held == 0, timeout)
