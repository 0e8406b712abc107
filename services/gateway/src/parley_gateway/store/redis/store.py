"""RedisStore: the store contract over the scripts. What each method guarantees is said in `store/base.py`."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from parley_common.redis_address import StoreAddress

from parley_gateway.errors import BlobTooLargeError, StoreError, StoreUnavailableError
from parley_gateway.messages import Turn
from parley_gateway.store import wakeups
from parley_gateway.store.base import AcceptOutcome, ClaimedPart, Lease, QueueStats, Receipt, Store, StoreLimits
from parley_gateway.store.records import DeadLetter, KeptAnswer, QueuedMessage
from parley_gateway.store.redis.blobs import Blobs
from parley_gateway.store.redis.board import Board
from parley_gateway.store.redis.cache import Cache
from parley_gateway.store.redis.calls import NO_COPIES, Call, Copies
from parley_gateway.store.redis.checks import OnCheck, check
from parley_gateway.store.redis.conversations import Conversations
from parley_gateway.store.redis.dead_letters import DeadLetters
from parley_gateway.store.redis.erasing import Erasing
from parley_gateway.store.redis.keys import key
from parley_gateway.store.redis.lanes import Lanes, Outcome
from parley_gateway.store.redis.link import COMMAND_S, Link
from parley_gateway.store.redis.news import News
from parley_gateway.store.redis.scripts import PROBE

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often a request that waits for an answer looks by itself; usually it hears of it at once."""
PROBE_S = 60


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How a store on Redis works."""

    copies: Copies = NO_COPIES
    """Copies of a message that must exist before it counts as accepted."""
    command_s: float = COMMAND_S
    """How long one call may take."""
    look_s: float = 1.0
    """How old what is known of other processes' messages may be; 0 looks before every lease and every accept."""
    on_check: OnCheck = field(default=lambda name, passed: None)


