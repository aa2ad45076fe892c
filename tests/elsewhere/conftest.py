"""The fixtures of the SDK's tests, with a client that comes over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmos import Client, Model
from llmos.testing import EchoBackend
from llmos_kernel import Kernel
from plugins.server.tests.serving import Site, serving_kernel

FUNCTIONS = ("_thread:*", "time:*", "tests.elsewhere.functions:*")
"""What the server offers."""


@pytest.fixture
def site(kernel: Kernel, echo: EchoBackend) -> Iterator[Site]:
    """A server over the kernel of the SDK's tests."""
    with serving_kernel(kernel, echo, functions=FUNCTIONS) as site:
        yield site


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    """A client of that server."""
    with Client(site.url) as made:
        yield made


@pytest.fixture
def model(client: Client) -> Model:
    """The echo model."""
    return client.load_model("echo")
