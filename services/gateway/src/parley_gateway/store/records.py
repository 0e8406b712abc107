"""Stored records and their JSON form.

Every record carries a version. A reader accepts its own version and the one before, fills in what an older record
lacks, and keeps fields that it doesn't know, so that old and new processes can share a store during a rolling update.
A record that can't be read raises UnreadableRecordError; what a store does with it is said in `base.py`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from parley_gateway.messages import Conversation, InboundMessage, MessageKind, OutboundPart, Turn

VERSION = 1

_REFERENCE_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without the characters that people mix up when they read a reference aloud or copy it from a screen."""


class UnreadableRecordError(ValueError):
    """The record has a version that this process doesn't read, or isn't a record at all."""


class PartStatus(StrEnum):
    """How far one part of an answer got."""

    PENDING = "pending"
    SENDING = "sending"
    """The call to the platform began; its outcome isn't recorded."""
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """One rendered part and what became of it."""

    part: OutboundPart
    uuid: str
    """Made once, when the answer was stored: the idempotency key of every try to send this part."""
    status: PartStatus = PartStatus.PENDING
    first_tried_at: float = 0.0
    remote_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, kept as they came."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A complete answer: stored before its first part is sent, never asked for again."""

    markdown: str
    parts: tuple[AnswerPart, ...]
    answered_at: float
    truncated: bool = False
    tokens: int = 0
    """Tokens that asking for it took, question and answer together; 0 when the gateway answered itself."""
    failure: str = ""
    """Set when this is a sentence about a failure instead of the model's answer: the reason, for the dead letter."""
    remember: bool = True
    """False when the turn must not enter the history (a content filter refused it, the gateway answered itself)."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, kept as they came."""

    def with_part(self, index: int, part: AnswerPart) -> "StoredAnswer":
        """Return a copy with one part replaced."""
        parts = (*self.parts[:index], part, *self.parts[index + 1 :])
        return replace(self, parts=parts)


@dataclass(frozen=True, slots=True)
class JoinedMessage:
    """One of several messages of a user that are answered together."""

    message_id: str
    text: str
    target: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue with everything that is known about its way."""

    message: InboundMessage
    received_at: float
    due_at: float = 0.0
    """Not worked on before this time; 0 means at once."""
    attempts: int = 0
    """How often a worker began to work on it since the last orderly end: a message that kills its worker counts up."""
    failures: int = 0
    """How often it failed in a way that may pass."""
    answer: StoredAnswer | None = None
    reply_state: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    note: str = ""
    """For a notice: the id that the user's sentence names."""
    burst: str = ""
    """Only messages with the same mark are ever answered together: a command between two changes it. Empty: none."""
    joined: tuple[JoinedMessage, ...] = ()
    """All messages that are answered together, this one first, in the order in which they were sent; empty: only this.

    The message's `target` is then that of the last: the answer stands below it on the user's screen.
    """
    quoted: str = ""
    """The text of the message that this one replies to."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, kept as they came."""

    @property
    def key(self) -> str:
        """The delivery key."""
        return self.message.delivery_key

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The ids of all messages that are answered together."""
        return tuple(each.message_id for each in self.joined) or (self.message.message_id,)

    @property
    def question(self) -> str:
        """The text of all messages that are answered together."""
        return "\n".join(each.text for each in self.joined) or self.message.text

    def join(self, parts: Sequence[JoinedMessage]) -> "QueuedMessage":
        """Return a copy that answers these messages together, the last of which gets the answer."""
        return replace(self, joined=tuple(parts), message=replace(self.message, target=parts[-1].target))

    @property
    def expires_at(self) -> float:
        """When an answer stops making sense."""
        return self.message.sent_at + self.message.time_to_live_s


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that waits for a request of the user."""

    answer_id: str
    """The message id of the question."""
    delivery_key: str
    question: str
    parts: tuple[str, ...]
    created_at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed for good."""

    reference: str
    """The id in the sentence that the user saw."""
    item: QueuedMessage | None
    """None when its record can't be read."""
    reason: str
    failed_at: float
    record: str = ""
    """The stored JSON when `item` is None; empty otherwise."""


def reference_of(delivery_key: str) -> str:
    """Return the short id by which a user's sentence and a dead letter name a message: the same every time."""
    number = int.from_bytes(hashlib.blake2b(delivery_key.encode(), digest_size=8).digest())
    characters = []
    for _ in range(8):
        number, index = divmod(number, len(_REFERENCE_ALPHABET))
        characters.append(_REFERENCE_ALPHABET[index])
    return "".join(characters)


def dump_message(item: QueuedMessage) -> str:
    """Return the JSON form of a queued message."""
    message = item.message
    data: dict[str, Any] = {
        **item.extra,
        "v": VERSION,
        "conversation": [
            message.conversation.platform,
            message.conversation.bot,
            message.conversation.tenant,
            message.conversation.chat,
            message.conversation.thread,
        ],
        "message_id": message.message_id,
        "sender": message.sender,
        "kind": message.kind.value,
        "text": message.text,
        "sent_at": message.sent_at,
        "ttl": message.time_to_live_s,
        "group": message.group,
        "quotes": message.quotes,
        "sender_tenant": message.sender_tenant,
        "replaces": message.replaces,
        "target": dict(message.target),
        "received_at": item.received_at,
        "due_at": item.due_at,
        "attempts": item.attempts,
        "failures": item.failures,
        "reply_state": dict(item.reply_state),
        "traceparent": item.traceparent,
        "note": item.note,
        "burst": item.burst,
        "joined": [[each.message_id, each.text, dict(each.target)] for each in item.joined],
        "quoted": item.quoted,
        "answer": _dump_answer(item.answer) if item.answer else None,
    }
    return _to_json(data)


