"""Streams with an idempotency key: told from their start to whoever joins, in bounded memory."""

import asyncio
from typing import Any

import pytest

from tests.fakes.openai_upstream import FINISH, ROLE, OpenAIUpstream, Peer, delta, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import STREAM_FRONTS, ask
from tests.llm.test_cancellation import request_at
from tests.llm.test_idempotency import KEY, all_joined, begin_http, good

stream_fronts = pytest.mark.parametrize("front", STREAM_FRONTS)


@stream_fronts
async def test_a_repeat_gets_a_stream_from_its_start(front: str, upstream: OpenAIUpstream) -> None:
    go = asyncio.Event()

    async def two_halves(peer: Peer) -> None:
        await peer.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await peer.chunk(ROLE + delta("Hel"))
        await go.wait()
        await peer.chunk(delta("lo!") + FINISH + b"data: [DONE]\n\n")
        await peer.send(b"0\r\n\r\n")

    upstream.replies = [two_halves]
    async with run_service(settings_for(upstream)) as service:
        first = asyncio.create_task(ask(front, service, KEY))
        await request_at(upstream)
        repeat = asyncio.create_task(ask(front, service, KEY))
        await all_joined(service, 2)
        go.set()
        for seen in await asyncio.gather(first, repeat):
            assert (seen.text, seen.finish, seen.done) == ("Hello!", "stop", True)


@stream_fronts
async def test_a_broken_stream_breaks_for_all_and_is_not_kept(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), 0.3, "cut"), good(front)]
    async with run_service(settings_for(upstream)) as service:
        for seen in await asyncio.gather(ask(front, service, KEY), ask(front, service, KEY)):
            assert (seen.text, seen.reason, seen.done) == ("Hel", "STREAM_BROKEN", False)
        assert (await ask(front, service, KEY)).text == "Hello!"
    assert len(upstream.requests) == 2


@stream_fronts
async def test_a_stream_too_long_to_be_kept_reaches_who_is_there_and_refuses_others(
    front: str, upstream: OpenAIUpstream
) -> None:
    go = asyncio.Event()
    piece = delta("x" * 60_000)

    async def long(peer: Peer) -> None:
        await peer.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for _ in range(80):
            await peer.chunk(piece)
        await go.wait()
        await peer.chunk(FINISH)
        await peer.send(b"0\r\n\r\n")

    upstream.replies = [long]
    async with run_service(settings_for(upstream)) as service:
        first = asyncio.create_task(ask(front, service, KEY))
        (shared,) = await shared_calls(service)
        while shared.replay.whole:
            await asyncio.sleep(0.01)
        repeat = await ask(front, service, KEY)
        code = "409" if front == "sse" else "ALREADY_EXISTS"
        assert (repeat.code, repeat.reason) == (code, "IDEMPOTENCY_CONFLICT")
        if front == "sse":
            assert repeat.headers["x-should-retry"] == "false"
        go.set()
        seen = await first
        assert (len(seen.text), seen.finish, seen.done) == (80 * 60_000, "stop", True)
        await asyncio.sleep(0.05)
        upstream.replies = [good(front)]
        assert (await ask(front, service, KEY)).text == "Hello!", "what is too long is not kept"


async def shared_calls(service: Running) -> list[Any]:
    """Wait for calls with keys, and return them."""
    calls = service.service.core._shared._calls
    while not calls:
        await asyncio.sleep(0.005)
    return list(calls.values())


async def test_a_slow_reader_slows_the_upstream_down(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, *[delta("x" * 60_000)] * 1000)]
    async with run_service({**settings_for(upstream), "idempotency": {"linger": 0}}) as service:
        # A socket that is never read.
        writer = await begin_http(service, streaming=True)
        (shared,) = await shared_calls(service)
        while shared.replay.whole:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not upstream.requests[0].closed.is_set()
        assert shared.replay._size < 8_000_000
        assert shared.replay._first + len(shared.replay._portions) < 500, "all was taken although nobody reads it"
        writer.transport.abort()
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
