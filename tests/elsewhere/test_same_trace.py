"""What `sdk/tests/test_trace.py` says of traces holds for a client that is elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llmos import AsyncClient, AsyncModel
from plugins.server.tests.serving import Site
from sdk.tests import test_trace as same
from tests.elsewhere.same import same_as

_GRAMMAR = "it asks nobody"


@pytest.fixture
async def async_model(site: Site) -> AsyncIterator[AsyncModel]:
    """The echo model of the server, for asyncio."""
    async with AsyncClient(site.url) as made:
        yield await made.load_model("echo")


globals().update(
    same_as(
        same,
        {
            "test_opentelemetry_reads_the_same": _GRAMMAR,
            "test_anything_else_is_refused": _GRAMMAR,
            "test_what_is_no_text": _GRAMMAR,
            "test_what_is_kept": _GRAMMAR,
        },
    )
)
