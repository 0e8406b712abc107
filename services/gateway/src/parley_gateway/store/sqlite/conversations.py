"""Histories, reset marks and stop marks."""

import logging
import sqlite3
from contextlib import suppress

from parley_gateway.messages import Turn
from parley_gateway.store.base import StoreLimits, partition_of
from parley_gateway.store.records import UnreadableRecordError, dump_turn, load_turn

logger = logging.getLogger(__name__)

_RESET = ""
"""The lane of the mark that concerns the whole conversation."""


def history(db: sqlite3.Connection, conversation: str, *, now: float) -> tuple[Turn, ...]:
    """Return the turns, in the order of their questions."""
    rows = db.execute(
        "SELECT record FROM turns WHERE conversation = ? AND expires_at > ? ORDER BY asked_at, id", (conversation, now)
    )
    turns = []
    for (record,) in rows:
        try:
            turns.append(load_turn(record))
        except UnreadableRecordError as error:
            logger.warning("a turn is left out of its history: %s", error)
    return tuple(turns)


def add_turn(
    db: sqlite3.Connection, conversation: str, lane: str, turn: Turn, *, now: float, limits: StoreLimits
) -> None:
    """Add a turn unless its question is older than the last reset; drop the oldest beyond the limit."""
    if turn.asked_at < _mark(db, conversation, _RESET):
        return
    db.execute(
        "INSERT INTO turns (partition, conversation, lane, asked_at, expires_at, record) VALUES (?, ?, ?, ?, ?, ?)",
        (partition_of(conversation), conversation, lane, turn.asked_at, now + limits.history_ttl_s, dump_turn(turn)),
    )
    db.execute(
        "DELETE FROM turns WHERE id IN (SELECT id FROM turns WHERE conversation = ?"
        " ORDER BY asked_at DESC, id DESC LIMIT -1 OFFSET ?)",
        (conversation, limits.history_turns),
    )


def reset(db: sqlite3.Connection, conversation: str, *, at: float, limits: StoreLimits) -> int:
    """Forget the turns asked up to `at` and mark the time. Returns how many turns there were."""
    mark_reset(db, conversation, at=at, limits=limits)
    return db.execute("DELETE FROM turns WHERE conversation = ? AND asked_at <= ?", (conversation, at)).rowcount


def forget_turn(db: sqlite3.Connection, conversation: str, message_id: str) -> bool:
    """Delete the turn that a message was part of."""
    rows = db.execute("SELECT id, record FROM turns WHERE conversation = ?", (conversation,)).fetchall()
    for row_id, record in rows:
        with suppress(UnreadableRecordError):
            if message_id in load_turn(record).message_ids:
                db.execute("DELETE FROM turns WHERE id = ?", (row_id,))
                return True
    return False


def mark_reset(db: sqlite3.Connection, conversation: str, *, at: float, limits: StoreLimits) -> None:
    """Refuse from now on the turns of questions asked before `at`."""
    _set_mark(db, conversation, _RESET, at=at, limits=limits)


def request_stop(db: sqlite3.Connection, conversation: str, lane: str, *, at: float, limits: StoreLimits) -> None:
    """Mark the lane's messages up to `at` as no longer wanted."""
    _set_mark(db, conversation, lane, at=at, limits=limits)


def stop_requested(db: sqlite3.Connection, conversation: str, lane: str) -> float:
    """Return the time of the lane's stop mark, 0 when there is none."""
    return _mark(db, conversation, lane)


def _mark(db: sqlite3.Connection, conversation: str, lane: str) -> float:
    row = db.execute("SELECT at FROM marks WHERE conversation = ? AND lane = ?", (conversation, lane)).fetchone()
    return row[0] if row else 0.0


def _set_mark(db: sqlite3.Connection, conversation: str, lane: str, *, at: float, limits: StoreLimits) -> None:
    db.execute(
        "INSERT INTO marks VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET at = max(at, excluded.at), expires_at = max(expires_at, excluded.expires_at)",
        (partition_of(conversation), conversation, lane, at, at + limits.mark_ttl_s),
    )
