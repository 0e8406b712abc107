"""A message with what every store files it under, and the messages that a store makes of others by itself."""

from dataclasses import dataclass, replace

from parley_gateway.messages import MessageKind
from parley_gateway.store.base import partition_of
from parley_gateway.store.records import QueuedMessage, dump_message

EXPIRED = "expired"
"""Name of the notice, and reason of the dead letter, that a message becomes when its time to live ends."""
UNREADABLE = "unreadable"
"""Reason of the dead letter that a message becomes whose record can't be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message with what it is stored under, worked out once."""

    item: QueuedMessage
    key: str
    lane: str
    conversation: str
    partition: int
    record: str

    @classmethod
    def of(cls, item: QueuedMessage) -> "Entry":
        """Return the entry of a message."""
        conversation = item.message.conversation.key
        return cls(item, item.key, item.message.lane, conversation, partition_of(conversation), dump_message(item))

    @property
    def question_id(self) -> str | None:
        """The message id of a question, or of one that expired; None for anything else."""
        message = self.item.message
        expired = message.kind is MessageKind.NOTICE and message.text == EXPIRED
        return message.message_id if message.kind is MessageKind.QUESTION or expired else None


def expired_key(item: QueuedMessage) -> str:
    """Return what the dead letter's reference of an expired message is made of.

    A notice has its message's delivery key; its dead letter must not take the place of the message's.
    """
    return f"{item.key}#notice" if item.message.kind is MessageKind.NOTICE else item.key


def expired_notice(item: QueuedMessage, reference: str, *, now: float) -> QueuedMessage | None:
    """Return the notice that tells the user; None for a notice, whose end causes no other."""
    if item.message.kind is MessageKind.NOTICE:
        return None
    return QueuedMessage(
        message=replace(item.message, kind=MessageKind.NOTICE, text=EXPIRED, sent_at=now),
        received_at=now,
        reply_state=item.reply_state,
        traceparent=item.traceparent,
        note=reference,
    )


def replayed(item: QueuedMessage, *, now: float) -> QueuedMessage:
    """Return a dead letter's message as if it was sent now and never tried."""
    return replace(
        item,
        message=replace(item.message, sent_at=now),
        received_at=now,
        due_at=0.0,
        attempts=0,
        failures=0,
        # A sentence about the failure is no answer: the model is asked again.
        answer=None if item.answer and item.answer.failure else item.answer,
    )
