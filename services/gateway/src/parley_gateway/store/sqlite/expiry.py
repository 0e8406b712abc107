"""Messages whose time to live ended: the user is told, an operator can look; and dead letters put back to work."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from parley_gateway.store.entries import EXPIRED, UNREADABLE, Entry, expired_key, expired_notice, replayed
from parley_gateway.store.records import UnreadableRecordError, load_message
from parley_gateway.store.sqlite import dead_letters, lanes
from parley_gateway.store.sqlite.lanes import Lane

BATCH = 200
"""Messages that expire in one transaction at most, so that others needn't wait long."""

# Somebody works on the head of a lane whose lease still runs; every other message can be taken out.
_NOT_IN_WORK = """(
    owner = '' OR lease_until <= :now
    OR messages.id > (SELECT min(head.id) FROM messages AS head WHERE head.lane_id = lanes.id)
)"""

_EXPIRED = f"""
SELECT messages.id, record, lanes.id, lanes.partition, conversation, lane
FROM messages JOIN lanes ON lanes.id = lane_id
WHERE messages.expires_at <= :now AND {_NOT_IN_WORK}
ORDER BY messages.expires_at, messages.id LIMIT :batch
"""  # noqa: S608 - made of constants

# The lanes of commands and notices end with `!`.
_OLDER = f"""
SELECT messages.id, record, lanes.id, lanes.partition, conversation, lane
FROM messages JOIN lanes ON lanes.id = lane_id
WHERE received_at < :before AND substr(conversation, 1, length(:begin)) = :begin AND substr(lane, -1) <> '!'
    AND {_NOT_IN_WORK}
ORDER BY messages.id LIMIT :batch
"""  # noqa: S608 - made of constants


def expire(db: sqlite3.Connection, *, now: float) -> int:
    """Turn up to BATCH messages into dead letters and notices. Returns how many."""
    return _expire_rows(db, db.execute(_EXPIRED, {"now": now, "batch": BATCH}).fetchall(), now=now)


def expire_older(db: sqlite3.Connection, *, now: float, received_before: float, conversations: str) -> int:
    """Turn up to BATCH questions received before a time into dead letters and notices. Returns how many."""
    where = {"now": now, "batch": BATCH, "before": received_before, "begin": conversations}
    return _expire_rows(db, db.execute(_OLDER, where).fetchall(), now=now)


def _expire_rows(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], *, now: float) -> int:
    for message_id, record, lane_id, partition, conversation, name in rows:
        lanes.end_lease(db, lane_id, message_id)
        _expire_one(db, Lane(lane_id, partition, conversation, name), message_id, record, now=now)
    return len(rows)


def _expire_one(db: sqlite3.Connection, lane: Lane, message_id: int, record: str, *, now: float) -> None:
    try:
        item = load_message(record)
    except UnreadableRecordError:
        lanes.bury(db, lane, message_id, record, key=record, reason=UNREADABLE, now=now)
        return
    reference = lanes.bury(db, lane, message_id, record, key=expired_key(item), reason=EXPIRED, now=now)
    if notice := expired_notice(item, reference, now=now):
        lanes.append(db, Entry.of(notice), now=now)


def replay(db: sqlite3.Connection, reference: str, *, now: float) -> bool:
    """Move a dead letter back to the end of its lane. Returns False when there is none that can be read."""
    dead = dead_letters.find(db, reference)
    if dead is None or dead.item is None:
        return False
    dead_letters.delete(db, reference)
    lanes.append(db, Entry.of(replayed(dead.item, now=now)), now=now)
    return True
