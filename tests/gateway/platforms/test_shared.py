"""Values that all replicas share."""

import asyncio

import pytest
from parley_gateway.errors import PermanentDeliveryError, TransientDeliveryError
from parley_gateway.platforms import shared
from parley_gateway.platforms.shared import LOCK_S, SharedValue

from tests.fakes.gateway_parts import FakeClock
from tests.fakes.memory_cache import MemoryCache


class Maker:
    """Makes numbered values that live for 100 s."""

    def __init__(self) -> None:
        self.made = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> tuple[str, float]:
        await self.gate.wait()
        if self.error:
            raise self.error
        self.made += 1
        return f"value-{self.made}", 100.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def maker() -> Maker:
    return Maker()


def replica(cache: MemoryCache, maker: Maker, clock: FakeClock) -> SharedValue:
    return SharedValue(cache, "key", maker, renew_before_s=20.0, clock=clock)


async def test_value_is_made_once_for_all_replicas(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    replicas = [replica(cache, maker, clock) for _ in range(3)]
    found = await asyncio.gather(*(each.get() for each in replicas * 10))
    assert set(found) == {"value-1"}
    assert not cache.locks


async def test_value_is_renewed_early(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    value = replica(cache, maker, clock)
    await value.get()
    clock.now += 79.9
    assert await value.get() == "value-1"
    clock.now += 0.2
    assert await value.get() == "value-2"


async def test_old_value_serves_while_another_renews(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    value = replica(cache, maker, clock)
    await value.get()
    clock.now += 90
    maker.gate.clear()
    renewing = asyncio.create_task(value.get())
    await asyncio.sleep(0)
    assert await replica(cache, maker, clock).get() == "value-1"
    maker.gate.set()
    assert await renewing == "value-2"


async def test_old_value_serves_when_renewing_fails(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    value = replica(cache, maker, clock)
    await value.get()
    clock.now += 90
    maker.error = TransientDeliveryError("busy")
    assert await value.get() == "value-1"
    clock.now += LOCK_S + 1
    with pytest.raises(TransientDeliveryError):
        await value.get()


async def test_refused_credentials_are_an_error_at_once(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    maker.error = PermanentDeliveryError("wrong secret")
    with pytest.raises(PermanentDeliveryError):
        await replica(cache, maker, clock).get()
    assert not cache.locks


async def test_lock_of_a_dead_replica_ends(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    await cache.try_lock("key", "dead", now=clock.now, ttl_s=LOCK_S)
    waiting = asyncio.create_task(replica(cache, maker, clock).get())
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now += LOCK_S
    assert await waiting == "value-1"


async def test_waiting_ends(
    cache: MemoryCache, maker: Maker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LOCK_S", 0.05)
    await cache.try_lock("key", "slow", now=clock.now, ttl_s=100)
    with pytest.raises(TransientDeliveryError):
        await replica(cache, maker, clock).get()


async def test_only_the_value_complained_about_is_forgotten(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    value = replica(cache, maker, clock)
    await value.get()
    await value.discard("value-0")
    assert await value.get() == "value-1"
    await value.discard("value-1")
    assert await value.get() == "value-2"


async def test_cancelled_maker_gives_the_lock_back(cache: MemoryCache, maker: Maker, clock: FakeClock) -> None:
    maker.gate.clear()
    task = asyncio.create_task(replica(cache, maker, clock).get())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not cache.locks
