"""The store's contract: what every store guarantees, whatever it is made of.

Keys. Everything of a conversation (delivery keys, queue, leases, ready index, history, kept answers) lives in one of
64 partitions, chosen by a hash of the conversation key; no operation spans partitions except scans over all of them.
Times are seconds since 1970 and passed in by the caller. Every method raises StoreUnavailableError when the store can't
do its work; a write that raised it may still have happened. Methods that take a lease raise LeaseLostError, and change
nothing, when the lease is no longer the caller's or the message is no longer the head of its lane; only `release` is
content with that.

A message whose record this process can't read doesn't block its lane: it goes to the dead letters with the reason
`unreadable` and its record as it is. A turn that can't be read is left out, a kept answer that can't be read is not
offered.
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from parley_gateway.messages import Turn
from parley_gateway.store.records import DeadLetter, KeptAnswer, QueuedMessage

PARTITIONS = 64

TRAIL_STEPS = 200
"""Steps that are kept of a message's trail."""


def partition_of(conversation: str) -> int:
    """Return the partition of a conversation key: the same in every process and every release."""
    return zlib.crc32(conversation.encode()) % PARTITIONS


class AcceptOutcome(StrEnum):
    """What became of a message offered to the store."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's answer to an offered message."""

    outcome: AcceptOutcome
    delivery_key: str
    first_seen: float
    """When the message was offered first."""
    delivery: int
    """Counts the platform's tries: 1 for the first."""
    traceparent: str = ""
    """Trace context of the first delivery, empty when there was none."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one lane until `expires_at`, renewed or lost."""

    lane: str
    conversation: str
    owner: str
    generation: int
    """Rises with every new holder of the lane: the fence."""
    expires_at: float


@dataclass(frozen=True, slots=True)
class ClaimedPart:
    """One part of a kept answer, given to one request of the user."""

    answer_id: str
    index: int
    total: int
    text: str
    question: str


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The state of the queue, for metrics and readiness."""

    depth: int
    """Messages waiting or in work."""
    leased: int
    """Lanes in work."""
    oldest_age_s: float
    """How long ago the message that was enqueued first was received; 0 when none waits."""
    dead_letters: int


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much a store takes and how long it keeps things."""

    queue_messages: int = 10_000
    lane_messages: int = 50
    history_turns: int = 100
    history_ttl_s: float = 7 * 86400.0
    mark_ttl_s: float = 86400.0
    """Reset and stop marks: longer than any message waits or is worked on."""
    kept_answer_ttl_s: float = 86400.0
    dead_letters: int = 10_000
    """The oldest beyond this number are deleted."""
    dead_letter_ttl_s: float = 7 * 86400.0
    blob_bytes: int = 20 * 1024 * 1024
    """The largest blob."""
    blob_quota_bytes: int = 512 * 1024 * 1024
    """All blobs together."""
    blob_ttl_s: float = 3600.0


class Inbox(Protocol):
    """Takes messages in."""

    async def accept(self, item: QueuedMessage, *, now: float, dedupe_ttl_s: float) -> Receipt:
        """Claim the delivery key and enqueue, in one atomic and durable step.

        A key already claimed counts the try and enqueues nothing. A full queue or lane claims nothing. The store gives
        the item its place: lanes are first in, first out.
        """


