"""The embedded store: one SQLite file, owned by one process.

`writer.py` is the thread that owns the connection and commits in groups; `files.py` makes the files and holds the lock;
`schema.py` has the tables. Everything else is plain functions on a connection, each run inside one transaction:
`lanes.py` and `leases.py`, `expiry.py` and `dead_letters.py`, `conversations.py`, `kept.py`, `cache.py`,
`blobs.py`, `counters.py`, `trails.py`, `erasing.py`, `cleaning.py`. `store.py` puts them together.
"""

from parley_gateway.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
