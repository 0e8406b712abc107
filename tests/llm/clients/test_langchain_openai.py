"""LangChain's OpenAI integration, which calls with OpenAI's client in ways of its own."""

import asyncio
import functools
import operator
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
import tiktoken
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.llm.clients.conftest import KEY, LIMITED_KEY, Door
from tests.llm.clients.endpoints import ANSWER, vector
from tests.llm.clients.scenes import BUSY_MS, GREETING, WEATHER


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


@tool
def get_weather(city: str, degrees: int) -> str:
    """Tell the weather in a city."""
    return f"{degrees} degrees in {city}"


class LangChain:
    """Makes LangChain's objects, which leave the closing of connections to whom these belong."""

    def __init__(self, door: Door, http_client: httpx2.Client, http_async_client: httpx2.AsyncClient) -> None:
        self._options: dict[str, Any] = {
            "api_key": SecretStr(KEY),
            "model": "chat",
            "base_url": door.base_url,
            "http_client": http_client,
            "http_async_client": http_async_client,
        }

    def chat_model(self, **options: Any) -> ChatOpenAI:
        """Return a chat model with its defaults, options excepted."""
        return ChatOpenAI(**{**self._options, **options})

    def embeddings(self, **options: Any) -> OpenAIEmbeddings:
        """Return an embeddings model with its defaults, options excepted."""
        return OpenAIEmbeddings(**{**self._options, **options})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def langchain(door: Door) -> AsyncIterator[LangChain]:
    """What makes the objects; no proxy of the environment comes between."""
    async with openai.DefaultAsyncHttpxClient(trust_env=False) as asynchronous:
        with openai.DefaultHttpxClient(trust_env=False) as synchronous:
            yield LangChain(door, synchronous, asynchronous)


@pytest.fixture
def model(langchain: LangChain) -> ChatOpenAI:
    """The chat model with its defaults."""
    return langchain.chat_model()


def sum_up(pieces: list[Any]) -> AIMessageChunk:
    """Add up the pieces of an answer, as LangChain's users do."""
    total = functools.reduce(operator.add, pieces)
    assert isinstance(total, AIMessageChunk)
    return total


async def test_invoke(door: Door, model: ChatOpenAI) -> None:
    asking = model.bind(extra_body={"top_k": 5})
    answer = await asyncio.to_thread(asking.invoke, "greet")
    assert answer.content == "".join(GREETING)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 12
    assert answer.response_metadata["finish_reason"] == "stop"
    assert door.asked("greet")[-1].json["top_k"] == 5
    assert (await model.ainvoke("greet")).content == answer.content


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_streams(way: str, model: ChatOpenAI) -> None:
    if way == "stream":
        chunks = await asyncio.to_thread(lambda: list(model.stream("greet", stream_usage=True)))
    else:
        chunks = [chunk async for chunk in model.astream("greet", stream_usage=True)]
    assert [chunk.content for chunk in chunks if chunk.content] == list(GREETING)
    total = sum_up(chunks)
    assert total.usage_metadata is not None
    assert total.usage_metadata["total_tokens"] == 12
    assert total.response_metadata["finish_reason"] == "stop"


async def test_tools(door: Door, model: ChatOpenAI) -> None:
    with_tools = model.bind_tools([get_weather])
    answer = await with_tools.ainvoke("weather")
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", WEATHER)
    total = sum_up([piece async for piece in with_tools.astream("weather")])
    assert [one["args"] for one in total.tool_calls] == [WEATHER]
    result: ToolMessage = await get_weather.ainvoke(call)
    final = await with_tools.ainvoke([HumanMessage("weather"), answer, result])
    assert "Paris" in str(final.content)
    roles = [message["role"] for message in door.asked("weather")[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(method: Any, door: Door, model: ChatOpenAI) -> None:
    structured = model.with_structured_output(Weather, method=method)
    assert await structured.ainvoke("weather") == Weather(city="Paris", degrees=21)
    assert await asyncio.to_thread(structured.invoke, "weather") == Weather(city="Paris", degrees=21)
    sent = door.asked("weather")[-1].json
    assert ("tools" in sent) == (method == "function_calling")


async def test_errors(door: Door, langchain: LangChain) -> None:
    with pytest.raises(openai.AuthenticationError):
        await langchain.chat_model(api_key=SecretStr("wrong")).ainvoke("greet")
    limited = langchain.chat_model(api_key=SecretStr(LIMITED_KEY), max_retries=0)
    await limited.ainvoke("greet")
    with pytest.raises(openai.RateLimitError) as caught:
        await limited.ainvoke("greet")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    with pytest.raises(openai.InternalServerError):
        await langchain.chat_model().ainvoke("revoked")
    assert len(door.asked("revoked")) == 1


async def test_its_retry_waits_as_long_as_it_is_told(door: Door, model: ChatOpenAI) -> None:
    assert (await model.ainvoke("busy")).content == "".join(GREETING)
    first, second = door.asked("busy")
    assert second.at - first.at >= BUSY_MS / 1000


async def test_a_stream_broken_midway_raises(model: ChatOpenAI) -> None:
    text = ""

    async def read() -> None:
        nonlocal text
        async for chunk in model.astream("break"):
            text += str(chunk.content)

    with pytest.raises(openai.APIError):
        await read()
    assert text == "Hel"


async def test_leaving_a_stream_reaches_the_upstream(door: Door, model: ChatOpenAI) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for chunk in model.astream("endless"):
            if chunk.content:
                begun.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 10)
    left_at = time.monotonic()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await door.assert_cancelled("endless", left_at)


async def test_by_the_responses_endpoint(langchain: LangChain) -> None:
    model = langchain.chat_model(use_responses_api=True)
    answer = await model.ainvoke("Say")
    assert answer.text == "".join(ANSWER)
    total = sum_up([piece async for piece in model.astream("Say")])
    assert total.text == answer.text
    assert total.usage_metadata is not None
    assert total.usage_metadata["total_tokens"] == 7


async def test_embeddings_of_texts(door: Door, langchain: LangChain) -> None:
    # The length check needs tiktoken's vocabulary, which it downloads on first use; without the check texts are sent.
    api = langchain.embeddings(check_embedding_ctx_length=False)
    assert await api.aembed_documents(["one", "three"]) == [vector("one"), vector("three")]
    assert await api.aembed_query("three") == vector("three")
    assert door.reached("/embeddings")[0].json["input"] == ["one", "three"]


async def test_embeddings_of_token_arrays(door: Door, langchain: LangChain, monkeypatch: pytest.MonkeyPatch) -> None:
    # By default LangChain sends numbers of tokens. A vocabulary of single bytes stands in for the one to download.
    bytes_only = tiktoken.Encoding(
        "bytes", pat_str=".", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", bytes_only)
    api = langchain.embeddings()
    assert await api.aembed_documents(["one", "three"]) == [vector("one"), vector("three")]
    assert await asyncio.to_thread(api.embed_query, "one") == vector("one")
    assert door.reached("/embeddings")[-2].json["input"] == [[*b"one"], [*b"three"]]
