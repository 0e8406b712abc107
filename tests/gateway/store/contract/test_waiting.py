"""Workers that wait for a lane: woken when there may be one, in time, and not all for one message."""

import asyncio
import time
from dataclasses import replace

from parley_gateway.store.base import Store, StoreLimits

from tests.gateway.store.backends import Backend
from tests.gateway.store.building import LEASE_TTL_S, START, Clock, enqueue, message, queued, take

LONG_S = 30.0
"""Far longer than any of these tests takes: whoever waits this long was not woken."""


async def is_woken(waiting: asyncio.Task[None]) -> None:
    async with asyncio.timeout(LONG_S / 3):
        await waiting


async def start_waiting(store: Store) -> asyncio.Task[None]:
    """Return a waiting task that has looked and found nothing ready."""
    task = asyncio.create_task(store.wait_ready(LONG_S))
    await asyncio.sleep(0)
    # Calls are answered in order: once this one is, the waiting one has had its look.
    await store.stats(now=START)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_returns_at_once_when_a_lane_is_ready(store: Store) -> None:
    await enqueue(store, message("m1"))

    async with asyncio.timeout(LONG_S / 3):
        await store.wait_ready(LONG_S)


async def test_returns_after_the_time_when_nothing_happens(store: Store) -> None:
    began = time.monotonic()
    await store.wait_ready(0.05)
    assert time.monotonic() - began >= 0.05


async def test_is_woken_by_a_new_message(store: Store) -> None:
    waiting = await start_waiting(store)
    await enqueue(store, message("m1"))
    await is_woken(waiting)


async def test_is_woken_by_a_released_lane(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, _ = await take(store)
    waiting = await start_waiting(store)
    await store.release(lease)
    await is_woken(waiting)


async def test_is_woken_by_a_draining_owner(store: Store) -> None:
    await enqueue(store, message("m1"))
    await take(store, owner="draining")
    waiting = await start_waiting(store)
    await store.release_owner("draining")
    await is_woken(waiting)


async def test_is_woken_when_a_message_falls_due(backend: Backend) -> None:
    store = backend.create(StoreLimits(), time.time)
    await store.open()
    now = time.time()
    waiting = await start_waiting(store)

    due_at = now + 0.2
    await store.accept(queued(message("m1"), due_at=due_at), now=now, dedupe_ttl_s=60)
    await is_woken(waiting)

    assert time.time() >= due_at - 0.01
    await store.close()


async def test_is_woken_when_a_message_is_put_off(backend: Backend) -> None:
    store = backend.create(StoreLimits(), time.time)
    await store.open()
    now = time.time()
    await enqueue(store, message("m1"), now=now)
    lease, item = await take(store, now=now)
    waiting = await start_waiting(store)

    await store.update(lease, replace(item, due_at=now + 0.2))
    await store.release(lease)
    await is_woken(waiting)

    assert time.time() >= now + 0.19
    await store.close()


async def test_is_woken_when_a_lease_runs_out(backend: Backend) -> None:
    store = backend.create(StoreLimits(), time.time)
    await store.open()
    now = time.time()
    await enqueue(store, message("m1"), now=now)
    await store.lease("dead", now=now, ttl_s=0.2)

    await is_woken(asyncio.create_task(store.wait_ready(LONG_S)))

    assert time.time() >= now + 0.19
    await take(store, now=time.time())
    await store.close()


async def test_each_message_wakes_one_worker_and_none_is_missed(store: Store) -> None:
    waiting = [await start_waiting(store) for _ in range(5)]

    await enqueue(store, message("m1", chat="a"), message("m2", chat="b"))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await store.stats(now=START)

    assert sum(task.done() for task in waiting) == 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_wake_up_of_a_cancelled_worker_goes_to_another(store: Store) -> None:
    first, second = await start_waiting(store), await start_waiting(store)

    # Accepting wakes the first worker; it is cancelled in the same turn of the event loop, before it runs.
    await enqueue(store, message("m1"))
    first.cancel()
    await is_woken(second)

    await asyncio.gather(first, return_exceptions=True)


async def test_workers_drain_the_queue_exactly_once(store: Store, clock: Clock) -> None:
    done: list[str] = []
    finished = asyncio.Event()

    async def work(owner: str) -> None:
        while not finished.is_set():
            leased = await store.lease(owner, now=clock(), ttl_s=LEASE_TTL_S)
            if leased is None:
                await store.wait_ready(LONG_S)
                continue
            lease, item = leased
            while item is not None:
                done.append(item.message.message_id)
                item = await store.complete(lease, item, now=clock())  # type: ignore[assignment]  # Ends the loop.
            if len(done) == 60:
                finished.set()

    workers = [asyncio.create_task(work(f"worker{n}")) for n in range(4)]
    chats = [[message(f"m{n}", chat=f"chat{chat}") for n in range(chat, 60, 7)] for chat in range(7)]
    await asyncio.gather(*(enqueue(store, *messages) for messages in chats))
    async with asyncio.timeout(LONG_S / 3):
        await finished.wait()

    assert sorted(done) == sorted(f"m{n}" for n in range(60))
    for chat in range(7):
        of_chat = [int(one[1:]) for one in done if int(one[1:]) % 7 == chat]
        assert of_chat == sorted(of_chat)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
