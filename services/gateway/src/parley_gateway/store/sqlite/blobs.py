"""Bytes by reference, under a quota."""

import secrets
import sqlite3

from parley_gateway.errors import BlobQuotaError
from parley_gateway.store.base import StoreLimits


def put(db: sqlite3.Connection, data: bytes, *, mime: str, now: float, lane: str, limits: StoreLimits) -> str:
    """Store bytes and return their reference. Raises BlobQuotaError."""
    db.execute("DELETE FROM blobs WHERE expires_at <= ?", (now,))
    used: int = db.execute("SELECT coalesce(sum(size), 0) FROM blobs").fetchone()[0]
    if used + len(data) > limits.blob_quota_bytes:
        raise BlobQuotaError(
            f"{len(data)} bytes don't fit: {used} of {limits.blob_quota_bytes} bytes for blobs are in use"
        )
    ref = secrets.token_urlsafe(16)
    db.execute(
        "INSERT INTO blobs (ref, mime, size, expires_at, data, lane) VALUES (?, ?, ?, ?, ?, ?)",
        (ref, mime, len(data), now + limits.blob_ttl_s, data, lane),
    )
    return ref


def get(db: sqlite3.Connection, ref: str, *, now: float) -> tuple[bytes, str] | None:
    """Return bytes and media type."""
    row: tuple[bytes, str] | None = db.execute(
        "SELECT data, mime FROM blobs WHERE ref = ? AND expires_at > ?", (ref, now)
    ).fetchone()
    return row
