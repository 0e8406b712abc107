"""Messages whose time to live ended: the user is told, an operator can look; and dead letters put back to work."""

import sqlite3
from dataclasses import replace

from parley_gateway.messages import MessageKind
from parley_gateway.store.records import QueuedMessage, UnreadableRecordError, load_message
from parley_gateway.store.sqlite import dead_letters, lanes
from parley_gateway.store.sqlite.lanes import Entry, Lane

BATCH = 200
"""Messages that expire in one transaction at most, so that others needn't wait long."""

# Somebody works on the head of a lane whose lease still runs; every other message can be taken out.
_EXPIRED = """
SELECT messages.id, record, lanes.id, lanes.partition, conversation
FROM messages JOIN lanes ON lanes.id = lane_id
WHERE messages.expires_at <= :now AND (
    owner = '' OR lease_until <= :now
    OR messages.id > (SELECT min(head.id) FROM messages AS head WHERE head.lane_id = lanes.id)
)
ORDER BY messages.expires_at, messages.id LIMIT :batch
"""

# A lease that ran out ends when its message goes: the former holder must not keep the lane from the next one.
_END_LEASE = """
UPDATE lanes SET owner = ''
WHERE id = :lane AND owner <> '' AND :message = (SELECT min(id) FROM messages WHERE lane_id = :lane)
"""


def expire(db: sqlite3.Connection, *, now: float) -> int:
    """Turn up to BATCH messages into dead letters and notices. Returns how many."""
    rows = db.execute(_EXPIRED, {"now": now, "batch": BATCH}).fetchall()
    for message_id, record, lane_id, partition, conversation in rows:
        db.execute(_END_LEASE, {"lane": lane_id, "message": message_id})
        _expire_one(db, Lane(lane_id, partition, conversation), message_id, record, now=now)
    return len(rows)


def _expire_one(db: sqlite3.Connection, lane: Lane, message_id: int, record: str, *, now: float) -> None:
    try:
        item = load_message(record)
    except UnreadableRecordError:
        lanes.bury(db, lane, message_id, record, key=record, reason="unreadable", now=now)
        return
    is_notice = item.message.kind is MessageKind.NOTICE
    # A notice has its message's key; its dead letter must not take the place of the message's.
    key = f"{item.key}#notice" if is_notice else item.key
    reference = lanes.bury(db, lane, message_id, record, key=key, reason=lanes.EXPIRED, now=now)
    if not is_notice:
        lanes.append(db, Entry.of(_notice(item, reference, now=now)), now=now)


def _notice(item: QueuedMessage, reference: str, *, now: float) -> QueuedMessage:
    message = replace(item.message, kind=MessageKind.NOTICE, text=lanes.EXPIRED, sent_at=now)
    return QueuedMessage(
        message=message,
        received_at=now,
        reply_state=item.reply_state,
        traceparent=item.traceparent,
        note=reference,
    )


def replay(db: sqlite3.Connection, reference: str, *, now: float) -> bool:
    """Move a dead letter back to the end of its lane. Returns False when there is none that can be read."""
    dead = dead_letters.find(db, reference)
    if dead is None or dead.item is None:
        return False
    item = dead.item
    dead_letters.delete(db, reference)
    again = replace(
        item,
        message=replace(item.message, sent_at=now),
        received_at=now,
        due_at=0.0,
        attempts=0,
        failures=0,
        # A sentence about the failure is no answer: the model is asked again.
        answer=None if item.answer and item.answer.failure else item.answer,
    )
    lanes.append(db, Entry.of(again), now=now)
    return True
