"""Everything has a time to live: after it, nothing is left on the server."""

from collections.abc import AsyncIterator

import pytest
from parley_gateway.messages import MessageKind, Turn
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.records import DeadLetter

from tests.fakes.redis_server import RedisServer
from tests.gateway.store.aging import AgingRedisStore
from tests.gateway.store.backends import RedisBackend
from tests.gateway.store.building import START, Clock, conversation, enqueue, enqueue_many, kept, message, queued, take

CHAT = conversation().key
DAY_S = 86400.0


@pytest.fixture
async def store(shared_redis: RedisServer) -> AsyncIterator[AgingRedisStore]:
    store = RedisBackend(shared_redis.url).create(StoreLimits(), Clock())
    await store.open()
    yield store
    await store.close()


async def use_everything(store: AgingRedisStore) -> None:
    await enqueue(store, message("m1"), message("n1", kind=MessageKind.NOTICE), message("m2", chat="other"))
    lease, item = await take(store)
    dead = DeadLetter("ref", queued(message("m1")), "failed", START)
    await store.complete(lease, item, now=START, turn=Turn("q", "a", START), kept=kept("m1"), dead=dead)
    await store.claim_part(CHAT, request_key="r1", answer_id=None, now=START)
    await store.request_stop(CHAT, CHAT, at=START)
    await store.reset_history(CHAT, at=START - 1)
    await store.cache_put("token", "secret", expires_at=START + 60)
    await store.try_lock("l", "o", now=START, ttl_s=60)
    await store.put_blob(b"data", mime="a/b", now=START, lane=CHAT)
    await store.count("used", 5, now=START, expires_at=START + 60)
    await store.add_trail(CHAT, "ref", "{}", now=START, ttl_s=60)
    await store.ping()


async def test_every_key_ends_by_itself(store: AgingRedisStore, shared_redis: RedisServer) -> None:
    await use_everything(store)
    # Cleaning, which every gateway does all the time, also renews the time after which an unused queue ends.
    await store.clean(now=START)

    names = await shared_redis.run("KEYS", "*")
    assert len(names) > 25
    endless = [name for name in names if await shared_redis.run("PTTL", name) < 0]
    assert endless == []
    assert all(name.startswith("parley:gateway:{p") for name in names)


async def test_nothing_is_left_after_its_time(store: AgingRedisStore, shared_redis: RedisServer) -> None:
    await use_everything(store)
    # Nobody answered the two that were left, nor read the notice of the question among them.
    assert await store.expire(now=START + 600) == 2
    assert await store.expire(now=START + 1200) == 1
    for day in range(1, 10):
        await store.clean(now=START + day * DAY_S)

    left = set(await shared_redis.run("KEYS", "*"))
    assert {name.rsplit(":", 1)[1] for name in left} == {"state"}
    await store.clean(now=START + 41 * DAY_S)
    assert await shared_redis.run("KEYS", "*") == []


async def test_turns_that_ended_go_with_the_next_one(store: AgingRedisStore, shared_redis: RedisServer) -> None:
    limits = StoreLimits()
    for n in range(3):
        at = START + n * 0.6 * limits.history_ttl_s
        await enqueue(store, message(f"m{n}", sent_at=at), now=at)
        lease, item = await take(store, now=at)
        await store.complete(lease, item, now=at, turn=Turn(f"q{n}", "a", at))

    (name,) = await shared_redis.run("KEYS", "*:turns:*")
    assert await shared_redis.run("ZCARD", name) == 2


async def test_cleaning_reaches_everything(store: AgingRedisStore) -> None:
    await enqueue_many(store, 1_200, chats=1_200)
    await store.expire(now=START + 600)
    assert (await store.stats(now=START)).dead_letters == 1_200

    await store.clean(now=START + 600 + StoreLimits().dead_letter_ttl_s)

    assert (await store.stats(now=START)).dead_letters == 0
