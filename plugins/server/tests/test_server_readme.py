"""The example of the README, against a server that is running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plugins.server.tests.serving import PATIENCE, serving

README = Path(__file__).parents[1] / "README.md"


def test_example() -> None:
    """A program that asks the server gets an answer; only address and model are those of the test."""
    code = README.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    assert "11535" in code
    assert '"tiny"' in code
    with serving() as site:
        code = code.replace("http://127.0.0.1:11535", site.url).replace('"tiny"', '"echo"')
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (0, "Who are you?\n") == (done.returncode, done.stdout), done.stderr
