"""Messages, answers and a clock for the store's tests."""

import asyncio
from dataclasses import dataclass

from parley_gateway.messages import Conversation, InboundMessage, MessageKind, OutboundPart
from parley_gateway.store.base import AcceptOutcome, Lease, Store
from parley_gateway.store.records import AnswerPart, KeptAnswer, QueuedMessage, StoredAnswer

START = 1_700_000_000.0
DEDUPE_TTL_S = 600.0
LEASE_TTL_S = 30.0


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = START

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


def conversation(chat: str = "chat") -> Conversation:
    return Conversation("wechat", "support", "", chat)


def message(
    message_id: str = "m1",
    *,
    chat: str = "chat",
    sender: str = "user",
    kind: MessageKind = MessageKind.QUESTION,
    group: bool = False,
    sent_at: float = START,
    time_to_live_s: float = 600.0,
) -> InboundMessage:
    return InboundMessage(
        conversation=conversation(chat),
        message_id=message_id,
        sender=sender,
        kind=kind,
        text=f"text of {message_id}",
        sent_at=sent_at,
        time_to_live_s=time_to_live_s,
        group=group,
        target={"reply": "push"},
    )


def queued(inbound: InboundMessage, *, due_at: float = 0.0, traceparent: str = "") -> QueuedMessage:
    return QueuedMessage(inbound, received_at=inbound.sent_at, due_at=due_at, traceparent=traceparent)


def answer(markdown: str = "**answer**") -> StoredAnswer:
    part = AnswerPart(OutboundPart(text="answer", fallback_text="plain"), uuid="uuid-1")
    return StoredAnswer(markdown, (part,), answered_at=START)


def kept(answer_id: str = "m1", parts: tuple[str, ...] = ("one", "two"), *, created_at: float = START) -> KeptAnswer:
    key = message(answer_id).delivery_key
    return KeptAnswer(answer_id, key, f"question {answer_id}", parts, created_at)


async def enqueue(store: Store, *inbound: InboundMessage, now: float = START) -> None:
    """Accept messages, each of which must be taken."""
    for one in inbound:
        receipt = await store.accept(queued(one), now=now, dedupe_ttl_s=DEDUPE_TTL_S)
        assert receipt.outcome is AcceptOutcome.ACCEPTED, receipt


async def enqueue_many(store: Store, count: int, *, chats: int, prefix: str = "m") -> None:
    """Accept messages `m0`, `m1`, … spread over chats `chat0`, `chat1`, …, many at a time."""
    for first in range(0, count, 1000):
        numbers = range(first, min(first + 1000, count))
        await asyncio.gather(
            *(enqueue(store, message(f"{prefix}{n}", chat=f"{prefix}-chat{n % chats}")) for n in numbers)
        )


async def take(store: Store, *, owner: str = "worker", now: float = START) -> tuple[Lease, QueuedMessage]:
    """Lease a lane; there must be one."""
    leased = await store.lease(owner, now=now, ttl_s=LEASE_TTL_S)
    assert leased is not None
    return leased


async def keep(store: Store, answer: KeptAnswer, *, now: float = START) -> None:
    """Send a question through the queue so that its answer is kept."""
    await enqueue(store, message(answer.answer_id), now=now)
    lease, item = await take(store, now=now)
    assert item.message.message_id == answer.answer_id
    await store.complete(lease, item, now=now, kept=answer)
