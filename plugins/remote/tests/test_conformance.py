"""The backends keep the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmos.testing.conformance import BackendConformance, Served
from llmos_remote.anthropic import llmos_backend as anthropic_backend
from llmos_remote.gemini import llmos_backend as gemini_backend
from llmos_remote.openai import llmos_backend as openai_backend
from plugins.remote.tests.far_end import Asked, FarEnd, Reply, far_end, plain
from plugins.remote.tests.serving import spec_of
from plugins.remote.tests.test_anthropic import ANSWER as ANTHROPICS
from plugins.remote.tests.test_gemini import ANSWER as GOOGLES
from plugins.remote.tests.test_openai import ANSWER


class _Everything(FarEnd):
    """Answers each route with what its route answers."""

    def reply(self, asked: Asked) -> Reply:
        """Return an embedding or a chat."""
        if asked.path.endswith("/embeddings"):
            return plain({"data": [{"embedding": [0.5]}], "model": "theirs", "usage": {"prompt_tokens": 2}})
        return ANSWER


class _Googles(FarEnd):
    """The same for Google's."""

    def reply(self, asked: Asked) -> Reply:
        """Return an embedding or a chat."""
        return GOOGLES if "streamGenerateContent" in asked.path else plain({"embeddings": [{"values": [0.5]}]})


class TestOpenAI(BackendConformance):
    """The kit's checks of the backend "openai"."""

    @pytest.fixture
    def served(self) -> Iterator[Served]:
        """A far end on this machine."""
        with far_end(_Everything) as server:
            yield Served(openai_backend({}), spec_of(server))


class TestAnthropic(BackendConformance):
    """The kit's checks of the backend "anthropic"."""

    @pytest.fixture
    def served(self) -> Iterator[Served]:
        """A far end on this machine."""
        with far_end() as server:
            server.always = ANTHROPICS
            yield Served(anthropic_backend({}), spec_of(server, "anthropic"))


class TestGemini(BackendConformance):
    """The kit's checks of the backend "gemini"."""

    @pytest.fixture
    def served(self) -> Iterator[Served]:
        """A far end on this machine."""
        with far_end(_Googles) as server:
            yield Served(gemini_backend({}), spec_of(server, "gemini"))
