"""What `sdk/tests/test_async_client.py` says of clients for asyncio holds for one that is elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llmos import AsyncClient, AsyncModel
from plugins.server.tests.serving import Site
from sdk.tests import test_async_client as same
from tests.elsewhere.same import same_as

_OBJECTS = "it hands a function over that only this process has"


@pytest.fixture
async def client(site: Site) -> AsyncIterator[AsyncClient]:
    """A client of the server."""
    async with AsyncClient(site.url) as made:
        yield made


@pytest.fixture
async def model(client: AsyncClient) -> AsyncModel:
    """The echo model."""
    return await client.load_model("echo")


globals().update(
    same_as(same, {"test_failures_are_the_same": _OBJECTS, "test_call_takes_coroutine_functions": _OBJECTS})
)
