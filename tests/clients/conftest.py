"""Two servers for the clients of others: the command with the model of the standard set, and one that repeats."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from plugins.server.tests.serving import Site, serving
from tests.workspace import clean_environment

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of OpenAI's API at ``llmos serve``, as it is typed."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "llmos", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=home, env=clean_environment(home), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        try:
            yield next(found[0] for line in lines if (found := ADDRESS.search(line))) + "/v1"
        finally:
            server.terminate()
            server.communicate(timeout=60)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server whose model repeats what it is told, and embeds it."""
    with serving() as site:
        yield site
