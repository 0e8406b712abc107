"""Messages that failed for good or in time: dead letters, and what becomes of them."""

import hashlib
from typing import Any

from parley_gateway.store.base import StoreLimits
from parley_gateway.store.entries import EXPIRED, UNREADABLE, Entry, expired_key, expired_notice, replayed
from parley_gateway.store.records import DeadLetter, UnreadableRecordError, load_dead, load_message, reference_of
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.board import Board
from parley_gateway.store.redis.calls import Call, Value
from parley_gateway.store.redis.keys import CHANNEL, key, milliseconds
from parley_gateway.store.redis.lanes import EVERY, queue_call
from parley_gateway.store.redis.link import UNKNOWN, Link
from parley_gateway.store.redis.news import News
from parley_gateway.store.redis.scripts import Script

BATCH = 20
"""Messages of one partition that are looked at, or expire, in one go."""
CLEANED = 500
"""Items of one partition that one step of cleaning forgets."""
LANE_IDLE_S = 86400.0
"""An empty lane is forgotten after this time."""
UNUSED_S = 30 * 86400.0
"""A queue that no gateway has cleaned for so long ends."""


class DeadLetters:
    """Lists, replays, makes and cleans them; each lies in its conversation's partition."""

    def __init__(self, link: Link, board: Board, news: News, limits: StoreLimits) -> None:
        self._link = link
        self._board = board
        self._news = news
        self._limits = limits

    async def newest(self, *, limit: int) -> list[DeadLetter]:
        """List dead letters, newest first."""
        rows = await self._link.each([queue_call(scripts.NEWEST_DEAD, partition, limit) for partition in EVERY])
        letters = [_letter(row) for partition in rows for row in partition]
        return sorted(letters, key=lambda letter: letter.failed_at, reverse=True)[:limit]

    async def find(self, reference: str) -> DeadLetter | None:
        """Return one dead letter."""
        found = await self._find(reference)
        return _letter(found[1]) if found else None

    async def replay(self, reference: str, *, now: float) -> bool:
        """Move a dead letter back to the end of its lane. Returns False when there is none that can be read."""
        found = await self._find(reference)
        if found is None:
            return False
        partition, row = found
        item = _letter(row).item
        if item is None:
            return False
        entry = Entry.of(replayed(item, now=now))
        state = await self._link.call(
            queue_call(
                *(scripts.REPLAY, partition, now, reference, row[1], entry.record, entry.lane, entry.conversation),
                *(entry.key, entry.question_id or "", entry.item.expires_at),
                *(CHANNEL, self._news.ready(partition, now)),
            )
        )
        if state is not None:
            self._board.note(partition, state)
        return state is not None

    async def discard(self, reference: str) -> bool:
        """Forget a dead letter. Returns whether there was one."""
        return any(await self._link.each([queue_call(scripts.DISCARD, each, reference) for each in EVERY]))

    async def expire(self, *, now: float) -> int:
        """Turn every message whose time is over into a dead letter and a notice. Returns how many."""
        return await self._expire_found(scripts.FIND_EXPIRED, now=now)

    async def expire_older(self, *, now: float, received_before: float, conversations: str) -> int:
        """Do the same to questions received before a time."""
        return await self._expire_found(scripts.FIND_OLDER, received_before, conversations, now=now)

    async def _expire_found(self, find: Script, *arguments: Value, now: float) -> int:
        total, skipped = 0, dict.fromkeys(EVERY, 0)
        while skipped:
            calls = [queue_call(find, each, now, BATCH, skip, *arguments) for each, skip in skipped.items()]
            answers = await self._link.each(calls, partly=True)
            pairs = zip(skipped, answers, strict=True)
            found = {partition: answer for partition, answer in pairs if answer is not UNKNOWN}
            rows = [(partition, row) for partition, (_, rows) in found.items() for row in rows]
            states = await self._link.each([self._expiring(partition, row, now=now) for partition, row in rows])
            for (partition, _), state in zip(rows, states, strict=True):
                if state is not None:
                    self._board.note(partition, state)
                    total += 1
            # What is in work stays, and would be found again and again: the next look passes it over.
            skipped = {
                partition: skipped[partition] + seen - len(rows)
                for partition, (seen, rows) in found.items()
                if seen == BATCH
            }
        return total

    async def clean(self, *, now: float) -> None:
        """Forget dead letters that are too old or too many, and lanes that were empty for long."""
        cut = await self._oldest_kept(now)
        left = list(EVERY)
        while left:
            arguments = (now - LANE_IDLE_S, cut, CLEANED, milliseconds(UNUSED_S))
            gone = await self._link.each([queue_call(scripts.CLEAN, partition, *arguments) for partition in left])
            left = [partition for partition, count in zip(left, gone, strict=True) if count >= CLEANED]

    async def _oldest_kept(self, now: float) -> float:
        """Return up to when dead letters failed that are not kept any more."""
        too_old, most = now - self._limits.dead_letter_ttl_s, self._limits.dead_letters
        rows = await self._link.each([queue_call(scripts.FAILED_AT, partition, most + 1) for partition in EVERY])
        times = sorted((float(at) for partition in rows for at in partition), reverse=True)
        return max(too_old, times[most]) if len(times) > most else too_old

    async def _find(self, reference: str) -> tuple[int, Any] | None:
        # A reference doesn't tell its conversation. Only people ask for one.
        rows = await self._link.each([queue_call(scripts.FIND_DEAD, partition, reference) for partition in EVERY])
        return next(((partition, row) for partition, row in enumerate(rows) if row is not None), None)

    def _expiring(self, partition: int, row: tuple[bytes, bytes, bytes], *, now: float) -> Call:
        """Return the call that lets one message expire, if it is still as it was found."""
        message_id, conversation, record = row
        text = record.decode()
        notice: Entry | None = None
        try:
            item = load_message(text)
        except UnreadableRecordError:
            reference, reason = reference_of(text), UNREADABLE
        else:
            reference, reason = reference_of(expired_key(item)), EXPIRED
            told = expired_notice(item, reference, now=now)
            notice = Entry.of(told) if told else None
        return queue_call(
            *(scripts.EXPIRE, partition, now, message_id, hashlib.sha1(record, usedforsecurity=False).hexdigest()),
            *(reference, reason, milliseconds(self._limits.dead_letter_ttl_s)),
            *(CHANNEL, self._news.ready(partition, now)),
            *_notice_arguments(notice),
            keys=(key(partition, f"letters:{conversation.decode()}"),),
        )


def _notice_arguments(notice: Entry | None) -> tuple[str | float, ...]:
    if notice is None:
        return ("", "", "", "", "", 0, 0)
    item = notice.item
    place = (notice.record, notice.lane, notice.conversation, notice.key, notice.question_id or "")
    return (*place, item.message.sent_at, item.expires_at)


def _letter(row: Any) -> DeadLetter:
    reference, _, (reason, failed_at, _, record) = row
    return load_dead(reference.decode(), reason.decode(), float(failed_at), record.decode())
