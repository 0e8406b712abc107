"""When a caller leaves, the upstream's socket is closed at once: nobody pays for tokens that nobody reads."""

import asyncio
import json
import time

import pytest
from parley.llm.v1 import chat_pb2, llm_service_pb2

from tests.fakes.openai_upstream import ROLE, OpenAIUpstream, delta, stall, status, stream
from tests.llm.conftest import Running, run_service, settings_for

LIMIT_S = 1.0  # The promise is 0.1 s; ten times that keeps a busy machine from failing the test.
PARAMS = chat_pb2.ChatCompletionParams(model="chat", messages=[chat_pb2.ChatMessage(role="user", content="x")])


async def http_call(service: Running, *, streaming: bool) -> asyncio.StreamWriter:
    """Send a request on a connection of our own, to be closed without ceremony."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    body = json.dumps({"model": "chat", "stream": streaming, "messages": [{"role": "user", "content": "x"}]}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    return writer


async def request_at(upstream: OpenAIUpstream) -> None:
    """Wait until a request has reached the upstream."""
    while not upstream.requests:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


async def assert_closed(upstream: OpenAIUpstream, left_at: float) -> None:
    """The upstream saw its socket close in time."""
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert upstream.requests[0].closed_at - left_at < LIMIT_S


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "sse"])
@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "begun"])
async def test_http_disconnect(streaming: bool, begun: bool, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall") if begun else stall()]
    writer = await http_call(service, streaming=streaming)
    await request_at(upstream)
    left_at = time.monotonic()
    writer.close()
    await assert_closed(upstream, left_at)


async def test_grpc_unary_cancel(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    call = service.stub.CreateChatCompletion(llm_service_pb2.CreateChatCompletionRequest(params=PARAMS))
    await request_at(upstream)
    left_at = time.monotonic()
    call.cancel()
    await assert_closed(upstream, left_at)


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "begun"])
async def test_grpc_stream_cancel(begun: bool, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall") if begun else stall()]
    call = service.stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
    if begun:
        await call.read()
    else:
        await request_at(upstream)
    left_at = time.monotonic()
    call.cancel()
    await assert_closed(upstream, left_at)


async def test_leaving_during_a_wait_between_attempts_ends_the_call(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503, {"retry-after-ms": "600"})]
    writer = await http_call(service, streaming=False)
    await request_at(upstream)
    writer.close()
    await asyncio.sleep(0.9)
    assert len(upstream.requests) == 1


async def test_a_slow_reader_slows_the_upstream_down(service: Running, upstream: OpenAIUpstream) -> None:
    piece = delta("x" * 60_000)
    upstream.replies = [stream(ROLE, *[piece] * 1000)]
    # A socket that is never read: its kernel buffers fill, then everything behind it must stop.
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port, limit=1024)
    body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await request_at(upstream)
    await asyncio.sleep(0.5)
    assert not upstream.requests[0].closed.is_set()
    (stream_task,) = service.service.core.inflight._open
    assert stream_task._judge.text < 30_000_000, "the whole answer was taken although nobody reads it"  # type: ignore[attr-defined]
    writer.transport.abort()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert reader is not None


async def test_cancelled_calls_are_counted_as_cancelled(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall")]
    async with run_service(settings_for(upstream)) as service:
        writer = await http_call(service, streaming=True)
        await request_at(upstream)
        assert service.metric("parley_llm_active_streams") == 1
        writer.close()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        await asyncio.sleep(0.05)
        assert service.metric("parley_llm_active_streams") == 0
        assert service.metric("parley_llm_stream_aborted_total", reason="client_cancelled") == 1
        labels = {"caller": "anonymous", "operation": "chat", "model": "chat", "outcome": "cancelled"}
        assert service.metric("parley_llm_requests_total", **labels) == 1
