"""Small shared values, and locks with one holder."""

import asyncio

from parley_gateway.store.base import Store

from tests.gateway.store.building import START
from tests.gateway.store.conftest import MakeStore


async def test_value_is_returned_with_its_expiry_until_then(store: Store) -> None:
    assert await store.cache_get("token", now=START) is None
    await store.cache_put("token", "secret", expires_at=START + 10)

    assert await store.cache_get("token", now=START + 9) == ("secret", START + 10)
    assert await store.cache_get("token", now=START + 10) is None
    assert await store.cache_get("other", now=START) is None


async def test_newer_value_replaces_the_older(store: Store) -> None:
    await store.cache_put("token", "old", expires_at=START + 10)
    await store.cache_put("token", "new", expires_at=START + 20)

    assert await store.cache_get("token", now=START + 15) == ("new", START + 20)


async def test_only_the_value_complained_about_is_deleted(store: Store) -> None:
    await store.cache_put("token", "new", expires_at=START + 10)

    await store.cache_delete("token", "old")
    assert await store.cache_get("token", now=START) == ("new", START + 10)
    await store.cache_delete("token", "new")
    assert await store.cache_get("token", now=START) is None


async def test_lock_has_a_single_holder(store: Store) -> None:
    taken = await asyncio.gather(*(store.try_lock("l", f"o{n}", now=START, ttl_s=10) for n in range(20)))
    assert sum(taken) == 1

    holder = f"o{taken.index(True)}"
    assert await store.try_lock("other", "somebody", now=START, ttl_s=10)
    # The holder may keep it for longer.
    assert await store.try_lock("l", holder, now=START + 9, ttl_s=10)
    assert not await store.try_lock("l", "somebody", now=START + 18, ttl_s=10)
    assert await store.try_lock("l", "somebody", now=START + 19, ttl_s=10)


async def test_only_the_holder_gives_a_lock_back(store: Store) -> None:
    await store.try_lock("l", "holder", now=START, ttl_s=10)

    await store.unlock("l", "somebody")
    assert not await store.try_lock("l", "somebody", now=START, ttl_s=10)
    await store.unlock("l", "holder")
    assert await store.try_lock("l", "somebody", now=START, ttl_s=10)


async def test_values_survive_reopening_and_are_cleaned(store: Store, make_store: MakeStore) -> None:
    await store.cache_put("token", "secret", expires_at=START + 10)
    await store.try_lock("l", "holder", now=START, ttl_s=10)

    reopened = await make_store(instead_of=store)
    assert await reopened.cache_get("token", now=START) == ("secret", START + 10)
    assert not await reopened.try_lock("l", "other", now=START, ttl_s=10)

    await reopened.clean(now=START + 10)
    assert await reopened.cache_get("token", now=START) is None
    assert await reopened.try_lock("l", "other", now=START, ttl_s=10)
