"""A server in a process of its own, as `llmos serve` runs it: its first argument is JSON of its options.

It says on its output when it can be reached and when a task stands at the gate, which a line on its input opens.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path

from llmos import Settings
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import KernelConfig
from llmos_server.command import _serve
from llmos_server.options import ServerOptions


def say(line: str) -> None:
    """Tell whoever started this."""
    print(line, flush=True)


def steer(echo: EchoBackend) -> None:
    """Tell when a task has begun, then open the gate when told to, or when nobody is there to tell."""
    echo.gate.wait_for_visitor()
    say("visitor")
    sys.stdin.readline()
    echo.gate.open()


def main() -> None:
    """Serve."""
    echo = EchoBackend()
    echo.gate.shut()
    options = ServerOptions(**json.loads(sys.argv[1]))
    settings = Settings(kernel=KernelConfig(models=(echo_spec("echo"),)), home=Path(options.socket).parent)
    threading.Thread(target=steer, args=(echo,), daemon=True).start()
    try:
        asyncio.run(_serve(settings, (echo, FirstComePlugin()), options, ["echo"]))
    finally:
        echo.gate.open()


if __name__ == "__main__":
    main()
