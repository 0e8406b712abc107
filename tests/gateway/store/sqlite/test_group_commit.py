"""The writer thread: calls share commits, and what happens to one call is no other call's business."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parley_gateway.errors import LeaseLostError, StoreUnavailableError
from parley_gateway.store.base import AcceptOutcome
from parley_gateway.store.sqlite import SqliteStore
from parley_gateway.store.sqlite.writer import Writer, WriterOptions

from tests.gateway.store.building import DEDUPE_TTL_S, START, enqueue, enqueue_many, message, queued, take


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    writer = Writer(tmp_path / "parley.db", WriterOptions(batch=16, waiting=32))
    await writer.start()
    yield writer
    await writer.stop()


def note(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT INTO cache VALUES (?, '', 0)", (name,))


def notes(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM cache ORDER BY name")]


async def test_concurrent_accepts_share_commits(store: SqliteStore) -> None:
    before = store.commits

    await enqueue_many(store, 640, chats=50)

    assert (await store.stats(now=START)).depth == 640
    # One lonely first call, then as many as queue up, up to 256 at a time.
    assert store.commits - before <= 640 // 16


async def test_reading_commits_nothing(store: SqliteStore) -> None:
    await enqueue(store, message("m1"))
    before = store.commits

    await store.stats(now=START)
    await store.history("nobody", now=START)
    await store.cache_get("nothing", now=START)
    assert await store.lease("worker", now=START - 1, ttl_s=1) is None
    assert store.commits == before
    await store.ping()
    assert store.commits == before + 1


async def test_every_commit_waits_for_the_disk(writer: Writer) -> None:
    def pragmas(db: sqlite3.Connection) -> tuple[str, int]:
        journal: str = db.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous: int = db.execute("PRAGMA synchronous").fetchone()[0]
        return journal, synchronous

    assert await writer.run(pragmas) == ("wal", 2)


async def test_call_that_fails_takes_no_other_of_its_batch_along(store: SqliteStore) -> None:
    await enqueue(store, message("m1"))
    lost, item = await take(store)
    await store.release(lost)

    results = await asyncio.gather(
        enqueue(store, message("m2")),
        store.update(lost, item),
        store.accept(queued(message("m3")), now=START, dedupe_ttl_s=DEDUPE_TTL_S),
        return_exceptions=True,
    )

    assert isinstance(results[1], LeaseLostError)
    assert (await store.stats(now=START)).depth == 3


async def test_failed_call_leaves_nothing_behind(writer: Writer) -> None:
    def half(db: sqlite3.Connection) -> None:
        note(db, "half")
        raise ZeroDivisionError("a bug")

    results = await asyncio.gather(
        writer.run(lambda db: note(db, "a")),
        writer.run(half),
        writer.run(lambda db: note(db, "b")),
        writer.run(lambda db: db.execute("SELECT * FROM nothing")),
        return_exceptions=True,
    )

    assert isinstance(results[1], ZeroDivisionError)
    assert isinstance(results[3], StoreUnavailableError)
    assert await writer.run(notes) == ["a", "b"]


async def test_batch_that_sqlite_gave_up_is_reported_to_all_its_callers(writer: Writer) -> None:
    def give_up(db: sqlite3.Connection) -> None:
        # What SQLite does by itself on some errors (disk full, I/O): the whole transaction is gone.
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    block = writer.run(lambda db: note(db, "first, alone in its batch"))
    results = await asyncio.gather(
        block,
        writer.run(lambda db: note(db, "a")),
        writer.run(give_up),
        writer.run(lambda db: note(db, "b")),
        return_exceptions=True,
    )

    failed = [result for result in results if result is not None]
    assert failed
    assert all(isinstance(error, StoreUnavailableError) for error in failed)
    stored = await writer.run(notes)
    assert len(stored) == len(results) - len(failed)
    assert "disk I/O error" in str(failed[0])


async def test_cancelled_callers_do_not_disturb_the_others(store: SqliteStore) -> None:
    tasks = [asyncio.create_task(enqueue(store, message(f"m{n}", chat=f"chat{n}"))) for n in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [result for result in results[1::2] if result is not None] == []
    for n in range(1, 100, 2):
        receipt = await store.accept(queued(message(f"m{n}", chat=f"chat{n}")), now=START, dedupe_ttl_s=1)
        assert receipt.outcome is AcceptOutcome.DUPLICATE


async def test_calls_beyond_the_bound_are_refused_at_once(writer: Writer) -> None:
    results = await asyncio.gather(
        *(writer.run(lambda db, n=n: note(db, f"{n:02}")) for n in range(40)),  # type: ignore[misc]
        return_exceptions=True,
    )

    assert results[:32] == [None] * 32
    assert all(isinstance(error, StoreUnavailableError) for error in results[32:])
    assert await writer.run(notes) == [f"{n:02}" for n in range(32)]


async def test_closing_finishes_the_writes_in_flight(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    acknowledged: list[int] = []

    async def send(n: int) -> None:
        await enqueue(store, message(f"m{n}", chat=f"chat{n}"))
        acknowledged.append(n)

    tasks = [asyncio.create_task(send(n)) for n in range(300)]
    await asyncio.sleep(0)
    await store.close()
    late = asyncio.create_task(send(300))
    results = await asyncio.gather(*tasks, late, return_exceptions=True)

    assert isinstance(results[-1], StoreUnavailableError)
    assert acknowledged == list(range(300))
    await store.open()
    assert (await store.stats(now=START)).depth == 300
    await store.close()


async def test_closing_gives_leases_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await enqueue(store, message("m1"))
    await take(store)
    waiting = asyncio.create_task(store.wait_ready(30))
    await asyncio.sleep(0)
    await store.close()

    async with asyncio.timeout(10):
        await asyncio.gather(waiting, return_exceptions=True)
    db = sqlite3.connect(tmp_path / "parley.db")
    assert db.execute("SELECT owner FROM lanes").fetchall() == [("",)]
    db.close()
