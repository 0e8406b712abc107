"""Who may work on which lane: leases with a fence.

A lane's generation rises with every new holder and never falls, not even when the lane was forgotten meanwhile (see
`cleaning.py`). Every write under a lease checks lane, owner and generation, and that the message is still the head, in
the transaction that writes.
"""

import sqlite3
from dataclasses import dataclass, replace

from parley_gateway.errors import LeaseLostError
from parley_gateway.messages import Turn
from parley_gateway.store.base import Lease, StoreLimits
from parley_gateway.store.records import DeadLetter, KeptAnswer, QueuedMessage, dump_dead
from parley_gateway.store.sqlite import conversations, dead_letters, kept, lanes
from parley_gateway.store.sqlite.lanes import Lane

# Both halves read an index: the first from its start, the second only leases that ran out, which are few.
_READY = """
SELECT id, partition, conversation, lane, generation FROM (
    SELECT * FROM (
        SELECT * FROM lanes WHERE owner = '' AND due_since IS NOT NULL AND due_since <= :now
        ORDER BY due_since LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT * FROM lanes INDEXED BY lanes_leased WHERE owner <> '' AND lease_until <= :now AND due_since <= :now
        ORDER BY due_since LIMIT 1
    )
) ORDER BY due_since LIMIT 1
"""

_NEXT_READY = """
SELECT min(at) FROM (
    SELECT min(due_since) AS at FROM lanes WHERE owner = '' AND due_since IS NOT NULL
    UNION ALL
    SELECT min(max(lease_until, due_since)) AS at FROM lanes WHERE owner <> ''
)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What goes into the store when a message is done."""

    turn: Turn | None = None
    kept: KeptAnswer | None = None
    dead: DeadLetter | None = None


def lease(db: sqlite3.Connection, owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
    """Lease the ready lane whose head has been due longest."""
    while row := db.execute(_READY, {"now": now}).fetchone():
        lane_id, partition, conversation, name, generation = row
        head = lanes.readable_head(db, Lane(lane_id, partition, conversation, name), now=now)
        if head is None or head.due_since > now:
            # The heads before it couldn't be read and are gone: the lane isn't ready after all. Nobody holds it. Its
            # due time is set from what is there, so that this loop ends whatever the row said.
            due_since = head.due_since if head else None
            db.execute("UPDATE lanes SET owner = '', due_since = ? WHERE id = ?", (due_since, lane_id))
            continue
        db.execute(
            "UPDATE lanes SET owner = ?, generation = ?, lease_until = ? WHERE id = ?",
            (owner, generation + 1, now + ttl_s, lane_id),
        )
        return Lease(name, conversation, owner, generation + 1, now + ttl_s), head.item
    return None


def renew(db: sqlite3.Connection, held: Lease, *, now: float, ttl_s: float) -> Lease:
    """Move the end of a lease."""
    lane = _fenced(db, held)
    db.execute("UPDATE lanes SET lease_until = ? WHERE id = ?", (now + ttl_s, lane.id))
    return replace(held, expires_at=now + ttl_s)


def update(db: sqlite3.Connection, held: Lease, item: QueuedMessage) -> None:
    """Replace the head's record."""
    lane = _fenced(db, held)
    lanes.rewrite(db, lane, _fenced_head(db, lane, item), item)


def complete(
    db: sqlite3.Connection,
    held: Lease,
    item: QueuedMessage,
    outcome: Outcome,
    *,
    now: float,
    limits: StoreLimits,
) -> QueuedMessage | None:
    """Take the head out, store what came of it; return the next head if it is due, else release the lane."""
    lane = _fenced(db, held)
    lanes.remove(db, lane, _fenced_head(db, lane, item), now=now)
    if outcome.turn:
        conversations.add_turn(db, lane.conversation, lane.name, outcome.turn, now=now, limits=limits)
    if outcome.kept:
        kept.keep(db, lane.conversation, lane.name, outcome.kept, now=now, limits=limits)
    if outcome.dead:
        dead = outcome.dead
        dead_letters.file(
            db,
            lane.conversation,
            lane.name,
            reference=dead.reference,
            reason=dead.reason,
            failed_at=dead.failed_at,
            record=dump_dead(dead),
        )
    head = lanes.readable_head(db, lane, now=now)
    if head and head.due_since <= now:
        return head.item
    db.execute("UPDATE lanes SET owner = '' WHERE id = ?", (lane.id,))
    return None


def behind(db: sqlite3.Connection, held: Lease, *, limit: int) -> tuple[QueuedMessage, ...]:
    """Return what waits behind the head of a leased lane."""
    return lanes.after_head(db, _fenced(db, held), limit=limit)


def release(db: sqlite3.Connection, held: Lease) -> bool:
    """Give a lane back. Returns False when it was lost already."""
    done = db.execute(
        "UPDATE lanes SET owner = '' WHERE lane = ? AND owner = ? AND generation = ?",
        (held.lane, held.owner, held.generation),
    )
    return done.rowcount > 0


def release_owner(db: sqlite3.Connection, owner: str) -> int:
    """Give back every lane of one owner."""
    return db.execute("UPDATE lanes SET owner = '' WHERE owner <> '' AND owner = ?", (owner,)).rowcount


def release_all(db: sqlite3.Connection) -> int:
    """Give back every lane: only for the one process that holds the file's lock, when it starts or stops."""
    return db.execute("UPDATE lanes SET owner = '' WHERE owner <> ''").rowcount


def leased(db: sqlite3.Connection, *, now: float) -> int:
    """Count the lanes in work."""
    count: int = db.execute("SELECT count(*) FROM lanes WHERE owner <> '' AND lease_until > ?", (now,)).fetchone()[0]
    return count


def next_ready_at(db: sqlite3.Connection) -> float | None:
    """Return when a lane is ready by itself: its head falls due or its lease runs out. None when all are empty."""
    at: float | None = db.execute(_NEXT_READY).fetchone()[0]
    return at


def _fenced(db: sqlite3.Connection, held: Lease) -> Lane:
    row = db.execute(
        "SELECT id, partition, conversation, lane FROM lanes WHERE lane = ? AND owner = ? AND generation = ?",
        (held.lane, held.owner, held.generation),
    ).fetchone()
    if row is None:
        raise LeaseLostError(f"{held.owner} no longer holds generation {held.generation} of its lane")
    return Lane(*row)


def _fenced_head(db: sqlite3.Connection, lane: Lane, item: QueuedMessage) -> int:
    head = lanes.head_id(db, lane)
    if head is None or head[1] != item.key:
        raise LeaseLostError("the message is no longer the head of its lane")
    return head[0]
