"""What `sdk/tests/test_many_streams.py` says of several answers in pieces holds for a client that is elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llmos import AsyncClient, AsyncModel
from llmos.testing import EchoBackend
from plugins.server.tests.serving import Site
from sdk.tests import test_many_streams as same
from tests.elsewhere.same import same_as


@pytest.fixture
def echo() -> EchoBackend:
    """The backend of the `kernel` fixture: two rows."""
    return EchoBackend(rows=2)


@pytest.fixture
async def aclient(site: Site) -> AsyncIterator[AsyncClient]:
    """A client of the server."""
    async with AsyncClient(site.url) as made:
        yield made


@pytest.fixture
async def amodel(aclient: AsyncClient) -> AsyncModel:
    """The echo model."""
    return await aclient.load_model("echo")


globals().update(same_as(same, {}))
