"""Messages that failed for good, kept for an operator."""

import sqlite3

from parley_gateway.store.base import partition_of
from parley_gateway.store.records import DeadLetter, load_dead


def file(
    db: sqlite3.Connection, conversation: str, lane: str, *, reference: str, reason: str, failed_at: float, record: str
) -> None:
    """Keep a message's record; a later failure under the same reference replaces it."""
    db.execute(
        "INSERT OR REPLACE INTO dead_letters (reference, partition, conversation, lane, reason, failed_at, record)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (reference, partition_of(conversation), conversation, lane, reason, failed_at, record),
    )


def newest(db: sqlite3.Connection, *, limit: int) -> list[DeadLetter]:
    """List dead letters, newest first."""
    rows = db.execute(
        "SELECT reference, reason, failed_at, record FROM dead_letters ORDER BY failed_at DESC LIMIT ?", (limit,)
    )
    return [load_dead(*row) for row in rows]


def find(db: sqlite3.Connection, reference: str) -> DeadLetter | None:
    """Return one dead letter."""
    row = db.execute(
        "SELECT reference, reason, failed_at, record FROM dead_letters WHERE reference = ?", (reference,)
    ).fetchone()
    return load_dead(*row) if row else None


def delete(db: sqlite3.Connection, reference: str) -> bool:
    """Forget a dead letter. Returns whether there was one."""
    return db.execute("DELETE FROM dead_letters WHERE reference = ?", (reference,)).rowcount > 0


def count(db: sqlite3.Connection) -> int:
    """Count them."""
    number: int = db.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
    return number
