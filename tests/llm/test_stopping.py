"""Calls that outlive the grace time of a stop end with an error that says so, whatever they were waiting for."""

import asyncio

import pytest

from tests.fakes.openai_upstream import ROLE, OpenAIUpstream, delta, stall, status, stream
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask

STOPPED = "SERVER_STOPPED"


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_call_that_waits_for_its_answer_is_cut(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    async with run_service(settings_for(upstream)) as service:
        asking = asyncio.create_task(ask(front, service))
        while not upstream.requests:
            await asyncio.sleep(0.005)
        await service.service.stop(0.05)
        seen = await asking
        assert (seen.code, seen.reason, seen.attempts) == ("UNAVAILABLE" if "grpc" in front else "503", STOPPED, 1)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        labels = {"caller": "anonymous", "operation": "chat", "model": "chat", "outcome": "error"}
        assert service.metric("parley_llm_requests_total", **labels) == 1


async def test_a_call_between_two_attempts_is_cut(upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503, {"retry-after": "5"})]
    async with run_service(settings_for(upstream)) as service:
        asking = asyncio.create_task(ask("http", service))
        while not upstream.requests:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        await service.service.stop(0.05)
        assert (await asking).reason == STOPPED


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_a_stream_is_cut_in_mid_answer(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall")]
    async with run_service(settings_for(upstream)) as service:
        asking = asyncio.create_task(ask(front, service))
        while service.metric("parley_llm_active_streams") < 1:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        await service.service.stop(0.05)
        seen = await asking
        assert (seen.text, seen.reason, seen.done) == ("Hel", STOPPED, False)
        assert service.metric("parley_llm_stream_aborted_total", reason="drain") == 1
