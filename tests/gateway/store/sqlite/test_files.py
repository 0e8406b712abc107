"""The store's files: who may read them, who may open them, and what is said about one that can't be used."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from parley_gateway.errors import StoreLockedError, StoreUnavailableError
from parley_gateway.store.sqlite import SqliteStore

from tests.gateway.store.building import START, enqueue, message

HOLDER = """
import asyncio, sys
from pathlib import Path
from parley_gateway.store.sqlite import SqliteStore

async def main() -> None:
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "parley.db"
    mask = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await enqueue(store, message("m1"))
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["parley.db", "parley.db-shm", "parley.db-wal", "parley.db.lock"]
        assert {mode(file) for file in files} == {0o600}
        assert mode(path.parent) == 0o700
        await store.close()
    finally:
        os.umask(mask)


async def test_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    path.touch(mode=0o644)

    store = SqliteStore(path)
    await store.open()

    assert mode(path) == 0o600
    await store.close()


async def test_second_store_on_the_file_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    first, second = SqliteStore(path), SqliteStore(path)
    await first.open()

    with pytest.raises(StoreLockedError, match=f"process {os.getpid()}"):
        await second.open()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await second.ping()
    await first.ping()

    await first.close()
    await second.open()
    await second.ping()
    await second.close()


async def test_other_process_holds_the_file_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        store = SqliteStore(path)
        with pytest.raises(StoreLockedError, match=f"process {holder.pid}"):
            await store.open()
        holder.send_signal(signal.SIGKILL)

    await store.open()
    await store.ping()
    await store.close()


async def test_opening_twice_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    with pytest.raises(StoreUnavailableError, match="open already"):
        await store.open()
    await store.close()


async def test_closed_store_refuses_calls_and_closing_twice_is_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await store.close()

    with pytest.raises(StoreUnavailableError, match="closed"):
        await enqueue(store, message("m1"))
    await store.close()


async def test_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    path.write_text("somebody's notes, long enough to be taken for a page of something" * 20)
    store = SqliteStore(path)

    with pytest.raises(StoreUnavailableError, match=r"parley\.db: file is not a database"):
        await store.open()

    assert path.read_text().startswith("somebody's notes")
    # The failed try holds nothing back.
    path.unlink()
    await store.open()
    await store.close()


async def test_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(StoreUnavailableError, match="schema 99"):
        await store.open()


async def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "parley.db")

    with pytest.raises(StoreUnavailableError, match=r"file/parley\.db"):
        await store.open()


async def test_leases_of_a_process_that_died_are_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    store = SqliteStore(path)
    await store.open()
    await enqueue(store, message("m1"))
    leased = await store.lease("dead", now=START, ttl_s=3600)
    await store.close()
    # As a killed process leaves it: the lease is still written down.
    with sqlite3.connect(path) as db:
        db.execute("UPDATE lanes SET owner = 'dead', lease_until = ?", (START + 3600,))
    db.close()

    await store.open()
    again = await store.lease("alive", now=START, ttl_s=3600)

    assert leased is not None
    assert again is not None
    assert again[0].generation == leased[0].generation + 1
    await store.close()
