"""A process killed in the middle of its work: what it acknowledged is there, and nothing is there in halves."""

import signal
import subprocess
import sys
from pathlib import Path

from parley_gateway.store.base import AcceptOutcome, StoreLimits
from parley_gateway.store.sqlite import SqliteStore

from tests.gateway.store.building import LEASE_TTL_S, START, message, queued

ACCEPTED_BEFORE_KILL = 400
LIMITS = StoreLimits(queue_messages=1_000_000, lane_messages=1_000_000)

# Accepts as fast as it can on many tasks, answers with others, and says on standard output what it acknowledged.
CHILD = """
import asyncio, sys
from pathlib import Path
from parley_gateway.messages import Turn
from parley_gateway.store.sqlite import SqliteStore
from tests.gateway.store.building import DEDUPE_TTL_S, START, message, queued
from tests.gateway.store.sqlite.test_crash import LIMITS

async def accept(store: SqliteStore, task: int) -> None:
    n = task
    while True:
        await store.accept(queued(message(f"m{n}", chat=f"chat{n % 20}")), now=START, dedupe_ttl_s=DEDUPE_TTL_S)
        print("accepted", n, flush=True)
        n += 16

async def answer(store: SqliteStore) -> None:
    while True:
        leased = await store.lease("child", now=START, ttl_s=3600)
        if leased is None:
            await store.wait_ready(1)
            continue
        lease, item = leased
        while item is not None:
            asked = item.message.message_id
            item = await store.complete(lease, item, now=START, turn=Turn(asked, "answer", START))
            print("answered", asked[1:], flush=True)

async def main() -> None:
    store = SqliteStore(Path(sys.argv[1]), LIMITS)
    await store.open()
    await asyncio.gather(*(accept(store, task) for task in range(16)), *(answer(store) for _ in range(2)))

asyncio.run(main())
"""


def run_and_kill(path: Path) -> dict[str, set[int]]:
    """Kill a child in the middle of its work; return what it had acknowledged by then."""
    said: dict[str, set[int]] = {"accepted": set(), "answered": set()}
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):  # The kill may cut the last line.
                word, number = line.split()
                said[word].add(int(number))
            if len(said["accepted"]) == ACCEPTED_BEFORE_KILL:
                child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    return said


async def test_acknowledged_messages_survive_kill_minus_nine(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    said = run_and_kill(path)
    assert len(said["accepted"]) >= ACCEPTED_BEFORE_KILL
    assert said["answered"]

    store = SqliteStore(path, LIMITS)
    await store.open()
    for n in sorted(said["accepted"]):
        receipt = await store.accept(queued(message(f"m{n}", chat=f"chat{n % 20}")), now=START, dedupe_ttl_s=1)
        assert receipt.outcome is AcceptOutcome.DUPLICATE, f"m{n} was acknowledged and is gone"

    # Every message is in exactly one place: still in its lane, or answered with its turn in the history.
    waiting: dict[str, list[int]] = {}
    while leased := await store.lease("after", now=START, ttl_s=LEASE_TTL_S):
        lease, item = leased
        while item is not None:
            waiting.setdefault(lease.lane, []).append(int(item.message.message_id[1:]))
            item = await store.complete(lease, item, now=START)  # type: ignore[assignment]  # Ends the loop.
    answered = {
        int(turn.question[1:])
        for chat in range(20)
        for turn in await store.history(message(chat=f"chat{chat}").conversation.key, now=START)
    }
    left = {n for numbers in waiting.values() for n in numbers}
    assert said["answered"] <= answered
    assert not left & answered
    assert said["accepted"] <= left | answered
    await store.close()


async def test_killed_store_opens_in_order(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    run_and_kill(path)

    store = SqliteStore(path, LIMITS)
    await store.open()

    stats = await store.stats(now=START)
    counted = 0
    while leased := await store.lease("after", now=START, ttl_s=LEASE_TTL_S):
        lease, item = leased
        numbers = []
        while item is not None:
            numbers.append(int(item.message.message_id[1:]))
            item = await store.complete(lease, item, now=START)  # type: ignore[assignment]  # Ends the loop.
        counted += len(numbers)
    assert counted == stats.depth
    assert (await store.stats(now=START)).depth == 0
    await store.close()
