"""Everything has a time to live: after it, nothing of a conversation is left in any table."""

import sqlite3
from pathlib import Path

from parley_gateway.messages import MessageKind, Turn
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.records import DeadLetter
from parley_gateway.store.sqlite import SqliteStore, cleaning

from tests.gateway.store.building import START, conversation, enqueue, enqueue_many, kept, message, queued, take

CHAT = conversation().key


def rows(db: sqlite3.Connection) -> dict[str, int]:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    return {name: count for name, count in counts.items() if name not in ("partitions", "sqlite_sequence")}


async def test_nothing_is_left_after_its_time(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await enqueue(store, message("m1"), message("n1", kind=MessageKind.NOTICE))
    lease, item = await take(store)
    dead = DeadLetter("ref", queued(message("m1")), "failed", START)
    await store.complete(lease, item, now=START, turn=Turn("q", "a", START), kept=kept("m1"), dead=dead)
    await store.claim_part(CHAT, request_key="r1", answer_id=None, now=START)
    await store.request_stop(CHAT, CHAT, at=START)
    await store.cache_put("token", "secret", expires_at=START + 1)
    await store.try_lock("l", "o", now=START, ttl_s=1)
    await store.put_blob(b"data", mime="a/b", now=START)
    await store.count("used", 5, now=START, expires_at=START + 60)
    await store.add_trail(CHAT, "ref", "{}", now=START, ttl_s=60)
    assert 0 not in (await store._writer.run(rows)).values(), "every table is used"
    # The notice nobody answered expires without another one.
    assert await store.expire(now=START + 600) == 1

    await store.clean(now=START)
    assert 0 not in {**await store._writer.run(rows), "messages": 1}.values(), "nothing goes before its time"
    limits = StoreLimits()
    await store.clean(now=START + 600 + max(limits.history_ttl_s, limits.dead_letter_ttl_s))

    assert set((await store._writer.run(rows)).values()) == {0}
    await store.close()


async def test_cleaning_goes_on_in_small_steps_until_all_is_done(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "parley.db")
    await store.open()
    await enqueue_many(store, 2 * cleaning.BATCH + 1, chats=200)
    before = store.commits

    await store.clean(now=START + 10_000)

    assert (await store._writer.run(rows))["deliveries"] == 0
    assert store.commits - before == 3
    assert (await store.stats(now=START)).depth == 2 * cleaning.BATCH + 1
    await store.close()
