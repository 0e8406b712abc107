"""Answers kept until a request of the user carries them, one part at a time."""

import logging
import sqlite3
from dataclasses import dataclass

from parley_gateway.store.base import ClaimedPart, StoreLimits, partition_of
from parley_gateway.store.records import KeptAnswer, UnreadableRecordError, dump_kept, load_kept

logger = logging.getLogger(__name__)

_COLUMNS = "answer_id, delivery_key, parts, next_part, expires_at, record"


@dataclass(frozen=True, slots=True)
class _Row:
    answer_id: str
    delivery_key: str
    parts: int
    next_part: int
    expires_at: float
    record: str


def keep(
    db: sqlite3.Connection, conversation: str, lane: str, answer: KeptAnswer, *, now: float, limits: StoreLimits
) -> None:
    """Keep an answer; one of the same id is replaced and unread again."""
    db.execute("DELETE FROM kept_requests WHERE conversation = ? AND answer_id = ?", (conversation, answer.answer_id))
    db.execute(
        "INSERT OR REPLACE INTO kept_answers VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        (
            partition_of(conversation),
            conversation,
            answer.answer_id,
            answer.delivery_key,
            now,
            now + limits.kept_answer_ttl_s,
            len(answer.parts),
            dump_kept(answer),
            lane,
        ),
    )


def find(db: sqlite3.Connection, conversation: str, answer_id: str, *, now: float) -> KeptAnswer | None:
    """Return a kept answer."""
    row = _select(db, conversation, "answer_id = ?", answer_id, now=now)
    return _load(row) if row else None


def claim_part(
    db: sqlite3.Connection, conversation: str, *, request_key: str, answer_id: str | None, now: float
) -> ClaimedPart | None:
    """Give a request its part: the one it had before, the first of its own answer, or the next unread one."""
    chosen = _part_of_request(db, conversation, request_key, answer_id, now=now)
    while chosen is None:
        row = _unread_answer(db, conversation, answer_id, now=now)
        if row is None:
            return None
        if _load(row) is None:
            # It counts as read, so that it doesn't hide the answers behind it.
            _set_next_part(db, conversation, row.answer_id, row.parts)
            continue
        db.execute(
            "INSERT OR REPLACE INTO kept_requests VALUES (?, ?, ?, ?, ?, ?)",
            (partition_of(conversation), conversation, request_key, row.answer_id, row.next_part, row.expires_at),
        )
        chosen = row, row.next_part
    row, index = chosen
    answer = _load(row)
    if answer is None:
        return None
    _set_next_part(db, conversation, row.answer_id, index + 1)
    return ClaimedPart(row.answer_id, index, len(answer.parts), answer.parts[index], answer.question)


def unread(db: sqlite3.Connection, conversation: str, *, now: float) -> int:
    """Count the answers with unread parts."""
    count: int = db.execute(
        "SELECT count(*) FROM kept_answers WHERE conversation = ? AND expires_at > ? AND next_part < parts",
        (conversation, now),
    ).fetchone()[0]
    return count


def _part_of_request(
    db: sqlite3.Connection, conversation: str, request_key: str, answer_id: str | None, *, now: float
) -> tuple[_Row, int] | None:
    """Return the part that belongs to this request already, None when it is free to get an unread one."""
    own = _select(db, conversation, "delivery_key = ? AND parts > 0", request_key, now=now)
    if own and own.answer_id == answer_id:
        return own, 0
    assigned = db.execute(
        "SELECT answer_id, part FROM kept_requests WHERE conversation = ? AND request_key = ? AND expires_at > ?",
        (conversation, request_key, now),
    ).fetchone()
    if assigned and (row := _select(db, conversation, "answer_id = ?", assigned[0], now=now)):
        return row, assigned[1]
    return (own, 0) if own else None


def _unread_answer(db: sqlite3.Connection, conversation: str, answer_id: str | None, *, now: float) -> _Row | None:
    if answer_id is None:
        return _select(db, conversation, "next_part < parts", now=now)
    return _select(db, conversation, "next_part < parts AND answer_id = ?", answer_id, now=now)


def _select(db: sqlite3.Connection, conversation: str, condition: str, *arguments: str, now: float) -> _Row | None:
    """Return the oldest kept answer of a conversation that meets a condition (a constant of this module)."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM kept_answers WHERE conversation = ? AND expires_at > ? AND {condition}"  # noqa: S608
        " ORDER BY created_at, rowid LIMIT 1",
        (conversation, now, *arguments),
    ).fetchone()
    return _Row(*row) if row else None


def _set_next_part(db: sqlite3.Connection, conversation: str, answer_id: str, at_least: int) -> None:
    db.execute(
        "UPDATE kept_answers SET next_part = max(next_part, ?) WHERE conversation = ? AND answer_id = ?",
        (at_least, conversation, answer_id),
    )


def _load(row: _Row) -> KeptAnswer | None:
    try:
        return load_kept(row.record)
    except UnreadableRecordError as error:
        logger.warning("a kept answer isn't offered: %s", error)
        return None