class RedisStore(Store):
    """Everything on one Redis, one master that Sentinel names, or a cluster; shared by any number of processes."""

    def __init__(
        self,
        address: StoreAddress,
        limits: StoreLimits | None = None,
        clock: Callable[[], float] = time.time,
        options: RedisOptions | None = None,
    ) -> None:
        """Name the servers; `open` connects."""
        self._limits = limits = limits or StoreLimits()
        self._options = options or RedisOptions()
        self._clock = clock
        self._owners: set[str] = set()
        self._looking: asyncio.Lock = asyncio.Lock()
        self._ready = wakeups.ReadyLanes(clock)
        self._answers = wakeups.KeptAnswers()
        self._board = Board(limits.queue_messages)
        self._link = link = Link(address, command_s=self._options.command_s)
        self._news = news = News(
            link,
            secrets.token_hex(6),
            lane_ready=self._heard_of_lane,
            answer_kept=self._answers.wake,
            missed=self._missed_news,
        )
        self._lanes = Lanes(link, self._board, news, limits, self._options.copies)
        self._dead_letters = DeadLetters(link, self._board, news, limits)
        self._conversations = Conversations(link, limits)
        self._cache = Cache(link)
        self._blobs = Blobs(link, limits)
        self._erasing = Erasing(link, self._board, news, self._blobs, limits)

    async def open(self) -> None:
        try:
            await check(self._link, self._options.copies, self._options.on_check)
            await self.ping()
        except StoreError:
            await self._link.close()
            raise
        await self._news.start()

    async def close(self) -> None:
        await self._news.stop()
        for owner in sorted(self._owners):
            try:
                await self.release_owner(owner)
            except StoreUnavailableError as error:
                logger.warning("leases are left to run out: %s", error)
        self._ready.close()
        await self._link.close()

    async def ping(self) -> None:
        # While a node of a cluster is dead, the others go on: then this process is of use.
        places = (await self._link.places()).values()
        probes = [Call(PROBE, first, (key(first, "probe"),), (PROBE_S,)) for first, *_ in places]
        await self._link.each(probes, partly=True)

    async def clean(self, *, now: float) -> None:
        # Everything but the queue ends by itself: Redis deletes it when its time to live has passed.
        await self._dead_letters.clean(now=now)

    # Inbox

    async def accept(self, item: QueuedMessage, *, now: float, dedupe_ttl_s: float) -> Receipt:
        if self._options.look_s <= 0 or self._board.crowded:
            await self._look_if_old()
        receipt = await self._lanes.accept(item, now=now, dedupe_ttl_s=dedupe_ttl_s)
        if receipt.outcome is AcceptOutcome.ACCEPTED:
            self._ready.announce(max(now, item.due_at))
        return receipt

    # Lanes

    async def lease(self, owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
        self._owners.add(owner)
        await self._look_if_old()
        leased = await self._lanes.lease(owner, now=now, ttl_s=ttl_s)
        if leased:
            self._ready.wake_at(leased[0].expires_at)
        return leased

    async def renew(self, lease: Lease, *, now: float, ttl_s: float) -> Lease:
        return await self._lanes.renew(lease, now=now, ttl_s=ttl_s)

    async def update(self, lease: Lease, item: QueuedMessage) -> None:
        await self._lanes.update(lease, item)

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
        following = await self._lanes.complete(lease, item, Outcome(turn, kept, dead), now=now)
        if kept:
            self._answers.wake(lease.conversation, kept.answer_id)
        self._announce()
        return following

    async def behind(self, lease: Lease, *, limit: int) -> tuple[QueuedMessage, ...]:
        return await self._lanes.behind(lease, limit=limit)

    async def release(self, lease: Lease) -> None:
        if await self._lanes.release(lease, now=self._clock()):
            self._announce()

    async def release_owner(self, owner: str) -> int:
        released = await self._lanes.release_owner(owner, now=self._clock())
        self._owners.discard(owner)
        self._ready.wake_all()
        return released

    async def expire(self, *, now: float) -> int:
        expired = await self._dead_letters.expire(now=now)
        if expired:
            self._ready.wake_all()
        return expired

    async def expire_older(self, *, now: float, received_before: float, conversations: str = "") -> int:
        expired = await self._dead_letters.expire_older(
            now=now, received_before=received_before, conversations=conversations
        )
        if expired:
            self._ready.wake_all()
        return expired

    async def wait_ready(self, timeout_s: float) -> None:
        await self._ready.wait(self._next_ready_at, timeout_s)

    async def stats(self, *, now: float) -> QueueStats:
        return await self._lanes.stats(now=now)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        return await self._dead_letters.newest(limit=limit)

    async def dead_letter(self, reference: str) -> DeadLetter | None:
        return await self._dead_letters.find(reference)

    async def discard(self, reference: str) -> bool:
        return await self._dead_letters.discard(reference)

    async def replay(self, reference: str, *, now: float) -> bool:
        replayed = await self._dead_letters.replay(reference, now=now)
        if replayed:
            self._ready.wake_one()
        return replayed

    # Conversations

    async def history(self, conversation: str, *, now: float) -> tuple[Turn, ...]:
        return await self._conversations.history(conversation, now=now)

    async def reset_history(self, conversation: str, *, at: float) -> int:
        return await self._conversations.reset(conversation, at=at)

    async def forget_turn(self, conversation: str, message_id: str) -> bool:
        return await self._conversations.forget_turn(conversation, message_id)

    async def request_stop(self, conversation: str, lane: str, *, at: float) -> None:
        await self._conversations.request_stop(conversation, lane, at=at)

    async def stop_requested(self, conversation: str, lane: str) -> float:
        return await self._conversations.stop_requested(conversation, lane)

    # Kept answers

    async def wait_answer(self, conversation: str, answer_id: str, *, timeout_s: float) -> KeptAnswer | None:
        with self._answers.waiting(conversation, answer_id) as kept_now:
            deadline = time.monotonic() + timeout_s
            while True:
                kept_now.clear()
                answer = await self._conversations.find_kept(conversation, answer_id, now=self._clock())
                left = deadline - time.monotonic()
                if answer or left <= 0:
                    return answer
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, POLL_S)):
                        await kept_now.wait()

    async def claim_part(
        self, conversation: str, *, request_key: str, answer_id: str | None, now: float
    ) -> ClaimedPart | None:
        return await self._conversations.claim_part(conversation, request_key=request_key, answer_id=answer_id, now=now)

    async def unread(self, conversation: str, *, now: float) -> int:
        return await self._conversations.unread(conversation, now=now)

    async def pending(self, conversation: str) -> tuple[str, ...]:
        return await self._lanes.pending(conversation)

    # Cache

    async def cache_get(self, key: str, *, now: float) -> tuple[str, float] | None:
        return await self._cache.get(key, now=now)

    async def cache_put(self, key: str, value: str, *, expires_at: float) -> None:
        await self._cache.put(key, value, now=self._clock(), expires_at=expires_at)

    async def cache_delete(self, key: str, value: str) -> None:
        await self._cache.delete(key, value)

    async def try_lock(self, key: str, owner: str, *, now: float, ttl_s: float) -> bool:
        return await self._cache.try_lock(key, owner, now=now, ttl_s=ttl_s)

    async def unlock(self, key: str, owner: str) -> None:
        await self._cache.unlock(key, owner)

    # Blobs

    async def put_blob(self, data: bytes, *, mime: str, now: float, lane: str = "") -> str:
        if len(data) > self._limits.blob_bytes:
            raise BlobTooLargeError(f"{len(data)} bytes are more than the limit of {self._limits.blob_bytes}")
        return await self._blobs.put(data, mime=mime, now=now, lane=lane)

    async def get_blob(self, ref: str, *, now: float) -> tuple[bytes, str] | None:
        return await self._blobs.get(ref, now=now)

    # Counters, trails, erasing

    async def count(self, key: str, amount: int, *, now: float, expires_at: float) -> int:
        return await self._cache.count(key, amount, now=now, expires_at=expires_at)

    async def counted(self, key: str, *, now: float) -> int:
        return await self._cache.counted(key, now=now)

    async def add_trail(self, conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
        await self._conversations.add_trail(conversation, reference, entry, now=now, ttl_s=ttl_s)

    async def trail(self, reference: str) -> list[str]:
        return await self._conversations.trail(reference)

    async def erase(self, conversation: str, lane: str | None, *, at: float) -> int:
        erased = await self._erasing.erase(conversation, lane, at=at, now=self._clock())
        self._ready.wake_all()
        return erased

    # What is ready

    async def _look_if_old(self) -> None:
        async with self._looking:
            if self._board.older_than(self._options.look_s):
                await self._lanes.look()

    async def _next_ready_at(self) -> float | None:
        await self._look_if_old()
        _, at = self._board.first()
        return at if at < float("inf") else None

    def _announce(self) -> None:
        _, at = self._board.first()
        if at < float("inf"):
            self._ready.announce(at)

    def _missed_news(self) -> None:
        self._board.outdated()
        self._ready.wake_all()

    def _heard_of_lane(self, partition: int, ready_at: float) -> None:
        self._board.hear(partition, ready_at)
        self._ready.announce(ready_at)
