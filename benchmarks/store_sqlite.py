"""Measures the SQLite store: durable accepts with group commit, and leasing from a long queue.

Run it with `python benchmarks/store_sqlite.py`; it takes less than 30 seconds and writes a dated file to
`benchmarks/results/`. Each comparison is made in the same run and on the same disk:

- accepts: 64 tasks accept messages, once with group commit and once with one commit for each call. The latter is what a
  connection in a thread of its own gives without grouping (as aiosqlite does), with a single hand-over to the thread.
- leases: lease and complete with 100 and with 100,000 queued messages. Without a full scan they cost about the same.
"""

import asyncio
import datetime
import os
import platform
import shutil
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from parley_gateway.messages import Conversation, InboundMessage, MessageKind
from parley_gateway.store.base import AcceptOutcome, StoreLimits
from parley_gateway.store.records import QueuedMessage
from parley_gateway.store.sqlite import SqliteStore
from parley_gateway.store.sqlite.writer import WriterOptions

CONCURRENCY = 64
ROUNDS = 3
LIMITS = StoreLimits(queue_messages=1_000_000, lane_messages=1_000)
TEXT = "What does this function do, and how would you write a test for it? " * 3


def item(number: int, chats: int) -> QueuedMessage:
    """Return a question of ordinary size."""
    message = InboundMessage(
        conversation=Conversation("wechat", "support", "", f"user{number % chats}"),
        message_id=f"message{number}",
        sender=f"user{number % chats}",
        kind=MessageKind.QUESTION,
        text=TEXT,
        sent_at=time.time(),
        time_to_live_s=1800,
        target={"reply": "push"},
    )
    return QueuedMessage(message, received_at=time.time())


async def accept(store: SqliteStore, numbers: range, chats: int, concurrency: int) -> float:
    """Accept messages on many tasks at once; return messages a second."""

    async def work(task: int) -> None:
        for number in numbers[task::concurrency]:
            receipt = await store.accept(item(number, chats), now=time.time(), dedupe_ttl_s=3600)
            assert receipt.outcome is AcceptOutcome.ACCEPTED

    began = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(concurrency)))
    return len(numbers) / (time.perf_counter() - began)


async def accepts_per_second(folder: Path, count: int, batch: int) -> tuple[float, float]:
    """Return accepts a second and calls per commit."""
    path = folder / f"accepts-{batch}-{time.monotonic_ns()}.db"
    store = SqliteStore(path, LIMITS, options=WriterOptions(batch=batch))
    await store.open()
    before = store.commits
    rate = await accept(store, range(count), 1000, CONCURRENCY)
    commits = store.commits - before
    await store.close()
    return rate, count / commits


async def lease_costs(store: SqliteStore, count: int) -> list[float]:
    """Lease and complete one message after the other; return the milliseconds of each lease."""
    costs = []
    for _ in range(count):
        began = time.perf_counter()
        leased = await store.lease("benchmark", now=time.time(), ttl_s=60)
        costs.append((time.perf_counter() - began) * 1000)
        assert leased is not None
        lease, taken = leased
        await store.complete(lease, taken, now=time.time())
        await store.release(lease)
    return costs


async def measure() -> list[str]:
    """Run everything; return the lines of the report."""
    folder = Path(tempfile.mkdtemp(prefix="parley-bench-", dir="."))
    try:
        grouped, single = [], []
        for _ in range(ROUNDS):
            grouped.append(await accepts_per_second(folder, 8_000, WriterOptions().batch))
            single.append(await accepts_per_second(folder, 1_500, 1))
        rate, per_commit = (statistics.median(column) for column in zip(*grouped, strict=True))
        rate_single = statistics.median(rate for rate, _ in single)
        lines = [
            f"| durable accepts/s, {CONCURRENCY} at a time, group commit | {rate:,.0f} ({per_commit:.0f} per commit) |",
            f"| durable accepts/s, {CONCURRENCY} at a time, one commit each | {rate_single:,.0f} |",
            f"| ratio | {rate / rate_single:.1f} |",
        ]

        store = SqliteStore(folder / "leases.db", LIMITS)
        await store.open()
        await accept(store, range(100), 10, CONCURRENCY)
        few = await lease_costs(store, 50)
        filled = await accept(store, range(1_000, 101_000), 10_000, 1_000)
        # Let the system write what it still holds back from filling: it would be counted as the leases' cost.
        await asyncio.to_thread(os.sync)
        many = await lease_costs(store, 300)
        depth = (await store.stats(now=time.time())).depth
        await store.close()
        return [
            *lines,
            f"| accepts/s, 1,000 at a time, while filling the queue | {filled:,.0f} |",
            f"| lease, 100 messages in 10 lanes, median ms | {statistics.median(few):.2f} |",
            f"| lease, {depth:,} messages in 10,000 lanes, median ms | {statistics.median(many):.2f} |",
        ]
    finally:
        shutil.rmtree(folder)


def report(lines: list[str], seconds: float) -> str:
    """Return the report with what one must know about the machine."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return "\n".join(
        [
            f"# SQLite store, {today}",
            "",
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, "
            f"WAL, synchronous=FULL; median of {ROUNDS} rounds; {seconds:.0f} s in all. "
            "Each lease is durable: its time includes one wait for the disk.",
            "",
            "| what | result |",
            "|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Measure, print and save."""
    began = time.perf_counter()
    lines = asyncio.run(measure())
    text = report(lines, time.perf_counter() - began)
    print(text)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    target = Path(__file__).parent / "results" / f"{today}-store-sqlite.md"
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
