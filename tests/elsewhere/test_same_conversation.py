"""What `sdk/tests/test_conversation.py` says of conversations holds for a client that is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmos import Client, Conversation, Model
from llmos.testing import EchoBackend
from llmos_kernel import Kernel
from plugins.server.tests.serving import Site
from sdk.tests import test_conversation as same
from tests.elsewhere.same import same_as

_HERE = "it makes a client of its own in this process, or looks into the kernel's books through it"


@pytest.fixture
def echo() -> EchoBackend:
    """The backend of the `kernel` fixture: 64 tokens of context, and contexts are kept."""
    return EchoBackend(kept=10, context=64)


@pytest.fixture
def talk(model: Model) -> Iterator[Conversation]:
    """A conversation with the model."""
    with model.conversation() as made:
        yield made


def test_contexts_go_with_the_client(kernel: Kernel, site: Site, echo: EchoBackend) -> None:
    """What a conversation holds is given back when its client leaves."""
    with Client(site.url) as client:
        client.load_model("echo").conversation().say("a b")
    assert frozenset() == echo.executors[0].known


globals().update(
    same_as(
        same,
        {name: _HERE for name in vars(same) if name.startswith("test_async_")}
        | dict.fromkeys(
            [
                "test_context_is_charged_until_it_is_closed",
                "test_model_without_contexts",
                "test_dropped_conversation_gives_its_context_back",
                "test_closing_stops_the_turn",
                "test_closing_from_another_thread",
            ],
            _HERE,
        ),
    )
)
