"""Ends that the upstream does not choose: callers that leave or read slowly, a process that is told to stop."""

import asyncio
import signal
import time
from pathlib import Path

import grpc.aio
import pytest
import yaml
from parley.llm.v1 import llm_service_pb2

from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, Peer, Reply, delta, stall, stream
from tests.llm.conftest import Running, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.test_cancellation import LIMIT_S, http_call, request_at
from tests.llm.test_process import BODY, PARAMS, assert_refused, run_process

PIECE = delta("x" * 60_000)
PIECES = 1000
BOUND = 30_000_000
"""Bytes of an unread answer that may be on the way between upstream and caller, most of them in sockets' buffers."""


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_caller_leaves(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall") if front in STREAM_FRONTS else stall()]
    asking = asyncio.create_task(ask(front, service))
    await request_at(upstream)
    left_at = time.monotonic()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert upstream.requests[0].closed_at - left_at < LIMIT_S
    await asyncio.sleep(0.05)
    assert len(upstream.requests) == 1


def counted(sent: list[int]) -> Reply:
    """Stream a long answer, and note the length of each piece that the socket took."""

    async def reply(peer: Peer) -> None:
        await peer.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await peer.chunk(ROLE)
        for _ in range(PIECES):
            await peer.chunk(PIECE)
            sent.append(len(PIECE))
        await peer.chunk(FINISH + DONE)
        await peer.send(b"0\r\n\r\n")

    return reply


async def at_rest(sent: list[int]) -> int:
    """Return how much was sent when nothing more is."""
    before = -1
    while before != len(sent):
        before = len(sent)
        await asyncio.sleep(0.25)
    return sum(sent)


async def test_a_slow_reader_of_events_slows_the_upstream_down(service: Running, upstream: OpenAIUpstream) -> None:
    sent: list[int] = []
    upstream.replies = [counted(sent)]
    writer = await http_call(service, streaming=True)
    await request_at(upstream)
    assert 0 < await at_rest(sent) < BOUND
    writer.transport.abort()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_a_slow_reader_of_grpc_slows_the_upstream_down(service: Running, upstream: OpenAIUpstream) -> None:
    sent: list[int] = []
    upstream.replies = [counted(sent)]
    call = service.stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
    assert await call.read()
    assert 0 < await at_rest(sent) < BOUND
    call.cancel()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_a_process_that_is_told_to_stop_finishes_its_streams(tmp_path: Path) -> None:
    async with OpenAIUpstream(stream(ROLE, delta("Hel"), 1.0, delta("lo!"), FINISH, DONE)) as upstream:
        settings = {**settings_for(upstream), "shutdown": {"drain": "0s", "grace": "20s"}}
        (tmp_path / "parley.yaml").write_text(yaml.safe_dump({"llm": settings}))
        async with run_process({}, tmp_path) as running:
            events = asyncio.create_task(running.http.post("/v1/chat/completions", json={**BODY, "stream": True}))
            call = running.stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
            answer = [await call.read()]
            await request_at(upstream)
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.005)
            running.process.send_signal(signal.SIGTERM)
            while await running.ready():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            await assert_refused(running)
            while (one := await call.read()) is not grpc.aio.EOF:
                answer.append(one)
            assert "".join(one.event.delta.content for one in answer) == "Hello!"
            assert (await call.code()) is grpc.StatusCode.OK
            text = (await events).text
            assert '"content": "lo!"' in text
            assert text.endswith("data: [DONE]\n\n")
            assert len(upstream.requests) == 2, "refused calls made no attempt"
            assert await asyncio.wait_for(running.process.wait(), 10) == 0
