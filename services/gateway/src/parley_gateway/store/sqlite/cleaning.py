"""Deletes what its time to live has ended for, a little at a time so that nobody waits long for the writer thread."""

import sqlite3
from collections.abc import Callable

from parley_gateway.store.base import StoreLimits

BATCH = 500
"""Rows that one step deletes at most."""

LANE_IDLE_S = 86400.0
"""An empty lane is forgotten after this time."""

Step = Callable[[sqlite3.Connection], int]
"""Deletes up to BATCH rows and returns how many."""

_EXPIRING = (
    ("deliveries", "(delivery_key, partition)", "delivery_key, partition"),
    ("turns", "id", "id"),
    ("marks", "(conversation, lane)", "conversation, lane"),
    ("kept_answers", "rowid", "rowid"),
    ("kept_requests", "(conversation, request_key)", "conversation, request_key"),
    ("cache", "name", "name"),
    ("locks", "name", "name"),
    ("blobs", "rowid", "rowid"),
    ("counters", "name", "name"),
    ("trails", "id", "id"),
)
"""Table, primary key as a value, primary key as columns."""


def steps(*, now: float, limits: StoreLimits) -> list[Step]:
    """Return what has to be done; each step is repeated until it finds nothing more."""
    return [
        *(_expired(table, value, columns, now) for table, value, columns in _EXPIRING),
        lambda db: _old_dead_letters(db, now=now, limits=limits),
        lambda db: _idle_lanes(db, now=now),
    ]


def _expired(table: str, value: str, columns: str, now: float) -> Step:
    # All three are constants of this module.
    statement = (
        f"DELETE FROM {table} WHERE {value} IN"  # noqa: S608
        f" (SELECT {columns} FROM {table} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
    )
    return lambda db: db.execute(statement, (now, BATCH)).rowcount


def _old_dead_letters(db: sqlite3.Connection, *, now: float, limits: StoreLimits) -> int:
    beyond: int = db.execute("SELECT max(count(*) - ?, 0) FROM dead_letters", (limits.dead_letters,)).fetchone()[0]
    too_old: int = db.execute(
        "SELECT count(*) FROM dead_letters WHERE failed_at <= ?", (now - limits.dead_letter_ttl_s,)
    ).fetchone()[0]
    return db.execute(
        "DELETE FROM dead_letters WHERE rowid IN (SELECT rowid FROM dead_letters ORDER BY failed_at LIMIT ?)",
        (min(max(beyond, too_old), BATCH),),
    ).rowcount


def _idle_lanes(db: sqlite3.Connection, *, now: float) -> int:
    """Forget empty lanes; the partition remembers their highest generation, so that none is ever used twice."""
    rows = db.execute(
        "SELECT id, partition, generation FROM lanes WHERE idle_since IS NOT NULL AND idle_since <= ?"
        " ORDER BY idle_since LIMIT ?",
        (now - LANE_IDLE_S, BATCH),
    ).fetchall()
    for lane_id, partition, generation in rows:
        db.execute("UPDATE partitions SET generation = max(generation, ?) WHERE partition = ?", (generation, partition))
        db.execute("DELETE FROM lanes WHERE id = ?", (lane_id,))
    return len(rows)
