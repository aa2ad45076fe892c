"""LangChain's classes for OpenAI, unchanged, against the server."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from plugins.server.tests.serving import PATIENCE, Site

CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'


class Weather(BaseModel):
    """What the weather is."""

    sky: Literal["clear", "grey"]
    warm: bool


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


TOOL = tool(weather)


def chat(url: str, model: str = "tiny", **more: Any) -> ChatOpenAI:
    """Return LangChain's model of a server."""
    return ChatOpenAI(base_url=url, model=model, api_key="none", timeout=PATIENCE, max_retries=0, **more)


def test_a_conversation(tiny: str) -> None:
    """The answer, why it ended, and what it used."""
    said = chat(tiny, max_tokens=8).invoke([("system", "Be brief."), ("human", "What is llmos?")])

    assert said.content
    assert "length" == said.response_metadata["finish_reason"]
    assert 8 == said.usage_metadata["output_tokens"]


def test_a_stream(tiny: str) -> None:
    """The pieces are the answer that comes whole."""
    model = chat(tiny, max_tokens=8, temperature=0, stream_usage=True)
    pieces = list(model.stream("What is llmos?"))

    assert 1 < sum(bool(piece.content) for piece in pieces)
    assert model.invoke("What is llmos?").content == "".join(piece.content for piece in pieces)
    assert 8 == sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata)


async def test_many_at_once(tiny: str) -> None:
    """Its asynchronous client is answered as well."""
    said = await chat(tiny, max_tokens=4).abatch(["one", "two", "three"])

    assert [4, 4, 4] == [one.usage_metadata["output_tokens"] for one in said]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(tiny: str, method: str) -> None:
    """The answer is of the class, by a schema or as the arguments of a tool that must be called."""
    model = chat(tiny, max_tokens=100, temperature=0)
    # Strict: otherwise the schema allows what it does not name, and the model may go on with that to the last token.
    said = model.with_structured_output(Weather, method=method, strict=True).invoke("What is the weather?")

    assert isinstance(said, Weather)


@pytest.mark.parametrize("stream", [False, True])
def test_tools(site: Site, stream: bool) -> None:
    """A call reaches the program, its result the model."""
    model = chat(f"{site.url}/v1", "echo").bind_tools([TOOL])
    if stream:
        first, *rest = model.stream(CALL)
        said = sum(rest, first)
    else:
        said = model.invoke(CALL)
    (call,) = said.tool_calls
    result = TOOL.invoke(call)
    said = model.invoke([("human", CALL), said, result])

    assert ("weather", {"city": "Oslo"}) == (call["name"], call["args"])
    assert "rain in Oslo" == site.echo.executors[0].tasks[-1].input[-1]["content"]
    assert not said.tool_calls


def test_embeddings(site: Site) -> None:
    """Of documents and of a query; without the table of OpenAI's tokens, which would be fetched from elsewhere."""
    embeddings = OpenAIEmbeddings(
        base_url=f"{site.url}/v1", model="echo", api_key="none", check_embedding_ctx_length=False, max_retries=0
    )
    texts = ["one two", "three"]
    found = embeddings.embed_documents(texts)

    assert [row.embedding for row in site.openai.embeddings.create(model="echo", input=texts).data] == found
    assert found[1] == embeddings.embed_query("three")
