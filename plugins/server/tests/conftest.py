"""One server for the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plugins.server.tests.serving import Site, serving


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server that a module's tests share."""
    with serving() as site:
        yield site
