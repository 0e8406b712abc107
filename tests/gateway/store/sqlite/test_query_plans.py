"""No call looks through a whole table: checked by the plans SQLite makes and by the steps it takes, never by time."""

import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from parley_gateway.messages import Turn
from parley_gateway.store.base import PARTITIONS, StoreLimits
from parley_gateway.store.sqlite import SqliteStore, leases

from tests.gateway.store.building import (
    LEASE_TTL_S,
    START,
    conversation,
    enqueue,
    enqueue_many,
    kept,
    message,
    queued,
    take,
)

CHAT = conversation().key

BIG_TABLES = "lanes|messages|deliveries|turns|marks|kept_answers|kept_requests|cache|locks|counters|trails|blobs"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "parley.db", StoreLimits(queue_messages=100_000))
    await store.open()
    yield store
    await store.close()


async def use_everything(store: SqliteStore) -> None:
    """Call what a running gateway calls for every message, and what it calls every few seconds."""
    await enqueue(store, message("m1"), message("m2"))
    await store.accept(queued(message("m1")), now=START, dedupe_ttl_s=60)
    lease, item = await take(store)
    lease = await store.renew(lease, now=START, ttl_s=LEASE_TTL_S)
    item = replace(item, attempts=1)
    await store.update(lease, item)
    await store.history(CHAT, now=START)
    await store.complete(lease, item, now=START, turn=Turn("q", "a", START), kept=kept("m1"))
    await store.release(lease)
    await store.release_owner("worker")
    await store.wait_ready(0.01)
    await store.wait_answer(CHAT, "m1", timeout_s=0)
    await store.claim_part(CHAT, request_key="r1", answer_id=None, now=START)
    await store.claim_part(CHAT, request_key="r2", answer_id="m1", now=START)
    await store.unread(CHAT, now=START)
    await store.pending(CHAT)
    await store.request_stop(CHAT, CHAT, at=START)
    await store.stop_requested(CHAT, CHAT)
    await store.reset_history(CHAT, at=START)
    await store.cache_put("k", "v", expires_at=START)
    await store.cache_get("k", now=START)
    await store.try_lock("k", "o", now=START, ttl_s=1)
    await store.unlock("k", "o")
    await store.count("k", 1, now=START, expires_at=START + 60)
    await store.counted("k", now=START)
    await store.add_trail(CHAT, "ref", "{}", now=START, ttl_s=60)
    await store.trail("ref")
    await store.erase(CHAT, CHAT, at=START)
    await store.erase(CHAT, None, at=START)
    await store.stats(now=START)
    await store.expire(now=START + 10_000)
    await store.clean(now=START + 10_000_000)


async def test_no_statement_scans_a_big_table(store: SqliteStore) -> None:
    statements: set[str] = set()
    await store._writer.run(lambda db: db.set_trace_callback(statements.add))
    await use_everything(store)
    await store._writer.run(lambda db: db.set_trace_callback(None))

    def scans(db: sqlite3.Connection) -> list[tuple[str, str]]:
        found = []
        for statement in statements:
            if not statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE", "\n")):
                continue
            for *_, detail in db.execute(f"EXPLAIN QUERY PLAN {statement}"):
                # Leased lanes are as few as there are workers.
                if re.match(rf"SCAN ({BIG_TABLES})\b(?!.*INDEX lanes_leased)", detail):
                    found.append((detail, statement))
        return found

    assert len(statements) > 40
    assert await store._writer.run(scans) == []


async def test_leasing_takes_no_more_steps_with_many_messages_and_lanes(store: SqliteStore) -> None:
    async def steps_of_lease_and_look() -> int:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        await store._writer.run(lambda db: db.set_progress_handler(count, 1))
        lease, item = await take(store)
        await store._writer.run(leases.next_ready_at)
        await store.complete(lease, item, now=START)
        await store._writer.run(lambda db: db.set_progress_handler(None, 0))
        return steps

    await enqueue_many(store, 20, chats=10, prefix="few")
    few = await steps_of_lease_and_look()
    await enqueue_many(store, 4000, chats=2000, prefix="many")
    many = await steps_of_lease_and_look()

    assert many < 1.5 * few


async def test_every_partition_has_its_row(store: SqliteStore) -> None:
    rows = await store._writer.run(lambda db: db.execute("SELECT partition FROM partitions").fetchall())

    assert [partition for (partition,) in rows] == list(range(PARTITIONS))
