"""Errors of the disk: the calls concerned fail, nothing is acknowledged that isn't stored, and the store recovers."""

import asyncio
import logging
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.base import AcceptOutcome
from parley_gateway.store.sqlite import SqliteStore
from parley_gateway.store.sqlite.writer import WriterOptions

from tests.gateway.store.building import DEDUPE_TTL_S, START, enqueue, message, queued, take


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "parley.db", options=WriterOptions(busy_timeout_s=0.05))
    await store.open()
    yield store
    await store.close()


@contextmanager
def failing_disk() -> Iterator[None]:
    """Let the operating system refuse to write more than a few bytes to any file of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def accept_all(store: SqliteStore, count: int) -> list[AcceptOutcome | BaseException]:
    async def accept(n: int) -> AcceptOutcome:
        item = queued(message(f"m{n}", chat=f"chat{n}"))
        return (await store.accept(item, now=START, dedupe_ttl_s=DEDUPE_TTL_S)).outcome

    return await asyncio.gather(*(accept(n) for n in range(count)), return_exceptions=True)


async def test_nothing_is_acknowledged_while_the_disk_fails_and_the_store_recovers(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await enqueue(store, message("before"))
    lease, item = await take(store)

    with failing_disk():
        refused = await accept_all(store, 50)
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        with pytest.raises(StoreUnavailableError):
            await store.complete(lease, item, now=START)

    assert all(isinstance(error, StoreUnavailableError) for error in refused), refused
    # The platform delivers again what wasn't acknowledged; a write that failed may have happened all the same.
    assert set(await accept_all(store, 50)) <= {AcceptOutcome.ACCEPTED, AcceptOutcome.DUPLICATE}
    await store.complete(lease, item, now=START)
    assert (await store.stats(now=START)).depth == 50
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("parley_gateway.store")]
    assert len(texts) == 2
    assert "can't be read or written" in texts[0]
    assert "again" in texts[1]


async def test_full_disk_refuses_writes_but_not_reads(store: SqliteStore) -> None:
    await enqueue(store, message("before"))
    pages = await store._writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    # SQLite says SQLITE_FULL beyond this size, exactly as when the disk is full.
    await store._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    outcomes = await accept_all(store, 200)
    refused = [outcome for outcome in outcomes if outcome is not AcceptOutcome.ACCEPTED]
    assert refused
    assert all(isinstance(error, StoreUnavailableError) for error in refused)
    stored = outcomes.count(AcceptOutcome.ACCEPTED)
    assert (await store.stats(now=START)).depth == stored + 1
    # The connection, to which the limit belongs, is still the same one: it can read without making files.
    limit = await store._writer.run(lambda db: db.execute("PRAGMA max_page_count").fetchone()[0])
    assert limit == pages

    await store._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
    assert (await accept_all(store, 200)).count(AcceptOutcome.ACCEPTED) == 200 - stored
    assert (await store.stats(now=START)).depth == 201


async def test_store_that_cannot_be_written_is_not_opened_and_can_be_later(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await enqueue(store, message("m1"))
    await store.close()
    with sqlite3.connect(tmp_path / "parley.db") as db:
        db.execute("UPDATE lanes SET owner = 'dead'")
    db.close()

    with failing_disk(), pytest.raises(StoreUnavailableError):
        await store.open()

    await store.open()
    await take(store)
    await store.close()


async def test_file_locked_by_another_program_is_unavailable_for_that_time(store: SqliteStore, tmp_path: Path) -> None:
    backup = sqlite3.connect(tmp_path / "parley.db", isolation_level=None)
    backup.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailableError, match=r"parley\.db: database is locked"):
        await enqueue(store, message("m1"))
    backup.execute("ROLLBACK")
    backup.close()

    # The connection is the same one: nothing was wrong with it.
    await enqueue(store, message("m1"))


async def test_short_lock_is_waited_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    backup = sqlite3.connect(tmp_path / "parley.db", isolation_level=None)
    backup.execute("BEGIN IMMEDIATE")
    accepting = asyncio.create_task(enqueue(store, message("m1")))
    await asyncio.sleep(0.05)
    assert not accepting.done()

    backup.execute("ROLLBACK")
    backup.close()

    await accepting
    await store.close()


async def test_store_whose_disk_fails_can_still_be_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await enqueue(store, message("m1"))
    await take(store)

    with failing_disk():
        await store.close()

    await store.open()
    await take(store)
    await store.close()


async def test_errors_name_the_file_and_no_content(store: SqliteStore, tmp_path: Path) -> None:
    with failing_disk(), pytest.raises(StoreUnavailableError) as caught:
        await enqueue(store, message("m1"))

    assert str(tmp_path / "parley.db") in str(caught.value)
    assert "text of m1" not in repr(caught.value)
