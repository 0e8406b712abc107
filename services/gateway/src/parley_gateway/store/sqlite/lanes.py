"""Lanes and the messages in them: append at the end, look at the head, take out.

These functions keep what is derived from the messages in step with them: each lane's depth and ready time, each
partition's count. No other module writes `messages`.
"""

import logging
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from parley_gateway.store.base import AcceptOutcome, Receipt, StoreLimits
from parley_gateway.store.entries import UNREADABLE, Entry
from parley_gateway.store.records import (
    QueuedMessage,
    UnreadableRecordError,
    dump_message,
    load_message,
    reference_of,
)
from parley_gateway.store.sqlite import dead_letters

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The first message of a lane."""

    id: int
    due_since: float
    item: QueuedMessage


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane's row, as far as it doesn't change while a message is worked on."""

    id: int
    partition: int
    conversation: str
    name: str


# Claims a key, or counts one more delivery of a key that is claimed already. A claim that ran out is made anew.
_CLAIM = """
INSERT INTO deliveries (delivery_key, partition, first_seen, deliveries, traceparent, expires_at)
VALUES (:key, :partition, :now, 1, :traceparent, :until)
ON CONFLICT DO UPDATE SET
    deliveries = iif(expires_at > :now, deliveries + 1, 1),
    first_seen = iif(expires_at > :now, first_seen, excluded.first_seen),
    traceparent = iif(expires_at > :now, traceparent, excluded.traceparent),
    expires_at = iif(expires_at > :now, expires_at, excluded.expires_at)
RETURNING first_seen, deliveries, traceparent
"""

_ROOM = """
SELECT (SELECT sum(queued) FROM partitions) < :queue_messages
    AND coalesce((SELECT depth FROM lanes WHERE lane = :lane), 0) < :lane_messages
"""

# A new lane's generations start above those of forgotten lanes.
_JOIN_LANE = """
INSERT INTO lanes (partition, conversation, lane, depth, due_since, generation)
SELECT partition, :conversation, :lane, 1, :due_since, generation FROM partitions WHERE partition = :partition
ON CONFLICT (lane) DO UPDATE SET
    depth = depth + 1, due_since = coalesce(due_since, excluded.due_since), idle_since = NULL
RETURNING id
"""


def accept(db: sqlite3.Connection, entry: Entry, *, now: float, dedupe_ttl_s: float, limits: StoreLimits) -> Receipt:
    """Claim the delivery key and append the message, or say why not."""
    claim = {
        "key": entry.key,
        "partition": entry.partition,
        "now": now,
        "traceparent": entry.item.traceparent,
        "until": now + dedupe_ttl_s,
    }
    first_seen, deliveries, traceparent = db.execute(_CLAIM, claim).fetchone()
    if deliveries > 1:
        return Receipt(AcceptOutcome.DUPLICATE, entry.key, first_seen, deliveries, traceparent)
    if not _has_room(db, entry.lane, limits):
        db.execute("DELETE FROM deliveries WHERE delivery_key = ? AND partition = ?", (entry.key, entry.partition))
        return Receipt(AcceptOutcome.FULL, entry.key, now, 1)
    append(db, entry, now=now)
    return Receipt(AcceptOutcome.ACCEPTED, entry.key, now, 1, traceparent)


def _has_room(db: sqlite3.Connection, lane: str, limits: StoreLimits) -> bool:
    numbers = {"lane": lane, "queue_messages": limits.queue_messages, "lane_messages": limits.lane_messages}
    return bool(db.execute(_ROOM, numbers).fetchone()[0])


def append(db: sqlite3.Connection, entry: Entry, *, now: float) -> None:
    """Add a message at the end of its lane."""
    item, due_since = entry.item, max(entry.item.due_at, now)
    place = {
        "conversation": entry.conversation,
        "lane": entry.lane,
        "due_since": due_since,
        "partition": entry.partition,
    }
    lane_id = db.execute(_JOIN_LANE, place).fetchone()[0]
    db.execute(
        "INSERT INTO messages (partition, lane_id, delivery_key, question_id, sent_at, received_at, queued_at,"
        " due_since, expires_at, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.partition,
            lane_id,
            entry.key,
            entry.question_id,
            item.message.sent_at,
            item.received_at,
            now,
            due_since,
            item.expires_at,
            entry.record,
        ),
    )
    db.execute("UPDATE partitions SET queued = queued + 1 WHERE partition = ?", (entry.partition,))


