"""Histories, reset and stop marks, kept answers, trails: what a conversation has besides its queue."""

import logging
from contextlib import suppress
from typing import Any

from parley_gateway.messages import Turn
from parley_gateway.store.base import TRAIL_STEPS, ClaimedPart, StoreLimits, partition_of
from parley_gateway.store.records import KeptAnswer, UnreadableRecordError, load_kept, load_turn
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.calls import Call, Value
from parley_gateway.store.redis.keys import conversation_keys, key, milliseconds, of
from parley_gateway.store.redis.lanes import EVERY
from parley_gateway.store.redis.link import Link
from parley_gateway.store.redis.scripts import Script

logger = logging.getLogger(__name__)


class Conversations:
    """Reads and writes them."""

    def __init__(self, link: Link, limits: StoreLimits) -> None:
        self._link = link
        self._limits = limits

    async def history(self, conversation: str, *, now: float) -> tuple[Turn, ...]:
        """Return the turns, in the order of their questions."""
        turns = []
        for member in await self._turns(conversation):
            if float(member.split(b" ", 2)[1]) <= now:
                continue
            try:
                turns.append(load_turn(_record(member)))
            except UnreadableRecordError as error:
                logger.warning("a turn is left out of its history: %s", error)
        return tuple(turns)

    async def forget_turn(self, conversation: str, message_id: str) -> bool:
        """Delete the turn that a message was part of."""
        for member in await self._turns(conversation):
            with suppress(UnreadableRecordError):
                if message_id in load_turn(_record(member)).message_ids:
                    turns = of(conversation, "turns")
                    return bool(await self._link.command(partition_of(conversation), "ZREM", turns, member))
        return False

    async def reset(self, conversation: str, *, at: float) -> int:
        """Forget the turns asked up to `at` and mark the time. Returns how many turns there were."""
        keys = (of(conversation, "turns"), of(conversation, "reset"))
        mark_ttl = milliseconds(self._limits.mark_ttl_s)
        gone: int = await self._link.call(Call(scripts.RESET, partition_of(conversation), keys, (at, mark_ttl)))
        return gone

    async def request_stop(self, conversation: str, lane: str, *, at: float) -> None:
        """Mark the lane's messages up to `at` as no longer wanted."""
        arguments = (lane, at, milliseconds(self._limits.mark_ttl_s))
        await self._link.call(Call(scripts.STOP, partition_of(conversation), (of(conversation, "stops"),), arguments))

    async def stop_requested(self, conversation: str, lane: str) -> float:
        """Return the time of the lane's stop mark, 0 when there is none."""
        mark = await self._link.command(partition_of(conversation), "HGET", of(conversation, "stops"), lane)
        return float(mark) if mark else 0.0

    async def find_kept(self, conversation: str, answer_id: str, *, now: float) -> KeptAnswer | None:
        """Return a kept answer."""
        record = await self._kept(scripts.FIND_KEPT, conversation, answer_id, now)
        return _load(record) if record else None

    async def claim_part(
        self, conversation: str, *, request_key: str, answer_id: str | None, now: float
    ) -> ClaimedPart | None:
        """Give a request its part: the one it had before, the first of its own answer, or the next unread one."""
        named = (0, "") if answer_id is None else (1, answer_id)
        while claimed := await self._kept(scripts.CLAIM_PART, conversation, request_key, *named, now):
            found_id, index, record, before = claimed
            answer = _load(record)
            if answer:
                return ClaimedPart(found_id.decode(), index, len(answer.parts), answer.parts[index], answer.question)
            if before:
                return None
            await self._kept(scripts.SKIP_KEPT, conversation, found_id, request_key, now)
        return None

    async def unread(self, conversation: str, *, now: float) -> int:
        """Count the answers with unread parts."""
        count: int = await self._kept(scripts.UNREAD, conversation, now)
        return count

    async def add_trail(self, conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
        """Add a step to a trail."""
        partition = partition_of(conversation)
        arguments = (entry, TRAIL_STEPS, milliseconds(ttl_s))
        await self._link.call(Call(scripts.ADD_TRAIL, partition, (key(partition, f"trail:{reference}"),), arguments))

    async def trail(self, reference: str) -> list[str]:
        """Return the steps, oldest first."""
        # A reference doesn't tell its conversation. Only people ask for a trail.
        found = await self._link.each(
            [Call(scripts.TRAIL, partition, (key(partition, f"trail:{reference}"),)) for partition in EVERY]
        )
        return [entry.decode() for steps in found for entry in steps]

    async def _turns(self, conversation: str) -> list[bytes]:
        members: list[bytes] = await self._link.command(
            partition_of(conversation), "ZRANGE", of(conversation, "turns"), 0, -1
        )
        return members

    async def _kept(self, script: Script, conversation: str, *arguments: Value) -> Any:
        keys = conversation_keys(conversation)[2:5]
        return await self._link.call(Call(script, partition_of(conversation), keys, arguments))


def _record(member: bytes) -> str:
    """Return a turn's record: behind its place, its end, and its lane."""
    return member.split(b" ", 3)[3].decode()


def _load(record: bytes) -> KeptAnswer | None:
    try:
        return load_kept(record.decode())
    except UnreadableRecordError as error:
        logger.warning("a kept answer isn't offered: %s", error)
        return None