class Lanes(Protocol):
    """Hands out lanes to workers."""

    async def lease(self, owner: str, *, now: float, ttl_s: float) -> tuple[Lease, QueuedMessage] | None:
        """Lease the free lane whose head has been due longest; None when there is none.

        Only a lane's head is ever worked on: while it isn't due, the lane isn't ready. A lease that ran out counts as
        free; its holder keeps the right to write until somebody else takes the lane. A call that is cancelled may have
        taken a lane all the same: `release_owner` gives it back.
        """

    async def renew(self, lease: Lease, *, now: float, ttl_s: float) -> Lease:
        """Keep a lane for longer."""

    async def update(self, lease: Lease, item: QueuedMessage) -> None:
        """Write the head's record (progress, answer, attempts, due time): fenced and durable."""

    async def complete(
        self,
        lease: Lease,
        item: QueuedMessage,
        *,
        now: float,
        turn: Turn | None = None,
        kept: KeptAnswer | None = None,
        dead: DeadLetter | None = None,
    ) -> QueuedMessage | None:
        """Remove the head; in the same atomic step add its turn to the history, keep its answer, file a dead letter.

        A turn asked before the conversation's last reset is not added. Returns the lane's next message when one is
        due, still under the same lease; otherwise releases the lane and returns None.
        """

    async def behind(self, lease: Lease, *, limit: int) -> tuple[QueuedMessage, ...]:
        """Return the messages that wait behind the head of a leased lane, in their order, due or not."""

    async def release(self, lease: Lease) -> None:
        """Give the lane back at once; does nothing when it was lost already."""

    async def expire(self, *, now: float) -> int:
        """Turn messages whose time to live ended, and that nobody is working on, into NOTICE messages named `expired`.

        In one step the message leaves its lane, a dead letter with reason `expired` is filed, and the notice joins the
        commands' lane (see InboundMessage.lane). The notice has the message's own id, so that what is kept for it
        reaches requests that ask for the message; its `note` is the dead letter's reference; it was sent now and lives
        as long as the message did; it has the message's `reply_state` and no answer. A notice that expires itself only
        becomes a dead letter. Returns how many messages expired.
        """

    async def expire_older(self, *, now: float, received_before: float, conversations: str = "") -> int:
        """Do now what `expire` does, to every question received before a time, whatever its time to live.

        `conversations` is how the keys of the conversations meant begin, such as `wechat/support/`; empty means all.
        Commands and notices stay, and so does what somebody is working on. Returns how many questions expired.
        """

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when a lane may have become ready, or after the time."""

    async def stats(self, *, now: float) -> QueueStats:
        """Count what waits."""

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """List dead letters, newest first."""

    async def dead_letter(self, reference: str) -> DeadLetter | None:
        """Return one dead letter."""

    async def discard(self, reference: str) -> bool:
        """Forget a dead letter, readable or not. Returns whether there was one."""

    async def replay(self, reference: str, *, now: float) -> bool:
        """Move a dead letter back to the end of its lane, as if sent now and never tried.

        It keeps its answer, unless that is a sentence about a failure, and its reply state. No limit refuses it.
        Returns False when there is no such dead letter or its record can't be read.
        """


class Conversations(Protocol):
    """Histories and stop marks."""

    async def history(self, conversation: str, *, now: float) -> tuple[Turn, ...]:
        """Return the turns of a conversation in the order of their questions."""

    async def reset_history(self, conversation: str, *, at: float) -> int:
        """Forget the turns of questions asked up to `at`, refuse later those of questions asked before it.

        Returns how many were forgotten.
        """

    async def forget_turn(self, conversation: str, message_id: str) -> bool:
        """Delete the turn whose question this message was, or was a part of. Returns whether there was one."""

    async def request_stop(self, conversation: str, lane: str, *, at: float) -> None:
        """Mark everything sent to the lane before `at` as no longer wanted. An earlier mark never replaces a later."""

    async def stop_requested(self, conversation: str, lane: str) -> float:
        """Return the time of the last stop mark, 0 when there is none."""


class KeptAnswers(Protocol):
    """Answers that wait for a request of the user to carry them."""

    async def wait_answer(self, conversation: str, answer_id: str, *, timeout_s: float) -> KeptAnswer | None:
        """Return the answer as soon as it is kept, None after the time. Kept by any process."""

    async def claim_part(
        self, conversation: str, *, request_key: str, answer_id: str | None, now: float
    ) -> ClaimedPart | None:
        """Give the next unread part to one request: of the named answer, else of the oldest answer with an unread part.

        The same `request_key` gets the same part again, for as long as the answer is kept. The request whose key equals
        an answer's own delivery key gets the first part of it, always when it names the answer, and otherwise unless
        it was given a part of another answer earlier. None when there is nothing to read.
        """

    async def unread(self, conversation: str, *, now: float) -> int:
        """Count the answers with unread parts."""

    async def pending(self, conversation: str) -> tuple[str, ...]:
        """Return the ids of the conversation's questions that wait or are in work, oldest first.

        One that expired stays listed until its notice is done. A question leaves the list in the same step that keeps
        its answer, so whoever looks here first and for the answer afterwards never misses both.
        """


class Cache(Protocol):
    """Small shared values with a time to live (access tokens, switches), and short locks around making them."""

    async def cache_get(self, key: str, *, now: float) -> tuple[str, float] | None:
        """Return value and expiry time, None when absent or expired."""

    async def cache_put(self, key: str, value: str, *, expires_at: float) -> None:
        """Set a value."""

    async def cache_delete(self, key: str, value: str) -> None:
        """Delete a key if it still holds this value (so that a newer token survives an old complaint)."""

    async def try_lock(self, key: str, owner: str, *, now: float, ttl_s: float) -> bool:
        """Take a lock, or keep it for longer, unless somebody else holds it."""

    async def unlock(self, key: str, owner: str) -> None:
        """Give a lock back."""


class Blobs(Protocol):
    """Bytes by reference: queue and history hold references only."""

    async def put_blob(self, data: bytes, *, mime: str, now: float, lane: str = "") -> str:
        """Store bytes and return their reference; they can be erased together with what else the lane holds.

        Raises BlobTooLargeError, BlobQuotaError.
        """

    async def get_blob(self, ref: str, *, now: float) -> tuple[bytes, str] | None:
        """Return bytes and media type, None when gone."""


class Counters(Protocol):
    """Totals with a time to live, shared by all processes: what a user used today."""

    async def count(self, key: str, amount: int, *, now: float, expires_at: float) -> int:
        """Add to a total and return it. The first to count sets when the total ends and the next begins from 0."""

    async def counted(self, key: str, *, now: float) -> int:
        """Return a total, 0 when there is none."""


class Trails(Protocol):
    """What happened to a message, step by step, for an operator; never what anybody wrote."""

    async def add_trail(self, conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
        """Add a step, a JSON text, to the trail of a reference; the trail is kept for `ttl_s` from now.

        Only the last 200 steps are kept: a message that is tried for days doesn't fill the store.
        """

    async def trail(self, reference: str) -> list[str]:
        """Return the steps, oldest first."""


class Erasing(Protocol):
    """Forgets what people wrote."""

    async def erase(self, conversation: str, lane: str | None, *, at: float) -> int:
        """Erase a conversation, or what one lane of questions put into it, and return how many records went.

        What goes: turns, kept answers, stop marks, dead letters, blobs, and the messages sent before `at`, those of
        the commands' lane included. A message in work goes as well: its worker finds that its lease is lost, and what
        it was about to store isn't stored. With the whole conversation, turns of questions asked before `at` are
        refused from now on, as after `reset_history`.
        """


class Store(Inbox, Lanes, Conversations, KeptAnswers, Cache, Blobs, Counters, Trails, Erasing, Protocol):
    """All of it, over one connection."""

    async def open(self) -> None:
        """Open the store and bring its schema up to date. Raises StoreLockedError, StoreUnavailableError."""

    async def close(self) -> None:
        """Release the owner's leases, finish writes in flight, close."""

    async def release_owner(self, owner: str) -> int:
        """Give back every lane of one owner at once (draining)."""

    async def clean(self, *, now: float) -> None:
        """Delete what its time to live has ended for."""

    async def ping(self) -> None:
        """Raise StoreUnavailableError unless the store can be read and written."""
