"""``llmos serve`` as it is typed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.workspace import clean_environment

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve by the settings of *folder*, on any port that is free, and give the address."""
    command = [str(Path(sys.executable).with_name("llmos")), "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=clean_environment(folder), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        try:
            yield next(found[0] for line in lines if (found := ADDRESS.search(line)))
        finally:
            server.terminate()
            server.communicate(timeout=60)
