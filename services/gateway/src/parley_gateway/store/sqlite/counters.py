"""Totals that end and begin anew."""

import sqlite3

_COUNT = """
INSERT INTO counters VALUES (:name, :amount, :until) ON CONFLICT DO UPDATE SET
    total = iif(expires_at > :now, total, 0) + excluded.total,
    expires_at = iif(expires_at > :now, expires_at, excluded.expires_at)
RETURNING total
"""


def count(db: sqlite3.Connection, name: str, amount: int, *, now: float, expires_at: float) -> int:
    """Add to a total and return it."""
    row = db.execute(_COUNT, {"name": name, "amount": amount, "now": now, "until": expires_at}).fetchone()
    total: int = row[0]
    return total


def counted(db: sqlite3.Connection, name: str, *, now: float) -> int:
    """Return a total, 0 when there is none."""
    row = db.execute("SELECT total FROM counters WHERE name = ? AND expires_at > ?", (name, now)).fetchone()
    return row[0] if row else 0
