"""OpenAI's own Python client works against the HTTP front by changing `base_url`."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.fakes.openai_upstream import (
    DONE,
    FINISH,
    ROLE,
    OpenAIUpstream,
    completion,
    delta,
    plain,
    status,
    stream,
    words,
)
from tests.llm.conftest import Running, run_service, settings_for

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello?"}]
KEY = "caller-key-123456"


@pytest_asyncio.fixture(loop_scope="session")
async def client(service: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        api_key="unused", base_url=service.base_url, max_retries=0, http_client=http_client
    ) as api:
        yield api


async def test_a_completion(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion("Hello!")]
    answer = await client.chat.completions.create(model="chat", messages=MESSAGES, temperature=0.5)
    assert answer.choices[0].message.content == "Hello!"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer._request_id
    assert upstream.requests[0].json["temperature"] == 0.5


async def test_a_stream(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*words("Hel", "lo!"))]
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert chunks[-1].usage is not None


async def test_the_streaming_helper(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*words("Hel", "lo!"))]
    async with client.chat.completions.stream(model="chat", messages=MESSAGES) as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.content == "Hello!"


async def test_tool_calls(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":'}}
    more = {"index": 0, "function": {"arguments": "1}"}}
    upstream.replies = [
        stream(ROLE, delta(tool_calls=[call]), delta(tool_calls=[more]), delta(finish="tool_calls"), DONE)
    ]
    arguments = ""
    async for chunk in await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True):
        for choice in chunk.choices:
            for tool_call in choice.delta.tool_calls or []:
                arguments += (tool_call.function.arguments if tool_call.function else "") or ""
    assert arguments == '{"a":1}'


@pytest.mark.parametrize(
    ("code", "error", "expected"),
    [
        (400, {"message": "no such parameter", "param": "x"}, openai.BadRequestError),
        (404, {}, openai.NotFoundError),
        (422, {}, openai.UnprocessableEntityError),
        (429, {}, openai.RateLimitError),
        (500, {}, openai.InternalServerError),
        (401, {}, openai.InternalServerError),
    ],
)
async def test_errors(
    code: int,
    error: dict[str, Any],
    expected: type[openai.APIStatusError],
    client: openai.AsyncOpenAI,
    upstream: OpenAIUpstream,
) -> None:
    upstream.replies = [status(code, **error)]
    with pytest.raises(expected) as caught:
        await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert caught.value.request_id
    assert caught.value.type
    if error:
        assert caught.value.param == "x"
        assert "no such parameter" in caught.value.message


async def test_a_truncated_stream_raises(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"))]
    chunks = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
    texts: list[str | None] = []

    async def read() -> None:
        async for chunk in chunks:
            texts.extend(choice.delta.content for choice in chunk.choices)

    with pytest.raises(openai.APIError):
        await read()
    assert texts == ["", "Hel"]


async def test_the_client_does_not_repeat_what_can_not_succeed(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(401)]
    async with openai.AsyncOpenAI(
        api_key="unused", base_url=service.base_url, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
    ) as api:
        with pytest.raises(openai.InternalServerError):
            await api.chat.completions.create(model="chat", messages=MESSAGES)
    assert len(upstream.requests) == 1


async def test_models_and_the_callers_key(upstream: OpenAIUpstream) -> None:
    settings = {**settings_for(upstream), "callers": [{"name": "crm", "keys": [KEY]}]}
    async with run_service(settings) as service:
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(api_key=KEY, base_url=service.base_url, http_client=http_client) as api:
            assert [model.id async for model in api.models.list()] == ["chat"]
            assert (await api.models.retrieve("chat")).owned_by == "up0"
            with pytest.raises(openai.NotFoundError):
                await api.models.retrieve("gpt-9")
            with pytest.raises(openai.AuthenticationError):
                await api.with_options(api_key="wrong").models.list()
            with pytest.raises(openai.AuthenticationError):
                await api.with_options(api_key="wrong").chat.completions.create(model="chat", messages=MESSAGES)


async def test_a_pass_through_alias_lists_what_the_upstream_lists(upstream: OpenAIUpstream) -> None:
    upstream.replies = [
        plain(200, b'{"object":"list","data":[{"id":"m1","object":"model","created":7,"owned_by":"x"}]}')
    ]
    settings = settings_for(upstream)
    settings["models"] = {"*": {"targets": [{"upstream": "up0", "model": "fake-model"}]}}
    async with run_service(settings) as service:
        listed = (await service.http.get("/v1/models")).json()["data"]
        assert [(model["id"], model["created"]) for model in listed] == [("fake-model", 0), ("m1", 7)]
        await service.http.get("/v1/models")
        assert [request.target for request in upstream.requests] == ["/v1/models"]
        upstream.replies = [stream(ROLE, FINISH, DONE)]
