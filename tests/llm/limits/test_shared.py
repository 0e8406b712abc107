"""Replicas that count together in a real Redis."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from parley_llm.limits.base import Admission, Allowance, OverLimitError
from parley_llm.limits.ledger import DAY_S
from parley_llm.usage import Usage

from tests.fakes.redis_server import RedisServer
from tests.llm.limits.conftest import Replica, run_replica, tried, used


async def commands(server: RedisServer, name: str) -> int:
    """Return how many commands of a name the server has carried out."""
    client = server.client()
    stats: dict[str, Any] = await client.info("commandstats")
    await client.aclose()
    return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))


async def running(replica: Replica, caller: str, allowance: Allowance) -> int:
    """Return how many calls Redis knows as running."""
    return (await replica.of(caller, allowance).report()).standing.running


async def until_running(replica: Replica, caller: str, allowance: Allowance, expected: int) -> None:
    """Wait until Redis has heard of the calls that ended."""
    async with asyncio.timeout(10):
        while await running(replica, caller, allowance) != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("limit", [1, 7, 20])
async def test_two_replicas_let_exactly_the_limit_in(limit: int, shared_redis: RedisServer, caller: str) -> None:
    allowance = Allowance(requests_per_minute=limit)
    async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
        accounts = [one.of(caller, allowance), two.of(caller, allowance)]
        results = await asyncio.gather(*(tried(accounts[n % 2]) for n in range(limit + 30)))
        admitted = [each for each in results if isinstance(each, Admission)]
        refused = [each for each in results if isinstance(each, OverLimitError)]
        assert len(admitted) == limit
        remaining = sorted(each.standing.requests.remaining for each in admitted if each.standing.requests)
        assert remaining == list(range(limit))
        assert {each.limit for each in refused} == {"requests_per_minute"}
        assert all(0 < each.wait_s <= 60 / limit for each in refused)


async def test_tokens_are_charged_after_the_call_for_all_replicas(shared_redis: RedisServer, caller: str) -> None:
    allowance = Allowance(tokens_per_minute=1000)
    async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
        first, second = one.of(caller, allowance), two.of(caller, allowance)
        first.release(await first.admit(30), "chat", Usage(input=400, output=1100), 0)
        async with asyncio.timeout(10):
            while isinstance(refused := await tried(second), Admission):
                await asyncio.sleep(0.01)
        assert refused.limit == "tokens_per_minute"
        assert 20 < refused.wait_s <= 30.1
        assert refused.standing.tokens is not None
        assert refused.standing.tokens.remaining == 0
        assert 80 < refused.standing.tokens.reset_s <= 90


async def test_calls_at_a_time_are_counted_over_replicas(shared_redis: RedisServer, caller: str) -> None:
    allowance = Allowance(concurrency=2)
    async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
        first, second = one.of(caller, allowance), two.of(caller, allowance)
        admission = await first.admit(30)
        await second.admit(30)
        refused = await tried(first)
        assert isinstance(refused, OverLimitError)
        assert (refused.limit, refused.standing.running) == ("concurrency", 2)
        first.release(admission, "chat", used(), 0)
        await until_running(two, caller, allowance, 1)
        assert isinstance(await tried(second), Admission)


async def test_calls_of_a_dead_replica_expire_with_their_deadline(shared_redis: RedisServer, caller: str) -> None:
    allowance = Allowance(concurrency=1)
    async with run_replica(shared_redis.url, slack_s=0.1) as dead, run_replica(shared_redis.url) as alive:
        await dead.of(caller, allowance).admit(0.2)
        assert isinstance(await tried(alive.of(caller, allowance)), OverLimitError)
        await until_running(alive, caller, allowance, 0)
        assert isinstance(await tried(alive.of(caller, allowance)), Admission)


async def test_a_call_waits_for_one_that_runs_in_another_replica(shared_redis: RedisServer, caller: str) -> None:
    allowance = Allowance(concurrency=1, max_wait_s=20)
    async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
        admission = await one.of(caller, allowance).admit(30)
        waiting = asyncio.create_task(two.of(caller, allowance).admit(30))
        async with asyncio.timeout(10):
            while not two.depth:
                await asyncio.sleep(0.01)
        one.of(caller, allowance).release(admission, "chat", used(), 0)
        await asyncio.wait_for(waiting, 10)
        assert len(two.waits) == 1


async def test_a_caller_that_leaves_while_it_is_asked_for_keeps_no_place(
    shared_redis: RedisServer, caller: str
) -> None:
    allowance = Allowance(concurrency=1)
    async with run_replica(shared_redis.url) as replica:
        account = replica.of(caller, allowance)
        for turns in range(6):
            leaving = asyncio.create_task(account.admit(30))
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await until_running(replica, caller, allowance, 0)
        assert isinstance(await tried(account), Admission)


async def test_without_limits_redis_is_not_asked(shared_redis: RedisServer, caller: str) -> None:
    async with run_replica(shared_redis.url) as replica:
        account = replica.of(caller, Allowance())
        before = await commands(shared_redis, "evalsha")
        for _ in range(100):
            account.release(await account.admit(30), "chat", used(1), 0)
        assert await commands(shared_redis, "evalsha") - before <= 2, "only the use is told, once a second"


async def test_many_at_once_share_round_trips(shared_redis: RedisServer, caller: str) -> None:
    async with run_replica(shared_redis.url) as replica:
        account = replica.of(caller, Allowance(requests_per_minute=10**6))
        client = shared_redis.client()
        before = (await client.info("clients"))["connected_clients"]
        results = await asyncio.gather(*(account.admit(30) for _ in range(500)))
        assert (await client.info("clients"))["connected_clients"] == before, "one connection carries them all"
        await client.aclose()
        standing = results[-1].standing.requests
        assert standing is not None
        assert 10**6 - 500 <= standing.remaining < 10**6


async def test_changed_limits_start_anew_and_the_others_go_on(shared_redis: RedisServer, caller: str) -> None:
    async with run_replica(shared_redis.url) as replica:
        old = replica.of(caller, Allowance(requests_per_minute=1, concurrency=1))
        admission = await old.admit(30)
        new = replica.of(caller, Allowance(requests_per_minute=2, concurrency=2))
        assert isinstance(await tried(new), Admission)
        refused = await tried(new)
        assert isinstance(refused, OverLimitError)
        assert refused.limit == "concurrency", "the call that began before still runs"
        old.release(admission, "chat", used(), 0)


async def test_use_is_added_up_over_replicas_and_told_at_the_stop(shared_redis: RedisServer, caller: str) -> None:
    usage = Usage(input=10, output=5, cached=4, reasoning=3, images=2, seconds=1.5, characters=7)
    async with run_replica(shared_redis.url) as looking:
        async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
            for replica, model in ((one, "org/model:8b"), (two, "org/model:8b"), (two, "draw")):
                account = replica.of(caller, Allowance())
                account.release(await account.admit(30), model, usage, 0.1)
            mine = await one.of(caller, Allowance()).report()
            assert mine.shared
            assert mine.ever.by_model["org/model:8b"].requests >= 1, "what isn't told yet is in its own report"
        account = looking.of(caller, Allowance())
        report = await account.report()
        assert report.shared
        assert {model: sums.requests for model, sums in report.ever.by_model.items()} == {"org/model:8b": 2, "draw": 1}
        assert report.today.by_model == report.ever.by_model
        total = report.ever.total()
        assert (total.input, total.output, total.cached, total.reasoning) == (30, 15, 12, 9)
        assert (total.images, total.seconds, total.characters) == (6, 4.5, 21)
        assert total.cost == pytest.approx(0.3)
        client = shared_redis.client()
        day = account.ledger.today()
        assert 39 * DAY_S < await client.ttl(f"parley:llm:{{{caller}}}:use:{day}") <= 40 * DAY_S
        keys = [key async for key in client.scan_iter(f"parley:llm:{{{caller}}}:*")]
        assert all([await client.ttl(key) > 0 for key in keys]), "nothing stays for ever"
        await client.aclose()


async def test_use_is_told_while_the_service_runs(shared_redis: RedisServer, caller: str) -> None:
    async with run_replica(shared_redis.url) as one, run_replica(shared_redis.url) as two:
        account = one.of(caller, Allowance())
        account.release(await account.admit(30), "chat", used(5), 0)
        async with asyncio.timeout(20):
            while not (await two.of(caller, Allowance()).report()).ever.by_model:
                await asyncio.sleep(0.05)


async def test_every_key_of_a_caller_has_the_same_hash_tag(shared_redis: RedisServer, caller: str) -> None:
    async with run_replica(shared_redis.url) as replica:
        account = replica.of(caller, Allowance(10, 10, 10))
        account.release(await account.admit(30), "chat", used(5), 1)
    client = shared_redis.client()
    keys = [key async for key in client.scan_iter(f"*{caller}*")]
    await client.aclose()
    assert len(keys) == 5
    assert all(key.startswith(f"parley:llm:{{{caller}}}:") for key in keys)


def test_without_a_store_the_client_is_not_imported() -> None:
    program = "import sys, parley_llm.server; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
