"""What the gateway does by the clock."""

import asyncio

from parley_gateway.errors import PermanentDeliveryError, StoreUnavailableError
from parley_gateway.housekeeping import LEVERS_EVERY_S, Housekeeping
from parley_gateway.levers import Levers

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway


async def run_briefly(gateway: Gateway) -> None:
    housekeeping = Housekeeping(gateway.store, gateway.bots, gateway.levers, gateway.metrics, gateway.clock)
    housekeeping.start()
    await asyncio.sleep(0.2)
    await housekeeping.stop()


async def test_queue_is_measured_and_old_messages_expire(gateway: Gateway) -> None:
    await gateway.accept(question())
    gateway.clock.now += 60
    await run_briefly(gateway)
    assert gateway.metric("parley_queue_depth") == 1
    assert gateway.metric("parley_queue_oldest_seconds") == 60
    gateway.clock.now += 1800
    await run_briefly(gateway)
    assert gateway.metric("parley_queue_dead_total", reason="expired") == 1
    await gateway.work()
    assert "could not answer your message in time" in gateway.platform.phone.texts[0]


async def test_credentials_are_tried_and_a_failure_is_told(gateway: Gateway) -> None:
    await run_briefly(gateway)
    assert gateway.metric("parley_gateway_credentials_ok", platform="fake", bot="default") == 1

    async def refused() -> None:
        raise PermanentDeliveryError("the app secret is wrong: set app_secret to the one in the console", "40125")

    gateway.platform.check_credentials = refused  # type: ignore[method-assign]
    await run_briefly(gateway)
    assert gateway.metric("parley_gateway_credentials_ok", platform="fake", bot="default") == 0


async def test_store_that_is_away_for_a_while_stops_nothing(gateway: Gateway) -> None:
    expire = gateway.store.expire
    calls = 0

    async def away(**_keywords: float) -> int:
        nonlocal calls
        calls += 1
        raise StoreUnavailableError("disk full")

    gateway.store.expire = away  # type: ignore[method-assign]
    await run_briefly(gateway)
    assert calls == 1
    gateway.store.expire = expire  # type: ignore[method-assign]


async def test_levers_that_another_replica_pulled_are_seen(gateway: Gateway) -> None:
    await Levers(gateway.store, gateway.clock).pause("fake", "default", notice="", for_s=60)
    assert gateway.levers.paused("fake", "default") is None
    await run_briefly(gateway)
    assert gateway.levers.paused("fake", "default") is not None
    assert LEVERS_EVERY_S <= 2
