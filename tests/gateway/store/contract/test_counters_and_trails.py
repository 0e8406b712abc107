"""Totals that begin anew, and the steps of a message's way."""

import asyncio

from parley_gateway.store.base import TRAIL_STEPS, Store

from tests.gateway.store.building import START, conversation
from tests.gateway.store.conftest import MakeStore

CHAT = conversation().key


async def test_total_grows_until_its_end_and_then_begins_anew(store: Store) -> None:
    assert await store.counted("ann", now=START) == 0
    assert await store.count("ann", 5, now=START, expires_at=START + 60) == 5
    # Who counts later doesn't move the end.
    assert await store.count("ann", 7, now=START + 50, expires_at=START + 110) == 12
    assert await store.count("bob", 1, now=START + 50, expires_at=START + 110) == 1

    assert await store.counted("ann", now=START + 59) == 12
    assert await store.counted("ann", now=START + 60) == 0
    assert await store.count("ann", 2, now=START + 60, expires_at=START + 120) == 2
    assert await store.counted("bob", now=START + 60) == 1


async def test_nothing_is_lost_when_many_count_at_once(store: Store, make_store: MakeStore) -> None:
    totals = await asyncio.gather(*(store.count("ann", 3, now=START, expires_at=START + 60) for _ in range(30)))

    assert sorted(totals) == list(range(3, 93, 3))
    reopened = await make_store(instead_of=store)
    assert await reopened.counted("ann", now=START) == 90


async def test_trail_has_its_steps_in_order(store: Store, make_store: MakeStore) -> None:
    assert await store.trail("ref") == []
    for n in range(3):
        await store.add_trail(CHAT, "ref", f'{{"step":{n}}}', now=START + n, ttl_s=60)
    await store.add_trail(conversation("other").key, "other", '{"step":9}', now=START, ttl_s=60)

    reopened = await make_store(instead_of=store)
    assert await reopened.trail("ref") == ['{"step":0}', '{"step":1}', '{"step":2}']


async def test_trail_keeps_its_last_steps(store: Store) -> None:
    for n in range(TRAIL_STEPS + 5):
        await store.add_trail(CHAT, "ref", f"{n}", now=START, ttl_s=60)

    assert await store.trail("ref") == [f"{n}" for n in range(5, TRAIL_STEPS + 5)]


async def test_trail_lives_as_long_as_its_last_step(store: Store) -> None:
    await store.add_trail(CHAT, "ref", "first", now=START, ttl_s=60)
    await store.add_trail(CHAT, "ref", "second", now=START + 50, ttl_s=60)

    await store.clean(now=START + 100)
    assert await store.trail("ref") == ["first", "second"]
    await store.clean(now=START + 111)
    assert await store.trail("ref") == []
