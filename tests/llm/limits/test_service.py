"""Limits, use and prices as callers and operators of the whole service see them."""

import asyncio
from typing import Any

import pytest
from parley.llm.v1 import llm_service_pb2
from parley_llm.server import APPLIES

from tests.fakes.openai_upstream import OpenAIUpstream, Peer, completion, stream, words
from tests.fakes.redis_server import RedisServer
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, PLAIN_FRONTS, STREAM_FRONTS, ask

KEY = {"authorization": "Bearer crm-key-1"}


def limited(upstream: OpenAIUpstream, caller: str = "crm", **options: Any) -> dict[str, Any]:
    return {**settings_for(upstream), "callers": [{"name": caller, "keys": ["crm-key-1"], **options}]}


class Holding:
    """An upstream's answer that the test lets go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        self.asked += 1
        await self.go.wait()
        await completion()(peer)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_every_answer_tells_the_limits(front: str, upstream: OpenAIUpstream) -> None:
    async with run_service(limited(upstream, requests_per_minute=1, tokens_per_minute=1000)) as service:
        upstream.replies = [stream(*words("Hello!")) if front in STREAM_FRONTS else completion()]
        for admitted in (True, False):
            seen = await ask(front, service, KEY)
            assert seen.ok is admitted
            assert seen.headers["x-ratelimit-limit-requests"] == "1"
            assert seen.headers["x-ratelimit-remaining-requests"] == "0"
            assert seen.headers["x-ratelimit-reset-requests"].endswith("s")
            assert seen.headers["x-ratelimit-limit-tokens"] == "1000"
            assert 900 < int(seen.headers["x-ratelimit-remaining-tokens"]) <= 1000
        assert seen.reason == "RATE_LIMITED"


async def test_without_limits_there_are_no_such_headers(upstream: OpenAIUpstream) -> None:
    async with run_service(limited(upstream)) as service:
        seen = await ask("http", service, KEY)
        assert seen.ok
        assert not [name for name in seen.headers if name.startswith("x-ratelimit")]
        samples = service.runtime.metrics.registry.get_sample_value("parley_dependency_up", {"dependency": "redis"})
        assert samples is None, "nothing is shared"


def test_a_changed_store_needs_a_restart() -> None:
    assert not {"store", "currency"} & APPLIES


async def test_two_services_obey_one_limit_together(
    upstream: OpenAIUpstream, shared_redis: RedisServer, caller: str
) -> None:
    settings = {**limited(upstream, caller, requests_per_minute=10, tokens_per_minute=5000), "store": shared_redis.url}
    async with run_service(settings) as one, run_service(settings) as two:
        assert one.metric("parley_dependency_up", dependency="redis") == 1
        fronts = [(front, service) for front in PLAIN_FRONTS for service in (one, two)] * 8
        results = await asyncio.gather(*(ask(front, service, KEY) for front, service in fronts))
        assert len([seen for seen in results if seen.ok]) == 10
        assert {seen.reason for seen in results if not seen.ok} == {"RATE_LIMITED"}
        assert len(upstream.requests) == 10
        async with asyncio.timeout(20):
            while (me := (await two.http.get("/v1/parley/me", headers=KEY)).json())["usage"]["requests"] < 10:
                await asyncio.sleep(0.05)
        assert (me["shared"], me["usage"]["tokens"]["input"]) == (True, 70)


async def test_usage_and_limits_by_grpc(upstream: OpenAIUpstream) -> None:
    settings = limited(upstream, requests_per_minute=2, concurrency=4)
    settings["models"]["chat"]["targets"][0]["prices"] = {"input": 1_000_000, "output": 2_000_000}
    async with run_service({**settings, "currency": "EUR"}) as service:
        for _ in range(3):
            await ask("grpc", service, KEY)
        metadata = list(KEY.items())
        answer = await service.stub.GetUsage(llm_service_pb2.GetUsageRequest(), metadata=metadata)
        assert (answer.caller, answer.currency, answer.shared) == ("crm", "EUR", False)
        assert [(limit.name, limit.limit, limit.remaining) for limit in answer.limits] == [
            ("requests_per_minute", 2, 0),
            ("concurrency", 4, 4),
        ]
        assert (answer.total.requests, answer.total.input_tokens, answer.total.cost) == (2, 14, 34)
        assert answer.today == answer.total
        assert service.metric("parley_llm_cost_total", caller="crm", model="chat") == 34


async def test_a_call_that_waits_is_served_and_seen(upstream: OpenAIUpstream) -> None:
    holding = Holding()
    upstream.replies = [holding]
    async with run_service(limited(upstream, concurrency=1, max_wait="20s", max_waiting=1)) as service:
        first = asyncio.create_task(ask("http", service, KEY))
        async with asyncio.timeout(10):
            while not holding.asked:
                await asyncio.sleep(0.01)
        second = asyncio.create_task(ask("grpc", service, KEY))
        async with asyncio.timeout(10):
            while not service.metric("parley_llm_queue_depth"):
                await asyncio.sleep(0.01)
        assert (await ask("http", service, KEY)).reason == "RATE_LIMITED"
        assert service.metric("parley_llm_ratelimited_total", caller="crm", limit="max_waiting") == 1
        holding.go.set()
        assert (await first).ok
        assert (await second).ok
        assert service.metric("parley_llm_queue_depth") == 0
        assert service.metric("parley_llm_ratelimit_wait_seconds_count", caller="crm") == 1


async def test_waiting_is_part_of_the_calls_time(upstream: OpenAIUpstream) -> None:
    holding = Holding()
    upstream.replies = [holding]
    async with run_service(limited(upstream, concurrency=1, max_wait="20s")) as service:
        first = asyncio.create_task(ask("http", service, KEY))
        async with asyncio.timeout(10):
            while not holding.asked:
                await asyncio.sleep(0.01)
        seen = await ask("http", service, {**KEY, "x-parley-timeout-ms": "200"})
        assert seen.reason == "RATE_LIMITED"
        holding.go.set()
        assert (await first).ok


async def test_calls_that_wait_are_cut_when_the_service_stops(upstream: OpenAIUpstream) -> None:
    holding = Holding()
    upstream.replies = [holding]
    async with run_service(limited(upstream, concurrency=1, max_wait="20s")) as service:
        calls = [asyncio.create_task(ask("grpc", service, KEY)) for _ in range(2)]
        async with asyncio.timeout(10):
            while not (holding.asked and service.metric("parley_llm_queue_depth")):
                await asyncio.sleep(0.01)
        service.service.core.draining = True
        await service.service.core.inflight.wait_idle(0.1)
        assert {(await call).reason for call in calls} == {"SERVER_STOPPED"}
        assert service.metric("parley_llm_queue_depth") == 0
        holding.go.set()
