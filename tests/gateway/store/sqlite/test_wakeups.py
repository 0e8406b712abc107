"""What the store wakes by itself, and what it finds out by looking again."""

import asyncio
import time
from pathlib import Path

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store import wakeups
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.sqlite import SqliteStore, kept
from parley_gateway.store.sqlite import store as store_module

from tests.gateway.store.building import START, Clock, conversation
from tests.gateway.store.building import kept as kept_answer


async def test_answer_that_nobody_announced_is_found_by_looking_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_S", 0.02)
    store = SqliteStore(tmp_path / "parley.db", clock=Clock())
    await store.open()
    waiting = asyncio.create_task(store.wait_answer(conversation().key, "m1", timeout_s=30))
    await store.stats(now=START)

    await store._writer.run(
        lambda db: kept.keep(db, conversation().key, conversation().key, kept_answer(), now=START, limits=StoreLimits())
    )

    async with asyncio.timeout(10):
        assert await waiting == kept_answer()
    await store.close()


async def test_an_earlier_time_replaces_a_later_one_and_not_the_reverse() -> None:
    ready = wakeups.ReadyLanes(Clock(START))
    later = asyncio.create_task(ready.wait(lambda: asyncio.sleep(0, START + 3600), 30))
    await asyncio.sleep(0.01)

    ready.wake_at(START + 0.05)
    ready.wake_at(START + 7200)

    async with asyncio.timeout(10):
        await later
    ready.close()


async def test_nobody_stays_registered() -> None:
    ready, answers = wakeups.ReadyLanes(Clock(START)), wakeups.KeptAnswers()
    await ready.wait(lambda: asyncio.sleep(0, None), 0.01)
    await ready.wait(lambda: asyncio.sleep(0, START - 1), 30)
    with answers.waiting("c", "a") as first, answers.waiting("c", "a"):
        answers.wake("c", "a")
        assert first.is_set()

    assert not ready._waiters
    assert not answers._events


async def test_waiting_goes_on_while_the_store_cannot_be_used() -> None:
    ready = wakeups.ReadyLanes(Clock(START))

    async def fail() -> float | None:
        raise StoreUnavailableError("down")

    began = time.monotonic()
    await ready.wait(fail, 0.05)
    assert time.monotonic() - began >= 0.05

    waiting = asyncio.create_task(ready.wait(fail, 30))
    await asyncio.sleep(0.01)
    ready.wake_one()
    async with asyncio.timeout(10):
        await waiting
