"""The dispatcher: lanes in parallel, each in order, leases kept, lost and handed over."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parley_gateway.dispatcher import Dispatcher, Work
from parley_gateway.store.base import Lease, StoreLimits
from parley_gateway.store.records import QueuedMessage
from parley_gateway.store.sqlite.store import SqliteStore

from tests.fakes.gateway_parts import question


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "parley.db", StoreLimits())
    await store.open()
    yield store
    await store.close()


async def accept(store: SqliteStore, chat: str, number: int) -> None:
    message = question(f"{number}", message_id=f"{chat}-{number}", chat=chat, sent_at=time.time())
    await store.accept(QueuedMessage(message, time.time()), now=time.time(), dedupe_ttl_s=60)


def dispatcher(store: SqliteStore, work: Work, *, owner: str = "one", lanes: int = 8, lease_s: float = 5) -> Dispatcher:
    return Dispatcher(store, work, owner=owner, lanes=lanes, lease_s=lease_s, clock=time.time)


async def until(condition: object, limit_s: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_lanes_run_in_parallel_and_each_in_order(store: SqliteStore) -> None:
    seen: dict[str, list[str]] = {}
    running = 0
    most = 0

    async def work(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        seen.setdefault(item.message.conversation.chat, []).append(item.message.text)
        running -= 1
        return await store.complete(lease, item, now=time.time())

    for number in range(5):
        for chat in ("a", "b", "c", "d"):
            await accept(store, chat, number)
    one = dispatcher(store, work, lanes=3)
    one.start()
    await until(lambda: sum(map(len, seen.values())) == 20)
    await one.stop(1)
    assert all(texts == ["0", "1", "2", "3", "4"] for texts in seen.values())
    assert most == 3


async def test_long_work_keeps_its_lease(store: SqliteStore) -> None:
    starts: list[str] = []

    async def work(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        starts.append(item.key)
        await asyncio.sleep(1.2)
        return await store.complete(lease, item, now=time.time())

    await accept(store, "a", 1)
    one, two = dispatcher(store, work, lease_s=0.4), dispatcher(store, work, owner="two", lease_s=0.4)
    one.start()
    two.start()
    await until(lambda: bool(starts))
    await asyncio.sleep(1.4)
    await asyncio.gather(one.stop(1), two.stop(1))
    assert len(starts) == 1
    assert (await store.stats(now=time.time())).depth == 0


async def test_stopping_hands_the_lane_over_at_once(store: SqliteStore) -> None:
    started = asyncio.Event()
    taken: list[float] = []

    async def slow(_lease: Lease, _item: QueuedMessage) -> QueuedMessage | None:
        started.set()
        await asyncio.Event().wait()
        return None

    async def quick(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        taken.append(time.monotonic())
        return await store.complete(lease, item, now=time.time())

    await accept(store, "a", 1)
    one = dispatcher(store, slow, lease_s=60)
    one.start()
    await started.wait()
    two = dispatcher(store, quick, owner="two", lease_s=60)
    two.start()
    await one.stop(0.05)
    await until(lambda: bool(taken), 5)
    await two.stop(1)


async def test_bug_in_one_lane_leaves_the_others_going(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def work(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        if item.message.conversation.chat == "bad":
            raise ZeroDivisionError("a bug")
        done.append(item.key)
        return await store.complete(lease, item, now=time.time())

    await accept(store, "bad", 1)
    await accept(store, "good", 1)
    one = dispatcher(store, work)
    one.start()
    await until(lambda: len(done) == 1)
    await one.stop(2)
    assert (await store.stats(now=time.time())).depth == 1


async def test_draining_takes_no_new_lane(store: SqliteStore) -> None:
    done: list[str] = []

    async def work(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
        done.append(item.key)
        return await store.complete(lease, item, now=time.time())

    one = dispatcher(store, work)
    one.start()
    await one.stop_claiming()
    await accept(store, "a", 1)
    await asyncio.sleep(0.2)
    assert done == []
    await one.stop(1)


async def test_second_signal_cuts_the_work_at_hand(store: SqliteStore) -> None:
    started = asyncio.Event()

    async def slow(_lease: Lease, _item: QueuedMessage) -> QueuedMessage | None:
        started.set()
        await asyncio.Event().wait()
        return None

    await accept(store, "a", 1)
    one = dispatcher(store, slow, lease_s=60)
    one.start()
    await started.wait()
    stopping = asyncio.create_task(one.stop(60))
    await asyncio.sleep(0.05)
    one.hurry()
    async with asyncio.timeout(5):
        await stopping
    assert (await store.stats(now=time.time())).leased == 0


async def test_draining_goes_no_further_in_a_lane_and_leaves_it_to_others_at_once(store: SqliteStore) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    done: list[tuple[str, str]] = []

    def worker(name: str) -> Work:
        async def work(lease: Lease, item: QueuedMessage) -> QueuedMessage | None:
            started.set()
            if name == "one":
                await go.wait()
            done.append((name, item.message.text))
            return await store.complete(lease, item, now=time.time())

        return work

    for number in range(3):
        await accept(store, "a", number)
    one = dispatcher(store, worker("one"), lease_s=600)
    one.start()
    await started.wait()
    await one.stop_claiming()
    two = dispatcher(store, worker("two"), owner="two", lease_s=600)
    two.start()
    go.set()
    # The first process hasn't stopped yet: it waits for its listeners, perhaps for a minute.
    await until(lambda: len(done) == 3)
    assert done == [("one", "0"), ("two", "1"), ("two", "2")]
    await asyncio.gather(one.stop(1), two.stop(1))


async def test_lane_that_was_leased_while_the_drain_began_goes_back_at_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    leasing, answer = asyncio.Event(), asyncio.Event()
    lease = store.lease

    async def slow_lease(owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
        leased = await lease(owner, now=now, ttl_s=ttl_s)
        if owner == "one" and leased is not None:
            leasing.set()
            await answer.wait()
        return leased

    async def never(_lease: Lease, _item: QueuedMessage) -> QueuedMessage | None:
        raise AssertionError("no work may begin any more")

    monkeypatch.setattr(store, "lease", slow_lease)
    await accept(store, "a", 1)
    one = dispatcher(store, never, lease_s=600)
    one.start()
    await leasing.wait()
    draining = asyncio.create_task(one.stop_claiming())
    await asyncio.sleep(0.05)
    answer.set()
    await draining
    assert await store.lease("two", now=time.time(), ttl_s=600) is not None
    await one.stop(1)
