"""Several processes over one Redis: they hear of each other, and find out by looking what they didn't hear."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from parley_gateway.store.base import AcceptOutcome, StoreLimits
from parley_gateway.store.redis import RedisStore
from parley_gateway.store.redis import store as store_module
from parley_gateway.store.redis.keys import CHANNEL
from parley_gateway.store.redis.store import RedisOptions

from tests.fakes.redis_server import RedisServer
from tests.gateway.store.backends import PATIENT_S
from tests.gateway.store.building import (
    DEDUPE_TTL_S,
    LEASE_TTL_S,
    START,
    conversation,
    enqueue,
    keep,
    kept,
    message,
    queued,
    take,
)
from tests.gateway.store.redis.conftest import opened

CHAT = conversation().key
LONG_S = 30.0
"""Far longer than any of these tests takes: whoever waits this long was not woken."""
BLIND = RedisOptions(command_s=PATIENT_S, look_s=LONG_S)
"""Looks so rarely that only news can be why something is known."""


@pytest.fixture
async def pair(shared_redis: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    await shared_redis.run("FLUSHALL")
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(opened(shared_redis.url, BLIND)) for _ in range(2)]
        yield one, other


async def in_time(waiting: asyncio.Task[None]) -> None:
    async with asyncio.timeout(LONG_S / 3):
        await waiting


async def test_worker_of_another_process_is_woken_by_a_new_message(pair: tuple[RedisStore, RedisStore]) -> None:
    one, other = pair
    assert await other.lease("worker", now=START, ttl_s=LEASE_TTL_S) is None
    waiting = asyncio.create_task(other.wait_ready(LONG_S))

    await enqueue(one, message("m1"))

    await in_time(waiting)
    _, item = await take(other)
    assert item.message.message_id == "m1"


async def test_lane_given_back_wakes_a_worker_of_another_process(pair: tuple[RedisStore, RedisStore]) -> None:
    one, other = pair
    await enqueue(one, message("m1"))
    lease, _ = await take(one)
    for give_back in (one.release(lease), one.release_owner("worker")):
        assert await other.lease("other", now=START, ttl_s=LEASE_TTL_S) is None
        waiting = asyncio.create_task(other.wait_ready(LONG_S))
        await give_back
        await in_time(waiting)
        taken, _ = await take(other, owner="other")
        await other.release(taken)
        await take(one)


async def test_request_held_by_another_process_gets_the_answer_at_once(
    pair: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_S", LONG_S)
    one, other = pair
    waiting = asyncio.create_task(other.wait_answer(CHAT, "m1", timeout_s=LONG_S))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    await keep(one, kept("m1"))

    async with asyncio.timeout(LONG_S / 3):
        assert await waiting == kept("m1")


async def test_what_was_not_heard_is_found_by_looking(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_S", 0.05)
    await shared_redis.run("FLUSHALL")
    looking = RedisOptions(command_s=PATIENT_S, look_s=0.05)
    async with opened(shared_redis.url) as one, opened(shared_redis.url, looking) as deaf:
        await deaf._news.stop()
        waiting = asyncio.create_task(deaf.wait_answer(CHAT, "m1", timeout_s=LONG_S))
        await keep(one, kept("m1"))
        async with asyncio.timeout(LONG_S / 3):
            assert await waiting == kept("m1")

            await enqueue(one, message("m2"))
            while (leased := await deaf.lease("worker", now=START, ttl_s=LEASE_TTL_S)) is None:
                await deaf.wait_ready(0.05)
        assert leased[1].message.message_id == "m2"


async def test_news_is_heard_again_after_its_connection_broke(pair: tuple[RedisStore, RedisStore]) -> None:
    one, other = pair
    await one._link.command(0, "CLIENT", "KILL", "TYPE", "pubsub")
    async with asyncio.timeout(LONG_S):
        while (await one._link.command(0, "PUBSUB", "NUMSUB", CHANNEL))[1] < 2:
            await asyncio.sleep(0.05)
    assert await other.lease("worker", now=START, ttl_s=LEASE_TTL_S) is None
    waiting = asyncio.create_task(other.wait_ready(LONG_S))

    await enqueue(one, message("m1"))

    await in_time(waiting)


async def test_nonsense_on_the_channel_does_no_harm(pair: tuple[RedisStore, RedisStore]) -> None:
    one, other = pair
    for news in ("", "[]", "{}", "[1]", '["x","ready",99,1]', '["x","ready","1",1]', '["x","new kind"]'):
        await one._link.command(0, "PUBLISH", CHANNEL, news)
    assert await other.lease("worker", now=START, ttl_s=LEASE_TTL_S) is None
    waiting = asyncio.create_task(other.wait_ready(LONG_S))

    await enqueue(one, message("m1"))

    await in_time(waiting)


async def test_queue_has_one_limit_for_all_processes(shared_redis: RedisServer) -> None:
    await shared_redis.run("FLUSHALL")
    options, limits = RedisOptions(command_s=PATIENT_S, look_s=0), StoreLimits(queue_messages=10)
    async with (
        opened(shared_redis.url, options, limits=limits) as one,
        opened(shared_redis.url, options, limits=limits) as other,
    ):
        outcomes = [
            (
                await store.accept(queued(message(f"m{n}", chat=f"chat{n}")), now=START, dedupe_ttl_s=DEDUPE_TTL_S)
            ).outcome
            for n, store in enumerate((one, other) * 8)
        ]
    assert outcomes == [AcceptOutcome.ACCEPTED] * 10 + [AcceptOutcome.FULL] * 6


async def test_of_deliveries_to_two_processes_exactly_one_is_accepted(pair: tuple[RedisStore, RedisStore]) -> None:
    item = queued(message("m1"))
    receipts = await asyncio.gather(
        *(store.accept(item, now=START, dedupe_ttl_s=DEDUPE_TTL_S) for store in pair for _ in range(10))
    )

    assert sorted(receipt.delivery for receipt in receipts) == list(range(1, 21))
    assert [receipt.outcome for receipt in receipts].count(AcceptOutcome.ACCEPTED) == 1


async def test_two_processes_drain_the_queue_exactly_once_and_in_order(pair: tuple[RedisStore, RedisStore]) -> None:
    done: list[str] = []
    finished = asyncio.Event()

    async def work(store: RedisStore, owner: str) -> None:
        while not finished.is_set():
            leased = await store.lease(owner, now=START, ttl_s=LEASE_TTL_S)
            if leased is None:
                await store.wait_ready(LONG_S)
                continue
            lease, item = leased
            while item is not None:
                done.append(item.message.message_id)
                item = await store.complete(lease, item, now=START)  # type: ignore[assignment]  # Ends the loop.
            if len(done) == 100:
                finished.set()

    workers = [asyncio.create_task(work(store, f"worker{n}")) for n, store in enumerate(pair * 2)]
    for n in range(100):
        await enqueue(pair[n % 2], message(f"m{n}", chat=f"chat{n % 7}"))
    async with asyncio.timeout(LONG_S):
        await finished.wait()

    assert sorted(done) == sorted(f"m{n}" for n in range(100))
    for chat in range(7):
        of_chat = [int(one[1:]) for one in done if int(one[1:]) % 7 == chat]
        assert of_chat == sorted(of_chat)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
