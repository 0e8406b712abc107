"""Repeats of a call with the same idempotency key: over all four fronts, joined, kept, refused, given up."""

import asyncio
import json
import time
from typing import Any

import openai
import pytest
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_llm.calls.replay import MEMORY

from tests.fakes.openai_upstream import (
    FINISH,
    ROLE,
    OpenAIUpstream,
    Peer,
    Reply,
    completion,
    delta,
    plain,
    stall,
    status,
    stream,
    words,
)
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.test_cancellation import LIMIT_S, request_at

fronts = pytest.mark.parametrize("front", ALL_FRONTS)
stream_fronts = pytest.mark.parametrize("front", STREAM_FRONTS)
KEY = {"idempotency-key": "order-66"}
PARAMS = chat_pb2.ChatCompletionParams(model="chat", messages=[chat_pb2.ChatMessage(role="user", content="Hello?")])


def good(front: str, text: str = "Hello!") -> Reply:
    return stream(*words(text)) if front in STREAM_FRONTS else completion(text)


def late(reply: Reply, seconds: float) -> Reply:
    async def wait_and_reply(peer: Peer) -> None:
        await asyncio.sleep(seconds)
        await reply(peer)

    return wait_and_reply


def held(reply: Reply) -> tuple[Reply, asyncio.Event]:
    """Return a reply that waits until the event is set."""
    go = asyncio.Event()

    async def wait_and_reply(peer: Peer) -> None:
        await go.wait()
        await reply(peer)

    return wait_and_reply, go


async def all_joined(service: Running, count: int) -> None:
    """Wait until so many callers wait for one call."""
    while [shared.waiting for shared in service.service.core._shared._calls.values()] != [count]:
        await asyncio.sleep(0.005)


