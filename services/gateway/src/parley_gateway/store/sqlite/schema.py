"""Tables and indexes of the SQLite store, and how an older file is brought up to date.

Every table about conversations has the partition of its conversation, as any other store keeps it. Times are seconds
since 1970. `PRAGMA user_version` counts the steps in MIGRATIONS that a file has been through; a step is never edited
after a release, only followed by another.
"""

import sqlite3

from parley_gateway.errors import StoreUnavailableError

_FIRST = """
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    queued INTEGER NOT NULL DEFAULT 0,       -- messages in all lanes of the partition
    generation INTEGER NOT NULL DEFAULT 0    -- the highest of all forgotten lanes: new lanes start above it
);
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 63)
INSERT INTO partitions (partition) SELECT n FROM numbers;

CREATE TABLE deliveries (
    delivery_key TEXT NOT NULL,
    partition INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    deliveries INTEGER NOT NULL,
    traceparent TEXT NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (delivery_key, partition)
) WITHOUT ROWID;
CREATE INDEX deliveries_expiry ON deliveries (expires_at);

CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    lane TEXT NOT NULL UNIQUE,
    depth INTEGER NOT NULL DEFAULT 0,
    due_since REAL,                          -- since (or from) when the head is due; NULL: the lane is empty
    idle_since REAL,                         -- since when the lane is empty
    owner TEXT NOT NULL DEFAULT '',          -- who leases the lane; '': nobody
    generation INTEGER NOT NULL,             -- counts the holders
    lease_until REAL NOT NULL DEFAULT 0
);
CREATE INDEX lanes_free ON lanes (due_since) WHERE owner = '' AND due_since IS NOT NULL;
CREATE INDEX lanes_leased ON lanes (lease_until) WHERE owner <> '';
CREATE INDEX lanes_idle ON lanes (idle_since) WHERE idle_since IS NOT NULL;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,    -- the order of arrival
    partition INTEGER NOT NULL,
    lane_id INTEGER NOT NULL,
    delivery_key TEXT NOT NULL,
    question_id TEXT,                        -- the message id of a question, or of one that expired; else NULL
    received_at REAL NOT NULL,
    queued_at REAL NOT NULL,
    due_since REAL NOT NULL,                 -- queued_at, or the due time when that is later
    expires_at REAL NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX messages_lane ON messages (lane_id, id);
CREATE INDEX messages_expiry ON messages (expires_at);

CREATE TABLE dead_letters (
    reference TEXT PRIMARY KEY,
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    reason TEXT NOT NULL,
    failed_at REAL NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX dead_letters_age ON dead_letters (failed_at);

CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    asked_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX turns_conversation ON turns (conversation, asked_at);
CREATE INDEX turns_expiry ON turns (expires_at);

CREATE TABLE marks (
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    lane TEXT NOT NULL,                      -- '': a reset of the conversation; else a stop of that lane
    at REAL NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (conversation, lane)
) WITHOUT ROWID;
CREATE INDEX marks_expiry ON marks (expires_at);

CREATE TABLE kept_answers (
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    answer_id TEXT NOT NULL,
    delivery_key TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    parts INTEGER NOT NULL,
    next_part INTEGER NOT NULL DEFAULT 0,    -- the first unread one
    record TEXT NOT NULL,
    PRIMARY KEY (conversation, answer_id)
);
CREATE INDEX kept_answers_delivery ON kept_answers (conversation, delivery_key);
CREATE INDEX kept_answers_expiry ON kept_answers (expires_at);

CREATE TABLE kept_requests (
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    request_key TEXT NOT NULL,
    answer_id TEXT NOT NULL,
    part INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (conversation, request_key)
) WITHOUT ROWID;
CREATE INDEX kept_requests_expiry ON kept_requests (expires_at);

CREATE TABLE cache (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_expiry ON cache (expires_at);

CREATE TABLE locks (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX locks_expiry ON locks (expires_at);

CREATE TABLE blobs (
    ref TEXT PRIMARY KEY,
    mime TEXT NOT NULL,
    size INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX blobs_expiry ON blobs (expires_at, size);
"""

# Whose a record is, so that a lane can be erased; counters and trails.
_SECOND = """
ALTER TABLE messages ADD COLUMN sent_at REAL NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE kept_answers ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN lane TEXT NOT NULL DEFAULT '';
CREATE INDEX dead_letters_conversation ON dead_letters (conversation);
ALTER TABLE blobs ADD COLUMN lane TEXT NOT NULL DEFAULT '';
CREATE INDEX blobs_lane ON blobs (lane) WHERE lane <> '';

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    total INTEGER NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX counters_expiry ON counters (expires_at);

CREATE TABLE trails (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    reference TEXT NOT NULL,
    entry TEXT NOT NULL,
    expires_at REAL NOT NULL
);
CREATE INDEX trails_reference ON trails (reference, id);
CREATE INDEX trails_expiry ON trails (expires_at);
"""

MIGRATIONS = (_FIRST, _SECOND)


def migrate(db: sqlite3.Connection) -> None:
    """Run the steps that this file hasn't been through, each in its own transaction.

    Raises
        StoreUnavailableError: the file was written by a newer release.
    """
    done = int(db.execute("PRAGMA user_version").fetchone()[0])
    if done > len(MIGRATIONS):
        raise StoreUnavailableError(
            f"the store's file has schema {done}, this release knows schemas up to {len(MIGRATIONS)}: "
            "run the release that wrote it, or a newer one"
        )
    for step, script in enumerate(MIGRATIONS[done:], start=done + 1):
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {step};\nCOMMIT;")
