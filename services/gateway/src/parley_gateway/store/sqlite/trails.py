"""What happened to a message, step by step."""

import sqlite3

from parley_gateway.store.base import TRAIL_STEPS, partition_of


def add(db: sqlite3.Connection, conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
    """Add a step to a trail, drop the oldest beyond the limit; the whole trail lives as long as its last step."""
    expires_at = now + ttl_s
    db.execute("UPDATE trails SET expires_at = max(expires_at, ?) WHERE reference = ?", (expires_at, reference))
    db.execute(
        "INSERT INTO trails (partition, conversation, reference, entry, expires_at) VALUES (?, ?, ?, ?, ?)",
        (partition_of(conversation), conversation, reference, entry, expires_at),
    )
    db.execute(
        "DELETE FROM trails WHERE id IN (SELECT id FROM trails WHERE reference = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (reference, TRAIL_STEPS),
    )


def steps(db: sqlite3.Connection, reference: str) -> list[str]:
    """Return the steps, oldest first."""
    rows = db.execute("SELECT entry FROM trails WHERE reference = ? ORDER BY id", (reference,))
    return [entry for (entry,) in rows]
