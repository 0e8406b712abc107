"""Forgets what people wrote: everything of a conversation, or of one lane of questions in it."""

import sqlite3

from parley_gateway.store.base import StoreLimits
from parley_gateway.store.sqlite import conversations, lanes
from parley_gateway.store.sqlite.lanes import Lane

# A lane of commands has the name of its questions' lane and a `!`. All lanes of a conversation, and no other, lie
# between its key and its key followed by `$`.
_MESSAGES = """
SELECT messages.id, lanes.id, lanes.partition, conversation, lane FROM lanes JOIN messages ON lane_id = lanes.id
WHERE lane >= :first AND lane < :key || '$' AND conversation = :key AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))
    AND sent_at < :at ORDER BY messages.id
"""

_RECORDS = (
    "DELETE FROM turns WHERE conversation = :key AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))",
    "DELETE FROM kept_answers WHERE conversation = :key AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))",
    "DELETE FROM dead_letters WHERE conversation = :key AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))",
    "DELETE FROM marks WHERE conversation = :key AND lane <> '' AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))",
    "DELETE FROM blobs WHERE lane <> '' AND lane >= :first AND lane < :key || '$'"
    " AND (:lane IS NULL OR lane IN (:lane, :lane || '!'))",
)


def erase(
    db: sqlite3.Connection, conversation: str, lane: str | None, *, at: float, now: float, limits: StoreLimits
) -> int:
    """Erase and return how many records went."""
    where = {"key": conversation, "first": lane or conversation, "lane": lane, "at": at}
    rows = db.execute(_MESSAGES, where).fetchall()
    for message_id, lane_id, partition, key, name in rows:
        lanes.end_lease(db, lane_id, message_id)
        lanes.remove(db, Lane(lane_id, partition, key, name), message_id, now=now)
    erased = len(rows) + sum(db.execute(statement, where).rowcount for statement in _RECORDS)
    # What requests were given belongs to answers that are gone now; it says nothing of anybody's words.
    db.execute(
        "DELETE FROM kept_requests WHERE conversation = :key AND answer_id NOT IN"
        " (SELECT answer_id FROM kept_answers WHERE conversation = :key)",
        where,
    )
    if lane is None:
        conversations.mark_reset(db, conversation, at=at, limits=limits)
    return erased
