"""What a loaded model started ends with its kernel."""

from __future__ import annotations

import logging

import pytest

from llmos_kernel import Task
from llmos_remote.anthropic import AnthropicBackend
from llmos_remote.backend import RemoteBackend
from llmos_remote.gemini import GeminiBackend
from llmos_remote.openai import OpenAIBackend
from plugins.remote.tests.far_end import Reply, events, far_end
from plugins.remote.tests.serving import client_of, spec_of
from plugins.remote.tests.test_anthropic import ANSWER as ANTHROPICS
from plugins.remote.tests.test_gemini import ANSWER as GOOGLES
from plugins.remote.tests.test_openai import ANSWER

CASES = [(OpenAIBackend, ANSWER), (AnthropicBackend, ANTHROPICS), (GeminiBackend, GOOGLES)]


@pytest.mark.parametrize(("kind", "answer"), CASES)
@pytest.mark.parametrize("well", [True, False])
def test_nothing_is_left_in_the_loop(
    kind: type[RemoteBackend], answer: Reply, well: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel that stops right after an answer, whole or not, leaves no task of a maker's client pending."""
    with far_end() as server:
        server.always = answer if well else events({"nonsense": 5})
        with caplog.at_level(logging.ERROR, "asyncio"):
            for _ in range(5):
                with client_of(kind({}), spec_of(server, kind.name)) as client:
                    task = Task("chat", "far", [{"role": "user", "content": "Count"}])
                    client.process.recv(client.process.schedule(task))

    assert caplog.records == []
