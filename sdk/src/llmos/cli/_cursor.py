"""The terminal's cursor, which whoever draws a bar hides, and which a program that is ended leaves as it is."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

SHOWN = b"\x1b[?25h"
"""Shows the cursor (DECTCEM of the VT510)."""


def show_cursor_when_terminated() -> None:
    """Have SIGTERM show the cursor of the terminal, then end the program as it ends any.

    Where there is no terminal, and where somebody handles or ignores SIGTERM already, nothing changes.
    """
    terminal = next((stream.fileno() for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
    if terminal is None or os.environ.get("TERM") == "dumb" or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # first: a terminal that takes nothing must not keep the program
        with contextlib.suppress(OSError):
            os.write(terminal, SHOWN)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)
