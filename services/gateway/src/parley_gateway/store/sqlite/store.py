"""SqliteStore: the store contract over the writer thread. What each method guarantees is said in `store/base.py`."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from parley_gateway.errors import BlobTooLargeError, StoreError
from parley_gateway.messages import Turn
from parley_gateway.store import wakeups
from parley_gateway.store.base import AcceptOutcome, ClaimedPart, Lease, QueueStats, Receipt, Store, StoreLimits
from parley_gateway.store.entries import Entry
from parley_gateway.store.records import DeadLetter, KeptAnswer, QueuedMessage
from parley_gateway.store.sqlite import (
    blobs,
    cache,
    cleaning,
    conversations,
    counters,
    dead_letters,
    erasing,
    expiry,
    kept,
    lanes,
    leases,
    trails,
)
from parley_gateway.store.sqlite.writer import Writer, WriterOptions

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often a request that waits for an answer looks by itself; within this process it is woken at once."""


class SqliteStore(Store):
    """Everything in one SQLite file that one process owns."""

    def __init__(
        self,
        path: Path,
        limits: StoreLimits | None = None,
        clock: Callable[[], float] = time.time,
        options: WriterOptions | None = None,
    ) -> None:
        """Name the file; `open` opens it."""
        self._limits = limits or StoreLimits()
        self._clock = clock
        self._ready = wakeups.ReadyLanes(clock)
        self._answers = wakeups.KeptAnswers()
        self._writer = Writer(path, options)

    @property
    def commits(self) -> int:
        """Count the transactions that changed something since the store was opened."""
        return self._writer.commits

    async def open(self) -> None:
        await self._writer.start()
        try:
            # The lock on the file proves that whoever held these leases is gone.
            await self._writer.run(leases.release_all)
        except StoreError:
            await self._writer.stop()
            raise

    async def close(self) -> None:
        try:
            await self._writer.run(leases.release_all)
        except StoreError as error:
            logger.warning("leases are left to run out: %s", error)
        await self._writer.stop()
        self._ready.close()

    async def ping(self) -> None:
        await self._writer.run(lanes.touch)

    async def clean(self, *, now: float) -> None:
        for step in cleaning.steps(now=now, limits=self._limits):
            while await self._writer.run(step) == cleaning.BATCH:
                pass

    # Inbox

    async def accept(self, item: QueuedMessage, *, now: float, dedupe_ttl_s: float) -> Receipt:
        entry = Entry.of(item)
        receipt = await self._writer.run(
            lambda db: lanes.accept(db, entry, now=now, dedupe_ttl_s=dedupe_ttl_s, limits=self._limits)
        )
        if receipt.outcome is AcceptOutcome.ACCEPTED:
            self._ready.announce(max(now, item.due_at))
        return receipt

    # Lanes

    async def lease(self, owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
        leased = await self._writer.run(lambda db: leases.lease(db, owner, now=now, ttl_s=ttl_s))
        if leased:
            self._ready.wake_at(leased[0].expires_at)
        return leased

    async def renew(self, lease: Lease, *, now: float, ttl_s: float) -> Lease:
        return await self._writer.run(lambda db: leases.renew(db, lease, now=now, ttl_s=ttl_s))

    async def update(self, lease: Lease, item: QueuedMessage) -> None:
        await self._writer.run(lambda db: leases.update(db, lease, item))

    async def complete(
        self,
        lease: Lease,
        item: QueuedMessage,
        *,
        now: float,
        turn: Turn | None = None,
        kept: KeptAnswer | None = None,
        dead: DeadLetter | None = None,
    ) -> QueuedMessage | None:
        outcome = leases.Outcome(turn, kept, dead)
        following, next_ready_at = await self._writer.run(
            lambda db: (
                leases.complete(db, lease, item, outcome, now=now, limits=self._limits),
                leases.next_ready_at(db),
            )
        )
        if kept:
            self._answers.wake(lease.conversation, kept.answer_id)
        self._ready.announce(next_ready_at)
        return following

    async def behind(self, lease: Lease, *, limit: int) -> tuple[QueuedMessage, ...]:
        return await self._writer.run(lambda db: leases.behind(db, lease, limit=limit))

    async def release(self, lease: Lease) -> None:
        released, next_ready_at = await self._writer.run(
            lambda db: (leases.release(db, lease), leases.next_ready_at(db))
        )
        if released:
            self._ready.announce(next_ready_at)

    async def release_owner(self, owner: str) -> int:
        released = await self._writer.run(lambda db: leases.release_owner(db, owner))
        self._ready.wake_all()
        return released

    async def expire(self, *, now: float) -> int:
        total = 0
        while expired := await self._writer.run(lambda db: expiry.expire(db, now=now)):
            self._ready.wake_all()
            total += expired
        return total

    async def expire_older(self, *, now: float, received_before: float, conversations: str = "") -> int:
        total = 0
        while expired := await self._writer.run(
            lambda db: expiry.expire_older(db, now=now, received_before=received_before, conversations=conversations)
        ):
            self._ready.wake_all()
            total += expired
        return total

    async def wait_ready(self, timeout_s: float) -> None:
        await self._ready.wait(lambda: self._writer.run(leases.next_ready_at), timeout_s)

    async def stats(self, *, now: float) -> QueueStats:
        depth, leased, first, dead = await self._writer.run(
            lambda db: (
                lanes.queued(db),
                leases.leased(db, now=now),
                lanes.first_received_at(db),
                dead_letters.count(db),
            )
        )
        return QueueStats(depth, leased, 0.0 if first is None else max(0.0, now - first), dead)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        return await self._writer.run(lambda db: dead_letters.newest(db, limit=limit))

    async def dead_letter(self, reference: str) -> DeadLetter | None:
        return await self._writer.run(lambda db: dead_letters.find(db, reference))

    async def discard(self, reference: str) -> bool:
        return await self._writer.run(lambda db: dead_letters.delete(db, reference))

    async def replay(self, reference: str, *, now: float) -> bool:
        replayed = await self._writer.run(lambda db: expiry.replay(db, reference, now=now))
        if replayed:
            self._ready.wake_one()
        return replayed

    # Conversations

    async def history(self, conversation: str, *, now: float) -> tuple[Turn, ...]:
        return await self._writer.run(lambda db: conversations.history(db, conversation, now=now))

    async def reset_history(self, conversation: str, *, at: float) -> int:
        return await self._writer.run(lambda db: conversations.reset(db, conversation, at=at, limits=self._limits))

    async def forget_turn(self, conversation: str, message_id: str) -> bool:
        return await self._writer.run(lambda db: conversations.forget_turn(db, conversation, message_id))

    async def request_stop(self, conversation: str, lane: str, *, at: float) -> None:
        await self._writer.run(
            lambda db: conversations.request_stop(db, conversation, lane, at=at, limits=self._limits)
        )

    async def stop_requested(self, conversation: str, lane: str) -> float:
        return await self._writer.run(lambda db: conversations.stop_requested(db, conversation, lane))

    # Kept answers

    async def wait_answer(self, conversation: str, answer_id: str, *, timeout_s: float) -> KeptAnswer | None:
        with self._answers.waiting(conversation, answer_id) as kept_now:
            deadline = time.monotonic() + timeout_s
            while True:
                answer = await self._writer.run(lambda db: kept.find(db, conversation, answer_id, now=self._clock()))
                left = deadline - time.monotonic()
                if answer or left <= 0:
                    return answer
                kept_now.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, POLL_S)):
                        await kept_now.wait()

    async def claim_part(
        self, conversation: str, *, request_key: str, answer_id: str | None, now: float
    ) -> ClaimedPart | None:
        return await self._writer.run(
            lambda db: kept.claim_part(db, conversation, request_key=request_key, answer_id=answer_id, now=now)
        )

    async def unread(self, conversation: str, *, now: float) -> int:
        return await self._writer.run(lambda db: kept.unread(db, conversation, now=now))

    async def pending(self, conversation: str) -> tuple[str, ...]:
        return await self._writer.run(lambda db: lanes.pending(db, conversation))

    # Cache

    async def cache_get(self, key: str, *, now: float) -> tuple[str, float] | None:
        return await self._writer.run(lambda db: cache.get(db, key, now=now))

    async def cache_put(self, key: str, value: str, *, expires_at: float) -> None:
        await self._writer.run(lambda db: cache.put(db, key, value, expires_at=expires_at))

    async def cache_delete(self, key: str, value: str) -> None:
        await self._writer.run(lambda db: cache.delete(db, key, value))

    async def try_lock(self, key: str, owner: str, *, now: float, ttl_s: float) -> bool:
        return await self._writer.run(lambda db: cache.try_lock(db, key, owner, now=now, ttl_s=ttl_s))

    async def unlock(self, key: str, owner: str) -> None:
        await self._writer.run(lambda db: cache.unlock(db, key, owner))

    # Blobs

    async def put_blob(self, data: bytes, *, mime: str, now: float, lane: str = "") -> str:
        if len(data) > self._limits.blob_bytes:
            raise BlobTooLargeError(f"{len(data)} bytes are more than the limit of {self._limits.blob_bytes}")
        return await self._writer.run(
            lambda db: blobs.put(db, data, mime=mime, now=now, lane=lane, limits=self._limits)
        )

    async def get_blob(self, ref: str, *, now: float) -> tuple[bytes, str] | None:
        return await self._writer.run(lambda db: blobs.get(db, ref, now=now))

    # Counters, trails, erasing

    async def count(self, key: str, amount: int, *, now: float, expires_at: float) -> int:
        return await self._writer.run(lambda db: counters.count(db, key, amount, now=now, expires_at=expires_at))

    async def counted(self, key: str, *, now: float) -> int:
        return await self._writer.run(lambda db: counters.counted(db, key, now=now))

    async def add_trail(self, conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
        await self._writer.run(lambda db: trails.add(db, conversation, reference, entry, now=now, ttl_s=ttl_s))

    async def trail(self, reference: str) -> list[str]:
        return await self._writer.run(lambda db: trails.steps(db, reference))

    async def erase(self, conversation: str, lane: str | None, *, at: float) -> int:
        now = self._clock()
        erased = await self._writer.run(
            lambda db: erasing.erase(db, conversation, lane, at=at, now=now, limits=self._limits)
        )
        self._ready.wake_all()
        return erased
