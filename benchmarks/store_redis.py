"""Measures the gateway's store on Redis: accepts a second, and what a lease costs with few and with many messages.

Needs `redis-server`; starts its own on a free port, with its append-only file on this disk. It writes a
dated result into `benchmarks/results`.

- accepts: many tasks offer messages at once, each accept acknowledged by the server.
- leases: lease and complete with 100 and with 100,000 queued messages over 10,000 conversations. A lease asks one
  partition and looks at a fixed number of sorted sets, so that both cost about the same. The server's own time for a
  script is counted too, since the client's is mostly the way there and back.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parley_common.redis_address import parse_store
from parley_gateway.messages import Conversation, InboundMessage, MessageKind
from parley_gateway.store.base import AcceptOutcome, StoreLimits
from parley_gateway.store.records import QueuedMessage
from parley_gateway.store.redis import RedisStore

from benchmarks.measuring.results import table, write
from tests.fakes.redis_server import RedisServer, run_redis

CONCURRENCY = 64
LIMITS = StoreLimits(queue_messages=1_000_000, lane_messages=1_000)
FEW = (100, 10)
MANY = (100_000, 10_000)
"""Messages, conversations."""
TEXT = "What does this function do, and how would you write a test for it? " * 3


def item(number: int, chats: int) -> QueuedMessage:
    """Return a question of ordinary size."""
    now, user = time.time(), f"user{number % chats}"
    message = InboundMessage(
        conversation=Conversation("wechat", "support", "", user),
        message_id=f"message{number}",
        sender=user,
        kind=MessageKind.QUESTION,
        text=TEXT,
        sent_at=now,
        time_to_live_s=1800,
        target={"reply": "push"},
    )
    return QueuedMessage(message, received_at=now)


async def accept(store: RedisStore, numbers: range, chats: int) -> float:
    """Accept messages on many tasks at once; return messages a second."""

    async def work(task: int) -> None:
        for number in numbers[task::CONCURRENCY]:
            receipt = await store.accept(item(number, chats), now=time.time(), dedupe_ttl_s=3600)
            assert receipt.outcome is AcceptOutcome.ACCEPTED

    began = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(CONCURRENCY)))
    return len(numbers) / (time.perf_counter() - began)


async def scripts_run(server: RedisServer) -> tuple[int, float]:
    """Return how many scripts the server has run, and in how many microseconds."""
    found: dict[str, Any] = await server.run("INFO", "commandstats")
    rows = [found[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in found]
    return sum(row["calls"] for row in rows), sum(row["usec"] for row in rows)


async def lease_costs(store: RedisStore, server: RedisServer, count: int) -> dict[str, Any]:
    """Lease and complete one message after the other; return what one lease and one completion cost."""
    leases, completions = [], []
    await store.lease("warm-up", now=time.time() - 1e6, ttl_s=60)
    calls_before, usec_before = await scripts_run(server)
    for _ in range(count):
        began = time.perf_counter()
        leased = await store.lease("benchmark", now=time.time(), ttl_s=60)
        leases.append((time.perf_counter() - began) * 1000)
        assert leased is not None
        lease, taken = leased
        began = time.perf_counter()
        await store.complete(lease, taken, now=time.time())
        completions.append((time.perf_counter() - began) * 1000)
        await store.release(lease)
    calls, usec = await scripts_run(server)
    return {
        "lease, median ms": statistics.median(leases),
        "complete, median ms": statistics.median(completions),
        "scripts for each": (calls - calls_before) / count,
        "server's microseconds for each": (usec - usec_before) / count,
    }


async def measure() -> list[dict[str, Any]]:
    """Run everything; return the rows of the report."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="parley-bench-", dir=".") as folder:
        for messages, chats in (FEW, MANY):
            async with run_redis(Path(folder).resolve() / f"redis{messages}", "appendonly yes") as server:
                store = RedisStore(parse_store(server.url), LIMITS)
                await store.open()
                rate = await accept(store, range(messages), chats)
                costs = await lease_costs(store, server, 400 if messages > 400 else 50)
                memory = (await server.run("INFO", "memory"))["used_memory"]
                await store.close()
            rows.append(
                {
                    "messages": messages,
                    "conversations": chats,
                    "accepts/s": rate,
                    **costs,
                    "server's bytes a message": memory / messages if messages > 1000 else None,
                }
            )
    return rows


def main() -> None:
    """Measure, print and save."""
    rows = asyncio.run(measure())
    text = (
        f"redis-server on the same machine, appendonly yes, appendfsync everysec; {CONCURRENCY} accepts at a time from "
        "one Python process, which is the limit here.\n\n" + table(rows)
    )
    print(text)
    write("store-redis", "The gateway's store on Redis", {"rows": rows}, text)


if __name__ == "__main__":
    main()
