"""The queue's lanes: take messages in, lease lanes, write under a lease."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from parley_gateway.errors import LeaseLostError, StoreUnavailableError
from parley_gateway.messages import Turn
from parley_gateway.store.base import PARTITIONS, AcceptOutcome, Lease, QueueStats, Receipt, StoreLimits, partition_of
from parley_gateway.store.entries import UNREADABLE, Entry
from parley_gateway.store.records import (
    DeadLetter,
    KeptAnswer,
    QueuedMessage,
    UnreadableRecordError,
    dump_dead,
    dump_kept,
    dump_message,
    dump_turn,
    load_message,
    reference_of,
)
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.board import Board
from parley_gateway.store.redis.calls import Call, Copies, Value
from parley_gateway.store.redis.keys import CHANNEL, QUEUE_KEYS, conversation_keys, key, milliseconds
from parley_gateway.store.redis.link import UNKNOWN, Link
from parley_gateway.store.redis.news import News
from parley_gateway.store.redis.scripts import Script

logger = logging.getLogger(__name__)

LAPSED = 100
"""Leases that ran out and are looked at when a lane is leased."""
PENDING = 1_000
"""Messages of one conversation that are listed at most."""
EVERY = range(PARTITIONS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What goes into the store when a message is done."""

    turn: Turn | None = None
    kept: KeptAnswer | None = None
    dead: DeadLetter | None = None


def queue_call(script: Script, partition: int, *arguments: Value, keys: tuple[str, ...] = ()) -> Call:
    """Return the call of a script on a partition's queue; `keys` are those that it takes beyond the queue's."""
    return Call(script, partition, (*QUEUE_KEYS[partition], *keys), arguments)


