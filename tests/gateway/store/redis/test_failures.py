"""A Redis that hangs, dies, forgets its scripts or loses an answer: nothing acknowledged is lost or doubled."""

import asyncio
import logging
import time

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.messages import Turn
from parley_gateway.store.base import AcceptOutcome
from parley_gateway.store.redis import RedisStore
from parley_gateway.store.redis.store import RedisOptions

from tests.fakes.cutting_proxy import run_cutting_proxy
from tests.fakes.redis_server import RedisServer
from tests.gateway.store.building import DEDUPE_TTL_S, LEASE_TTL_S, START, conversation, enqueue, message, queued, take
from tests.gateway.store.redis.conftest import opened

CHAT = conversation().key
QUICK = RedisOptions(command_s=0.3)
LONG_S = 20.0


async def offer(store: RedisStore, n: int) -> AcceptOutcome:
    item = queued(message(f"m{n}", chat=f"chat{n % 20}"))
    return (await store.accept(item, now=START, dedupe_ttl_s=DEDUPE_TTL_S)).outcome


async def until_usable(store: RedisStore) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await store.ping()
            except StoreUnavailableError:
                await asyncio.sleep(0.05)


async def test_hanging_server_is_given_up_in_time_and_used_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parley_gateway.store")
    async with opened(server.url, QUICK) as store:
        await enqueue(store, message("before"))
        lease, item = await take(store)
        server.pause()
        began = time.monotonic()
        refused = await asyncio.gather(*(offer(store, n) for n in range(100)), return_exceptions=True)
        with pytest.raises(StoreUnavailableError, match="no answer in time"):
            await store.complete(lease, item, now=START)
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        assert time.monotonic() - began < 10 * 3 * QUICK.command_s
        assert all(isinstance(each, StoreUnavailableError) for each in refused), refused

        server.resume()
        await until_usable(store)
        # What hung was perhaps carried out all the same: the platform's redelivery tells, and nothing is doubled.
        again = [await offer(store, n) for n in range(100)]
        assert set(again) <= {AcceptOutcome.ACCEPTED, AcceptOutcome.DUPLICATE}
        assert (await store.stats(now=START)).depth in (100, 101)
        async with asyncio.timeout(LONG_S):
            while "again" not in caplog.text:
                await asyncio.sleep(0.05)
                await store.ping()
    texts = [record.getMessage() for record in caplog.records]
    assert [text for text in texts if "used" in text] == [
        "the store can't be used: no answer in time",
        "the store can be used again",
    ]


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server: RedisServer) -> None:
    async with opened(server.url, QUICK) as store:
        acknowledged: set[int] = set()
        answered: set[str] = set()

        async def accept(task: int) -> None:
            for n in range(task, 10_000, 16):
                if await offer(store, n) is AcceptOutcome.ACCEPTED:
                    acknowledged.add(n)

        async def answer() -> None:
            while True:
                leased = await store.lease("worker", now=START, ttl_s=LEASE_TTL_S)
                if leased is None:
                    await store.wait_ready(1)
                    continue
                lease, item = leased
                asked = item.message.message_id
                await store.complete(lease, item, now=START, turn=Turn(asked, "a", START))
                answered.add(asked)
                await store.release(lease)

        tasks = [asyncio.create_task(work) for work in (*(accept(n) for n in range(16)), answer(), answer())]
        async with asyncio.timeout(LONG_S):
            while len(acknowledged) < 400 or len(answered) < 50:
                await asyncio.sleep(0.005)
        await server.kill()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, StoreUnavailableError) for each in ended), ended

        await server.start()
        await until_usable(store)
        assert {await offer(store, n) for n in acknowledged} == {AcceptOutcome.DUPLICATE}
        histories = [await store.history(message(chat=f"chat{n}").conversation.key, now=START) for n in range(20)]
        remembered = [turn.question for turns in histories for turn in turns]
        assert answered <= set(remembered)
        assert len(remembered) == len(set(remembered))
        waiting = (await store.stats(now=START)).depth
        assert waiting + len(remembered) >= len(acknowledged), "each is in the queue or answered"


