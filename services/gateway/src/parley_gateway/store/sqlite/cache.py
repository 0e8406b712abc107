"""Small shared values that expire, and short locks."""

import sqlite3


def get(db: sqlite3.Connection, name: str, *, now: float) -> tuple[str, float] | None:
    """Return value and expiry time."""
    row: tuple[str, float] | None = db.execute(
        "SELECT value, expires_at FROM cache WHERE name = ? AND expires_at > ?", (name, now)
    ).fetchone()
    return row


def put(db: sqlite3.Connection, name: str, value: str, *, expires_at: float) -> None:
    """Set a value."""
    db.execute("INSERT OR REPLACE INTO cache VALUES (?, ?, ?)", (name, value, expires_at))


def delete(db: sqlite3.Connection, name: str, value: str) -> None:
    """Delete a name if it still holds this value."""
    db.execute("DELETE FROM cache WHERE name = ? AND value = ?", (name, value))


def try_lock(db: sqlite3.Connection, name: str, owner: str, *, now: float, ttl_s: float) -> bool:
    """Take or extend a lock unless somebody else holds it."""
    taken = db.execute(
        "INSERT INTO locks VALUES (:name, :owner, :until) ON CONFLICT DO UPDATE"
        " SET owner = :owner, expires_at = :until WHERE owner = :owner OR expires_at <= :now",
        {"name": name, "owner": owner, "until": now + ttl_s, "now": now},
    )
    return taken.rowcount > 0


def unlock(db: sqlite3.Connection, name: str, owner: str) -> None:
    """Give a lock back if the owner holds it."""
    db.execute("DELETE FROM locks WHERE name = ? AND owner = ?", (name, owner))
