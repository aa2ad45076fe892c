"""Two servers for the clients of others: the command with the model of the standard set, and one that repeats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plugins.server.tests.serving import Site, serving
from tests.served import served


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of OpenAI's API at ``llmos serve``, as it is typed."""
    home = tmp_path_factory.mktemp("home")
    with served(home) as address:
        yield f"{address}/v1"


@pytest.fixture
def site() -> Iterator[Site]:
    """A server whose model repeats what it is told, and embeds it."""
    with serving() as site:
        yield site