async def test_scripts_that_the_server_forgot_are_handed_over_again(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await server.run("SCRIPT", "FLUSH")
        await enqueue(store, message("m1"))
        await server.run("SCRIPT", "FLUSH")
        lease, item = await take(store)
        await server.run("SCRIPT", "FLUSH")
        await store.complete(lease, item, now=START, turn=Turn("q", "a", START))
        await server.run("SCRIPT", "FLUSH")
        assert (await store.stats(now=START)).depth == 0
        assert len(await store.history(CHAT, now=START)) == 1


async def test_accept_whose_answer_was_lost_is_not_acknowledged_and_not_doubled(server: RedisServer) -> None:
    async with run_cutting_proxy(server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as store:
        await enqueue(store, message("m0"))
        proxy.lose_answer_to(b"text of m1")
        with pytest.raises(StoreUnavailableError):
            await enqueue(store, message("m1"))

        assert proxy.lost == 1
        receipt = await store.accept(queued(message("m1")), now=START + 5, dedupe_ttl_s=DEDUPE_TTL_S)
        assert (receipt.outcome, receipt.delivery, receipt.first_seen) == (AcceptOutcome.DUPLICATE, 2, START)
        assert (await store.stats(now=START)).depth == 2


async def test_end_of_a_message_whose_answer_was_lost_happened_once(server: RedisServer) -> None:
    async with run_cutting_proxy(server.port) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as store:
        await enqueue(store, message("m0"), message("m1"), message("m2"))
        lease, first = await take(store)
        item = await store.complete(lease, first, now=START)
        assert item is not None
        proxy.lose_answer_to(b"the answer to m1")
        with pytest.raises(StoreUnavailableError):
            await store.complete(lease, item, now=START, turn=Turn("q", "the answer to m1", START))

        assert [turn.answer for turn in await store.history(CHAT, now=START)] == ["the answer to m1"]
        # Nobody knows that the lane went on to m2 under the old lease: it ends, and m2 is worked on.
        assert await store.lease("other", now=START, ttl_s=LEASE_TTL_S) is None
        _, following = await take(store, owner="other", now=START + LEASE_TTL_S)
        assert following.message.message_id == "m2"


async def test_workers_that_wait_survive_a_restart(server: RedisServer) -> None:
    done: list[str] = []

    async def work(store: RedisStore, owner: str) -> None:
        while True:
            try:
                leased = await store.lease(owner, now=START, ttl_s=LEASE_TTL_S)
            except StoreUnavailableError:
                await asyncio.sleep(0.05)
                continue
            if leased is None:
                await store.wait_ready(LONG_S)
                continue
            lease, item = leased
            await store.complete(lease, item, now=START)
            done.append(item.message.message_id)

    async with opened(server.url, QUICK) as store, opened(server.url, QUICK) as other:
        workers = [asyncio.create_task(work(store, "one")), asyncio.create_task(work(other, "two"))]
        await enqueue(store, message("m1"))
        async with asyncio.timeout(LONG_S):
            while done != ["m1"]:
                await asyncio.sleep(0.01)
        await server.kill()
        await asyncio.sleep(0.2)
        assert not any(worker.done() for worker in workers)
        await server.start()
        await until_usable(store)
        await enqueue(store, message("m2"), message("m3", chat="other"))
        async with asyncio.timeout(LONG_S):
            while len(done) < 3:
                await asyncio.sleep(0.01)
        assert sorted(done) == ["m1", "m2", "m3"]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def test_errors_name_no_password_and_no_content(server: RedisServer) -> None:
    async with opened(server.url) as store:
        client = server.client()
        async with client.pipeline(transaction=False) as both:
            both.execute_command("CONFIG", "SET", "requirepass", "open sesame")
            both.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await both.execute()
        await client.aclose()
        with pytest.raises(StoreUnavailableError, match="Redis: AuthenticationError"):
            await store.ping()
        with pytest.raises(StoreUnavailableError) as caught:
            await enqueue(store, message("m1"))
        assert "sesame" not in str(caught.value)
        assert "text of m1" not in str(caught.value)