def remove(db: sqlite3.Connection, lane: Lane, message_id: int, *, now: float) -> None:
    """Take a message out of its lane."""
    db.execute("DELETE FROM messages WHERE id = ?", (message_id,))
    db.execute("UPDATE partitions SET queued = queued - 1 WHERE partition = ?", (lane.partition,))
    db.execute(
        "UPDATE lanes SET depth = depth - 1, idle_since = CASE WHEN depth = 1 THEN :now END, due_since ="
        " (SELECT due_since FROM messages WHERE lane_id = :lane ORDER BY messages.id LIMIT 1) WHERE id = :lane",
        {"lane": lane.id, "now": now},
    )


def end_lease(db: sqlite3.Connection, lane_id: int, message_id: int) -> None:
    """End the lease of a lane whose head is taken out: its holder must not keep the lane from the next message."""
    db.execute(
        "UPDATE lanes SET owner = '' WHERE id = :lane AND owner <> ''"
        " AND :message = (SELECT min(id) FROM messages WHERE lane_id = :lane)",
        {"lane": lane_id, "message": message_id},
    )


def rewrite(db: sqlite3.Connection, lane: Lane, message_id: int, item: QueuedMessage) -> None:
    """Replace the record of a lane's head; its place in the lane stays."""
    due_since = db.execute(
        "UPDATE messages SET record = ?, expires_at = ?, due_since = max(?, queued_at) WHERE id = ?"
        " RETURNING due_since",
        (dump_message(item), item.expires_at, item.due_at, message_id),
    ).fetchone()[0]
    db.execute("UPDATE lanes SET due_since = ? WHERE id = ?", (due_since, lane.id))


def head_id(db: sqlite3.Connection, lane: Lane) -> tuple[int, str] | None:
    """Return row id and delivery key of a lane's head, None when the lane is empty."""
    row: tuple[int, str] | None = db.execute(
        "SELECT id, delivery_key FROM messages WHERE lane_id = ? ORDER BY id LIMIT 1", (lane.id,)
    ).fetchone()
    return row


def after_head(db: sqlite3.Connection, lane: Lane, *, limit: int) -> tuple[QueuedMessage, ...]:
    """Return the messages behind the head up to the first that can't be read: that is its own turn's business."""
    rows = db.execute("SELECT record FROM messages WHERE lane_id = ? ORDER BY id LIMIT ? OFFSET 1", (lane.id, limit))
    items: list[QueuedMessage] = []
    with suppress(UnreadableRecordError):
        items.extend(load_message(record) for (record,) in rows)
    return tuple(items)


def readable_head(db: sqlite3.Connection, lane: Lane, *, now: float) -> Head | None:
    """Return a lane's head; heads that can't be read are filed as dead letters on the way. None: the lane is empty."""
    while row := db.execute(
        "SELECT id, due_since, record FROM messages WHERE lane_id = ? ORDER BY id LIMIT 1", (lane.id,)
    ).fetchone():
        message_id, due_since, record = row
        try:
            return Head(message_id, due_since, load_message(record))
        except UnreadableRecordError as error:
            bury(db, lane, message_id, record, key=record, reason=UNREADABLE, now=now)
            logger.warning("a message of lane %s became a dead letter: %s", lane.id, error)
    return None


def bury(db: sqlite3.Connection, lane: Lane, message_id: int, record: str, *, key: str, reason: str, now: float) -> str:
    """Move a message to the dead letters, its record as it is.

    `key` is its delivery key, or whatever else tells it from others. Returns the dead letter's reference.
    """
    reference = reference_of(key)
    remove(db, lane, message_id, now=now)
    dead_letters.file(
        db, lane.conversation, lane.name, reference=reference, reason=reason, failed_at=now, record=record
    )
    return reference


def pending(db: sqlite3.Connection, conversation: str) -> tuple[str, ...]:
    """Return the ids of a conversation's questions, oldest first."""
    # A lane's name is the conversation's key, perhaps with `!` or `#` and more behind it: all before `$`.
    rows = db.execute(
        "SELECT question_id FROM lanes JOIN messages ON lane_id = lanes.id"
        " WHERE lane >= :key AND lane < :key || '$' AND conversation = :key AND question_id IS NOT NULL"
        " ORDER BY messages.id",
        {"key": conversation},
    )
    return tuple(question_id for (question_id,) in rows)


def queued(db: sqlite3.Connection) -> int:
    """Count the messages in all lanes."""
    count: int = db.execute("SELECT sum(queued) FROM partitions").fetchone()[0]
    return count


def touch(db: sqlite3.Connection) -> None:
    """Write without changing anything: proves that the file can be written."""
    db.execute("UPDATE partitions SET queued = queued WHERE partition = 0")


def first_received_at(db: sqlite3.Connection) -> float | None:
    """Return when the message that was enqueued first was received, None when none waits."""
    row = db.execute("SELECT received_at FROM messages WHERE id = (SELECT min(id) FROM messages)").fetchone()
    return row[0] if row else None