def load_message(text: str) -> QueuedMessage:
    """Return the queued message of a JSON form. Raises UnreadableRecordError."""
    with _reading(text) as data:
        platform, bot, tenant, chat, thread = data.pop("conversation")
        answer = data.pop("answer", None)
        message = InboundMessage(
            conversation=Conversation(platform, bot, tenant, chat, thread),
            message_id=data.pop("message_id"),
            sender=data.pop("sender"),
            kind=MessageKind(data.pop("kind")),
            text=data.pop("text"),
            sent_at=data.pop("sent_at"),
            time_to_live_s=data.pop("ttl"),
            group=data.pop("group", False),
            quotes=data.pop("quotes", ""),
            sender_tenant=data.pop("sender_tenant", ""),
            replaces=data.pop("replaces", ""),
            target=data.pop("target", {}),
        )
        return QueuedMessage(
            message=message,
            received_at=data.pop("received_at", message.sent_at),
            due_at=data.pop("due_at", 0.0),
            attempts=data.pop("attempts", 0),
            failures=data.pop("failures", 0),
            reply_state=data.pop("reply_state", {}),
            traceparent=data.pop("traceparent", ""),
            note=data.pop("note", ""),
            burst=data.pop("burst", ""),
            joined=tuple(JoinedMessage(*row) for row in data.pop("joined", ())),
            quoted=data.pop("quoted", ""),
            answer=_load_answer(answer) if answer else None,
            extra=data,
        )


def _dump_answer(answer: StoredAnswer) -> dict[str, Any]:
    return {
        **answer.extra,
        "markdown": answer.markdown,
        "answered_at": answer.answered_at,
        "truncated": answer.truncated,
        "tokens": answer.tokens,
        "failure": answer.failure,
        "remember": answer.remember,
        "parts": [
            {
                **stored.extra,
                "text": stored.part.text,
                "payload": stored.part.payload,
                "fallback": stored.part.fallback_text,
                "uuid": stored.uuid,
                "status": stored.status.value,
                "first_tried_at": stored.first_tried_at,
                "remote_id": stored.remote_id,
            }
            for stored in answer.parts
        ],
    }


def _load_answer(data: dict[str, Any]) -> StoredAnswer:
    parts = tuple(_load_part(row) for row in data.pop("parts"))
    return StoredAnswer(
        markdown=data.pop("markdown"),
        parts=parts,
        answered_at=data.pop("answered_at"),
        truncated=data.pop("truncated", False),
        tokens=data.pop("tokens", 0),
        failure=data.pop("failure", ""),
        remember=data.pop("remember", True),
        extra=data,
    )


def _load_part(data: dict[str, Any]) -> AnswerPart:
    return AnswerPart(
        part=OutboundPart(text=data.pop("text"), payload=data.pop("payload"), fallback_text=data.pop("fallback", "")),
        uuid=data.pop("uuid"),
        status=PartStatus(data.pop("status")),
        first_tried_at=data.pop("first_tried_at", 0.0),
        remote_id=data.pop("remote_id", ""),
        extra=data,
    )


def dump_turn(turn: Turn) -> str:
    """Return the JSON form of a turn."""
    data = {
        "v": VERSION,
        "question": turn.question,
        "answer": turn.answer,
        "asked_at": turn.asked_at,
        "ids": list(turn.message_ids),
    }
    return _to_json(data)


def load_turn(text: str) -> Turn:
    """Return the turn of a JSON form. Raises UnreadableRecordError."""
    with _reading(text) as data:
        return Turn(data["question"], data["answer"], data["asked_at"], tuple(data.get("ids", ())))


def dump_kept(kept: KeptAnswer) -> str:
    """Return the JSON form of a kept answer."""
    data = {
        "v": VERSION,
        "id": kept.answer_id,
        "key": kept.delivery_key,
        "question": kept.question,
        "parts": list(kept.parts),
        "created_at": kept.created_at,
    }
    return _to_json(data)


def load_kept(text: str) -> KeptAnswer:
    """Return the kept answer of a JSON form. Raises UnreadableRecordError."""
    with _reading(text) as data:
        return KeptAnswer(data["id"], data["key"], data["question"], tuple(data["parts"]), data["created_at"])


def dump_dead(dead: DeadLetter) -> str:
    """Return the JSON form of a dead letter's message, as it was stored when it can't be read."""
    return dead.record if dead.item is None else dump_message(dead.item)


def load_dead(reference: str, reason: str, failed_at: float, record: str) -> DeadLetter:
    """Return a dead letter, with the bare record when that can't be read: an operator must see every one."""
    try:
        return DeadLetter(reference, load_message(record), reason, failed_at)
    except UnreadableRecordError:
        return DeadLetter(reference, None, reason, failed_at, record)


def _to_json(data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON from outside can hold, exists in a store only as an escape.
        return json.dumps(data, separators=(",", ":"))
    return text


@contextmanager
def _reading(text: str) -> Iterator[dict[str, Any]]:
    """Parse a record, check its version, and turn whatever is wrong with its form into one error.

    The error never quotes the record: it holds what a user wrote.
    """
    try:
        data = json.loads(text)
        version = data.pop("v", None)
        if version not in (VERSION, VERSION - 1):
            raise UnreadableRecordError(
                f"a record of version {version!r} can't be read: this process reads {VERSION - 1} and {VERSION}"
            )
        yield data
    except UnreadableRecordError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableRecordError(f"a record isn't of the expected form ({type(error).__name__})") from error