async def begin_http(service: Running, *, streaming: bool, key: str = "order-66") -> asyncio.StreamWriter:
    """Send the same request as `ask` does, on a connection that may be closed at any time."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    messages = [{"role": "user", "content": "Hello?"}]
    request = {"model": "chat", "messages": messages, **({"stream": True} if streaming else {})}
    body = json.dumps(request, separators=(",", ":")).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"idempotency-key: %b\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )
    return writer


@fronts
async def test_a_repeat_joins_the_call_that_is_being_made(front: str, upstream: OpenAIUpstream) -> None:
    reply, go = held(good(front))
    upstream.replies = [reply]
    async with run_service(settings_for(upstream)) as service:
        first = asyncio.create_task(ask(front, service, KEY))
        await request_at(upstream)
        repeats = [asyncio.create_task(ask(front, service, KEY)) for _ in range(2)]
        await all_joined(service, 3)
        go.set()
        seen = await asyncio.gather(first, *repeats)
        assert [one.text for one in seen] == ["Hello!"] * 3
        assert [one.headers.get("x-parley-joined") for one in seen] == [None, "true", "true"]
        assert {(one.attempts, one.headers["x-parley-upstream"]) for one in seen} == {(1, "up0")}
        assert len({one.headers["x-request-id"] for one in seen}) == 3
        labels = {"caller": "anonymous", "operation": "chat", "model": "chat", "outcome": "ok"}
        assert service.metric("parley_llm_requests_total", **labels) == 1
        tokens = {"caller": "anonymous", "model": "chat", "type": "output", "source": "upstream"}
        assert service.metric("parley_llm_tokens_total", **tokens) == 5
    assert len(upstream.requests) == 1


@fronts
async def test_a_repeat_soon_after_gets_the_same_answer(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [good(front, "once"), good(front, "twice")]
    async with run_service(settings_for(upstream)) as service:
        seen = [await ask(front, service, KEY) for _ in range(3)]
        assert {one.text for one in seen} == {"once"}
        assert {one.finish for one in seen} == {"stop"}
        assert [one.headers.get("x-parley-joined") for one in seen] == [None, "true", "true"]
        assert (await ask(front, service, {"idempotency-key": "order-67"})).text == "twice"


@fronts
async def test_an_answer_is_not_kept_longer_than_the_linger(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [good(front, "once"), good(front, "twice")]
    async with run_service({**settings_for(upstream), "idempotency": {"linger": 0.1}}) as service:
        assert (await ask(front, service, KEY)).text == "once"
        await asyncio.sleep(0.3)
        assert not service.service.core._shared._calls
        assert service.service.core._shared._memory._left == MEMORY, "what was kept is no longer counted"
        assert (await ask(front, service, KEY)).text == "twice"


@fronts
async def test_without_a_key_nothing_is_shared(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [late(good(front), 0.1)]
    async with run_service(settings_for(upstream)) as service:
        seen = await asyncio.gather(ask(front, service), ask(front, service))
    assert [one.headers.get("x-parley-joined") for one in seen] == [None, None]
    assert len(upstream.requests) == 2


@fronts
async def test_the_same_key_for_another_request_is_refused(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [good(front)]
    async with run_service(settings_for(upstream)) as service:
        await ask(front, service, KEY)
        seen = await ask(front, service, KEY, temperature=0.5)
    assert (seen.code, seen.reason) == (
        "422" if front in ("http", "sse") else "INVALID_ARGUMENT",
        "IDEMPOTENCY_MISMATCH",
    )
    if front in ("http", "sse"):
        assert seen.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


async def test_the_same_key_at_another_endpoint_is_another_request(upstream: OpenAIUpstream) -> None:
    async with run_service(settings_for(upstream)) as service:
        await ask("http", service, KEY)
        body = {"model": "chat", "input": "x"}
        response = await service.http.post("/v1/embeddings", json=body, headers=KEY)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("front", "key"),
    # gRPC itself refuses other characters.
    [("http", ""), ("sse", "x" * 256), ("http", "a\tb"), ("grpc", ""), ("grpc-stream", "x" * 256)],
)
async def test_keys_that_cannot_be_are_refused(
    front: str, key: str, service: Running, upstream: OpenAIUpstream
) -> None:
    seen = await ask(front, service, {"idempotency-key": key})
    assert seen.code in ("400", "INVALID_ARGUMENT")
    assert "idempotency-key" in seen.message
    assert not upstream.requests


async def test_a_key_of_the_greatest_length_is_taken(service: Running) -> None:
    assert (await ask("http", service, {"idempotency-key": "~" * 255})).ok


async def test_callers_never_share(upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion("for a"), completion("for b")]
    callers = [{"name": name, "keys": [f"key-of-{name}"]} for name in ("a", "b")]
    async with run_service({**settings_for(upstream), "callers": callers}) as service:
        for name in ("a", "b", "a", "b"):
            seen = await ask("http", service, {**KEY, "authorization": f"Bearer key-of-{name}"})
            assert seen.text == f"for {name}"
    assert len(upstream.requests) == 2


async def test_limits_count_a_call_once(upstream: OpenAIUpstream) -> None:
    callers = [{"name": "a", "keys": ["key-of-a"], "requests_per_minute": 1}]
    async with run_service({**settings_for(upstream), "callers": callers}) as service:
        key = {"authorization": "Bearer key-of-a"}
        assert [(await ask("http", service, {**KEY, **key})).ok for _ in range(3)] == [True] * 3
        assert (await ask("http", service, {**key, "idempotency-key": "other"})).reason == "RATE_LIMITED"
        me = (await service.http.get("/v1/parley/me", headers=key)).json()
        assert me["usage"]["requests"] == 1


@fronts
async def test_errors_are_shared_in_flight_and_not_kept(front: str, upstream: OpenAIUpstream) -> None:
    reply, go = held(status(400, message="no such thing"))
    upstream.replies = [reply, good(front)]
    async with run_service(settings_for(upstream)) as service:
        both = [asyncio.create_task(ask(front, service, KEY)) for _ in range(2)]
        await all_joined(service, 2)
        go.set()
        seen = await asyncio.gather(*both)
        assert {one.reason for one in seen} == {"INVALID_REQUEST"}
        assert sorted(one.headers.get("x-parley-joined", "") for one in seen) == ["", "true"]
        assert len(upstream.requests) == 1
        assert (await ask(front, service, KEY)).text == "Hello!"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "sse"])
@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "begun"])
async def test_a_call_outlives_its_caller(streaming: bool, begun: bool, upstream: OpenAIUpstream) -> None:
    if streaming and begun:
        upstream.replies = [stream(ROLE, delta("Hel"), 0.6, delta("lo!"), FINISH)]
    else:
        upstream.replies = [late(good("sse" if streaming else "http"), 0.6)]
    async with run_service(settings_for(upstream)) as service:
        writer = await begin_http(service, streaming=streaming)
        await request_at(upstream)
        writer.close()
        await all_joined(service, 0)
        assert not upstream.requests[0].closed.is_set()
        seen = await ask("sse" if streaming else "http", service, KEY)
        assert (seen.text, seen.finish, seen.headers["x-parley-joined"]) == ("Hello!", "stop", "true")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("front", ["grpc", "grpc-stream"])
async def test_a_cancelled_grpc_call_is_joined(front: str, upstream: OpenAIUpstream) -> None:
    reply, go = held(good(front))
    upstream.replies = [reply]
    async with run_service(settings_for(upstream)) as service:
        request: Any
        call: Any
        if front == "grpc":
            request = llm_service_pb2.CreateChatCompletionRequest(params=PARAMS)
            call = service.stub.CreateChatCompletion(request, metadata=tuple(KEY.items()))
        else:
            request = llm_service_pb2.StreamChatCompletionRequest(params=PARAMS)
            call = service.stub.StreamChatCompletion(request, metadata=tuple(KEY.items()))
        await request_at(upstream)
        call.cancel()
        await all_joined(service, 0)
        repeat = asyncio.create_task(ask(front, service, KEY))
        await all_joined(service, 1)
        go.set()
        assert (await repeat).text == "Hello!"
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "sse"])
@pytest.mark.parametrize("linger", [0.0, 0.3])
async def test_a_call_that_nobody_comes_back_for_is_given_up(
    streaming: bool, linger: float, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall") if streaming else stall()]
    async with run_service({**settings_for(upstream), "idempotency": {"linger": linger}}) as service:
        writer = await begin_http(service, streaming=streaming)
        await request_at(upstream)
        left_at = time.monotonic()
        writer.close()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        assert linger * 0.9 <= upstream.requests[0].closed_at - left_at < linger + LIMIT_S
        await asyncio.sleep(0.05)
        labels = {"caller": "anonymous", "operation": "chat", "model": "chat", "outcome": "cancelled"}
        assert service.metric("parley_llm_requests_total", **labels) == 1
        upstream.replies = [good("sse" if streaming else "http")]
        assert (await ask("sse" if streaming else "http", service, KEY)).text == "Hello!"


async def test_a_call_goes_on_while_one_of_its_callers_is_there(upstream: OpenAIUpstream) -> None:
    reply, go = held(completion("Hello!"))
    upstream.replies = [reply]
    async with run_service({**settings_for(upstream), "idempotency": {"linger": 0.05}}) as service:
        writer = await begin_http(service, streaming=False)
        await request_at(upstream)
        repeat = asyncio.create_task(ask("http", service, KEY))
        await all_joined(service, 2)
        writer.close()
        await all_joined(service, 1)
        await asyncio.sleep(0.2)
        go.set()
        assert (await repeat).text == "Hello!"
    assert len(upstream.requests) == 1


@fronts
async def test_a_repeat_has_a_time_limit_of_its_own(front: str, upstream: OpenAIUpstream) -> None:
    reply, go = held(good(front))
    upstream.replies = [reply]
    async with run_service(settings_for(upstream)) as service:
        first = asyncio.create_task(ask(front, service, KEY))
        await request_at(upstream)
        seen = await ask(front, service, {**KEY, "x-parley-timeout-ms": "150"})
        assert (seen.code, seen.reason) in (("504", "DEADLINE_EXCEEDED"), ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"))
        go.set()
        assert (await first).text == "Hello!"


@fronts
async def test_while_draining_a_call_can_be_joined_but_not_begun(front: str, upstream: OpenAIUpstream) -> None:
    reply, go = held(good(front))
    upstream.replies = [reply]
    async with run_service(settings_for(upstream)) as service:
        first = asyncio.create_task(ask(front, service, KEY))
        await request_at(upstream)
        service.service.core.draining = True
        assert (await ask(front, service, {"idempotency-key": "new"})).reason == "DRAINING"
        repeat = asyncio.create_task(ask(front, service, KEY))
        await all_joined(service, 2)
        go.set()
        assert [one.text for one in await asyncio.gather(first, repeat)] == ["Hello!"] * 2


@fronts
async def test_stopping_ends_a_shared_call_for_all(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall") if front in STREAM_FRONTS else stall()]
    async with run_service(settings_for(upstream)) as service:
        both = [asyncio.create_task(ask(front, service, KEY)) for _ in range(2)]
        await request_at(upstream)
        await all_joined(service, 2)
        await service.service.core.inflight.wait_idle(0)
        assert {one.reason for one in await asyncio.gather(*both)} == {"SERVER_STOPPED"}
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_no_more_calls_than_allowed_are_remembered(
    upstream: OpenAIUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley_llm.calls.idempotency.MAX_CALLS", 2)
    async with run_service(settings_for(upstream)) as service:
        for name in ("a", "b", "c"):
            assert (await ask("http", service, {"idempotency-key": name})).ok
        joined = [
            (await ask("http", service, {"idempotency-key": name})).headers.get("x-parley-joined")
            for name in ("c", "b", "a")
        ]
        assert joined == ["true", "true", None], "the answer kept longest made room"
        reply, go = held(completion())
        upstream.replies = [reply]
        running = [asyncio.create_task(ask("http", service, {"idempotency-key": name})) for name in "def"]
        while len(upstream.requests) < 7:
            await asyncio.sleep(0.01)
        go.set()
        assert all(one.ok for one in await asyncio.gather(*running)), "those beyond are served all the same"
        assert len(service.service.core._shared._calls) == 2


async def test_an_upload_outlives_its_caller_and_is_sent_again(upstream: OpenAIUpstream) -> None:
    reply, go = held(status(503))
    upstream.replies = [reply, plain(200, b'{"text":"said"}')]
    async with run_service(settings_for(upstream)) as service:

        def post() -> asyncio.Task[Any]:
            files = {"file": ("a.wav", b"RIFF" + bytes(2_000_000), "audio/wav")}
            sending = service.http.post("/v1/audio/transcriptions", data={"model": "chat"}, files=files, headers=KEY)
            return asyncio.create_task(sending)

        first = post()
        while not upstream.requests:
            await asyncio.sleep(0.01)
        first.cancel()
        await all_joined(service, 0)
        repeat = post()
        await all_joined(service, 1)
        go.set()
        response = await repeat
        assert (response.status_code, response.json()) == (200, {"text": "said"})
        assert response.headers["x-parley-joined"] == "true"
        assert [len(request.body) for request in upstream.requests] == [len(upstream.requests[0].body)] * 2
        other = {"file": ("a.wav", b"RIFF" + bytes(1_999_999) + b"!", "audio/wav")}
        response = await service.http.post("/v1/audio/transcriptions", data={"model": "chat"}, files=other, headers=KEY)
        assert response.status_code == 422


async def test_openais_client_sends_a_key_only_when_told(upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion()]
    async with run_service(settings_for(upstream)) as service:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(api_key="x", base_url=service.base_url, http_client=http) as client:
            for headers, requests in ((None, 1), (None, 2), (KEY, 3), (KEY, 3)):
                await client.chat.completions.create(
                    model="chat", messages=[{"role": "user", "content": "Hello?"}], extra_headers=headers
                )
                assert len(upstream.requests) == requests


async def test_a_retry_of_openais_client_joins_its_first_try(upstream: OpenAIUpstream) -> None:
    upstream.replies = [late(completion("Hello!"), 0.6)]
    async with run_service(settings_for(upstream)) as service:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(
            api_key="x", base_url=service.base_url, http_client=http, timeout=0.4, max_retries=3
        ) as client:
            answer = await client.chat.completions.with_raw_response.create(
                model="chat", messages=[{"role": "user", "content": "Hello?"}], extra_headers=KEY
            )
            assert answer.headers["x-parley-joined"] == "true"
            assert answer.parse().choices[0].message.content == "Hello!"
    assert len(upstream.requests) == 1