class Lanes:
    """Every method keeps the board in step with what the scripts say."""

    def __init__(self, link: Link, board: Board, news: News, limits: StoreLimits, copies: Copies) -> None:
        """`copies` of a message must exist before it counts as accepted."""
        self._link = link
        self._board = board
        self._news = news
        self._limits = limits
        self._copies = copies

    async def accept(self, item: QueuedMessage, *, now: float, dedupe_ttl_s: float) -> Receipt:
        """Claim the delivery key and append the message, or say why not."""
        entry, limits = Entry.of(item), self._limits
        partition, due_since = entry.partition, max(item.due_at, now)
        with self._board.joining(partition) as room:
            call = queue_call(
                *(scripts.ACCEPT, partition, now, entry.lane, entry.conversation, entry.key, entry.question_id or ""),
                *(item.message.sent_at, item.received_at, due_since, item.expires_at, entry.record, item.traceparent),
                *(now + dedupe_ttl_s, milliseconds(dedupe_ttl_s), limits.lane_messages, room),
                *(CHANNEL, self._news.ready(partition, due_since)),
                keys=(key(partition, f"seen:{entry.key}"),),
            )
            answer, copied = await self._link.call_copied(call, self._copies)
            outcome, first_seen, delivery, traceparent, state = answer
            self._board.note(partition, state)
        receipt = Receipt(
            AcceptOutcome(outcome.decode()), entry.key, float(first_seen), int(delivery), traceparent.decode()
        )
        # A redelivery has to wait as well: it may be the first delivery that there are too few copies of.
        if not copied and receipt.outcome is not AcceptOutcome.FULL:
            raise StoreUnavailableError("Redis: too few copies of the message in time (gateway.store_wait)")
        return receipt

    async def lease(self, owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
        """Lease the ready lane whose head has been due longest, as far as this process knows all partitions."""
        failure: StoreUnavailableError | None = None
        while True:
            partition, ready_at = self._board.first()
            if ready_at > now:
                if failure is not None:
                    raise failure
                return None
            call = queue_call(scripts.LEASE, partition, now, now + ttl_s, owner, LAPSED)
            try:
                state, *leased = await self._link.call(call)
            except StoreUnavailableError as error:
                failure = error
                self._board.pass_over(self._link.nodes.beside(partition))
                continue
            self._board.note(partition, state)
            if not leased:
                continue
            lane, conversation, generation, record = leased
            held = Lease(lane.decode(), conversation.decode(), owner, int(generation), now + ttl_s)
            if item := await self._readable(held, record, now=now):
                return held, item

    async def renew(self, held: Lease, *, now: float, ttl_s: float) -> Lease:
        """Move the end of a lease."""
        await self._fenced(scripts.RENEW, held, now + ttl_s)
        return replace(held, expires_at=now + ttl_s)

    async def update(self, held: Lease, item: QueuedMessage) -> None:
        """Replace the head's record."""
        await self._fenced(scripts.UPDATE, held, item.key, dump_message(item), item.due_at, item.expires_at)

    async def complete(self, held: Lease, item: QueuedMessage, outcome: Outcome, *, now: float) -> QueuedMessage | None:
        """Take the head out, store what came of it; return the next head if it is due, else release the lane."""
        record = await self._complete(held, item.key, outcome, now=now)
        return await self._readable(held, record, now=now) if record else None

    async def behind(self, held: Lease, *, limit: int) -> tuple[QueuedMessage, ...]:
        """Return the messages behind the head up to the first that can't be read."""
        arguments = (held.lane, held.owner, held.generation, limit)
        records = await self._link.call(queue_call(scripts.BEHIND, partition_of(held.conversation), *arguments))
        if records is None:
            raise _lost(held)
        items = []
        with suppress(UnreadableRecordError):
            for record in records:
                items.append(load_message(record.decode()))  # noqa: PERF401 - those before the unreadable one count
        return tuple(items)

    async def release(self, held: Lease, *, now: float) -> bool:
        """Give a lane back. Returns False when it was lost already."""
        partition = partition_of(held.conversation)
        news = self._news.ready(partition, now)
        state = await self._link.call(
            queue_call(scripts.RELEASE, partition, held.lane, held.owner, held.generation, now, CHANNEL, news)
        )
        if state is not None:
            self._board.note(partition, state)
        return state is not None

    async def release_owner(self, owner: str, *, now: float) -> int:
        """Give back every lane of one owner."""
        answers = await self._link.each(
            [
                queue_call(scripts.RELEASE_OWNER, partition, owner, now, CHANNEL, self._news.ready(partition, now))
                for partition in EVERY
            ]
        )
        for partition, (_, state) in enumerate(answers):
            self._board.note(partition, state)
        return sum(released for released, _ in answers)

    async def look(self) -> None:
        """Look at every partition."""
        states = await self._link.each([queue_call(scripts.LOOK, each) for each in EVERY], partly=True)
        for partition, state in enumerate(states):
            if state is UNKNOWN:
                self._board.pass_over([partition])
            else:
                self._board.note(partition, state)
        self._board.looked()

    async def stats(self, *, now: float) -> QueueStats:
        """Count what waits in all partitions."""
        rows = await self._link.each([queue_call(scripts.STATS, partition, now) for partition in EVERY])
        first = min(((float(queued), float(received)) for _, _, queued, received, _ in rows if queued), default=None)
        return QueueStats(
            depth=sum(row[0] for row in rows),
            leased=sum(row[1] for row in rows),
            oldest_age_s=max(0.0, now - first[1]) if first else 0.0,
            dead_letters=sum(row[4] for row in rows),
        )

    async def pending(self, conversation: str) -> tuple[str, ...]:
        """Return the ids of a conversation's questions, oldest first."""
        found = await self._link.call(queue_call(scripts.PENDING, partition_of(conversation), conversation, PENDING))
        places = sorted(zip(found[::2], found[1::2], strict=True))
        return tuple(question.decode() for _, question in places)

    async def _readable(self, held: Lease, record: bytes, *, now: float) -> QueuedMessage | None:
        """Return the message of a leased lane's head; heads that can't be read become dead letters on the way.

        None: none is left, and the lane is released.
        """
        while record:
            text = record.decode()
            try:
                return load_message(text)
            except UnreadableRecordError as error:
                logger.warning("a message became a dead letter: %s", error)
                dead = DeadLetter(reference_of(text), None, UNREADABLE, now, text)
                record = await self._complete(held, "", Outcome(dead=dead), now=now)
        return None

    async def _complete(self, held: Lease, item_key: str, outcome: Outcome, *, now: float) -> bytes:
        """Take out the head, if it has this key or whatever it has; return the record of the next one if it is due."""
        partition = partition_of(held.conversation)
        call = queue_call(
            *(scripts.COMPLETE, partition, held.lane, held.owner, held.generation, item_key, now, CHANNEL),
            *self._turn(outcome.turn, now),
            *self._kept(outcome.kept, held.conversation, now),
            *self._dead(outcome.dead),
            keys=conversation_keys(held.conversation),
        )
        answer, copied = await self._link.call_copied(call, self._copies)
        if answer is None:
            raise _lost(held)
        if not copied:
            # The answer is out. Should this server be lost now, its successor may do the message again.
            logger.warning("too few copies of a message's end in time (gateway.store_wait)")
        state, *record = answer
        self._board.note(partition, state)
        return record[0] if record else b""

    def _turn(self, turn: Turn | None, now: float) -> tuple[Value, ...]:
        ttl_s = self._limits.history_ttl_s
        record, asked_at = (dump_turn(turn), turn.asked_at) if turn else ("", 0)
        return (record, asked_at, now + ttl_s, self._limits.history_turns, milliseconds(ttl_s))

    def _kept(self, kept: KeptAnswer | None, conversation: str, now: float) -> tuple[Value, ...]:
        ttl_s = self._limits.kept_answer_ttl_s
        if kept is None:
            return ("", "", "", 0, 0, 0, "")
        answer = (dump_kept(kept), kept.answer_id, kept.delivery_key, len(kept.parts))
        return (*answer, now + ttl_s, milliseconds(ttl_s), self._news.kept(conversation, kept.answer_id))

    def _dead(self, dead: DeadLetter | None) -> tuple[Value, ...]:
        if dead is None:
            return ("", "", "", 0, 0)
        ttl = milliseconds(self._limits.dead_letter_ttl_s)
        return (dump_dead(dead), dead.reference, dead.reason, dead.failed_at, ttl)

    async def _fenced(self, script: Script, held: Lease, *arguments: Value) -> None:
        partition = partition_of(held.conversation)
        state = await self._link.call(queue_call(script, partition, held.lane, held.owner, held.generation, *arguments))
        if state is None:
            raise _lost(held)
        self._board.note(partition, state)


def _lost(held: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"{held.owner} no longer holds generation {held.generation} of its lane, or the message isn't its head"
    )
