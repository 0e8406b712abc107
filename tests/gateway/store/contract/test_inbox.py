"""Claiming and enqueuing: one atomic, durable step."""

import asyncio
from collections import Counter

from parley_gateway.messages import MessageKind
from parley_gateway.store.base import AcceptOutcome, Receipt, Store, StoreLimits

from tests.gateway.store.building import DEDUPE_TTL_S, START, enqueue, message, queued, take
from tests.gateway.store.conftest import MakeStore


async def offer(store: Store, message_id: str = "m1", *, now: float = START, trace: str = "", **about: str) -> Receipt:
    item = queued(message(message_id, **about), traceparent=trace)  # type: ignore[arg-type]  # Strings only.
    return await store.accept(item, now=now, dedupe_ttl_s=DEDUPE_TTL_S)


async def test_new_message_is_accepted_and_ready(store: Store) -> None:
    receipt = await offer(store, trace="00-trace")

    assert receipt == Receipt(AcceptOutcome.ACCEPTED, "wechat/support/m1", START, 1, "00-trace")
    _, item = await take(store)
    assert item == queued(message("m1"), traceparent="00-trace")


async def test_redelivery_is_counted_and_not_enqueued(store: Store) -> None:
    await offer(store, trace="00-first")

    second = await offer(store, now=START + 5, trace="00-second")
    third = await offer(store, now=START + 10)

    assert second == Receipt(AcceptOutcome.DUPLICATE, "wechat/support/m1", START, 2, "00-first")
    assert (third.outcome, third.first_seen, third.delivery) == (AcceptOutcome.DUPLICATE, START, 3)
    assert (await store.stats(now=START)).depth == 1


async def test_redelivery_after_the_answer_is_still_a_duplicate(store: Store) -> None:
    await offer(store)
    lease, item = await take(store)
    await store.complete(lease, item, now=START)

    assert (await offer(store, now=START + 60)).outcome is AcceptOutcome.DUPLICATE
    assert (await store.stats(now=START)).depth == 0


async def test_of_simultaneous_deliveries_exactly_one_is_accepted(store: Store) -> None:
    receipts = await asyncio.gather(*(offer(store) for _ in range(20)))

    assert Counter(receipt.outcome for receipt in receipts) == {"accepted": 1, "duplicate": 19}
    assert sorted(receipt.delivery for receipt in receipts) == list(range(1, 21))
    assert (await store.stats(now=START)).depth == 1


async def test_delivery_key_is_forgotten_after_its_time(store: Store) -> None:
    await offer(store)

    assert (await offer(store, now=START + DEDUPE_TTL_S - 1)).outcome is AcceptOutcome.DUPLICATE
    again = await offer(store, now=START + DEDUPE_TTL_S)
    assert (again.outcome, again.first_seen, again.delivery) == (AcceptOutcome.ACCEPTED, START + DEDUPE_TTL_S, 1)


async def test_accepted_messages_survive_reopening_with_all_their_fields(store: Store, make_store: MakeStore) -> None:
    sent = queued(message("m1", group=True), due_at=START - 1, traceparent="00-trace")
    await store.accept(sent, now=START, dedupe_ttl_s=DEDUPE_TTL_S)

    reopened = await make_store(instead_of=store)

    assert (await offer(reopened)).outcome is AcceptOutcome.DUPLICATE
    _, item = await take(reopened)
    assert item == sent


async def test_full_lane_claims_nothing(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(lane_messages=2))
    await enqueue(store, message("m1"), message("m2"))

    refused = await offer(store, "m3")
    assert (refused.outcome, refused.delivery) == (AcceptOutcome.FULL, 1)
    assert (await offer(store, "x1", chat="other")).outcome is AcceptOutcome.ACCEPTED
    # A redelivery of what is in the lane is no new message.
    assert (await offer(store, "m1")).outcome is AcceptOutcome.DUPLICATE

    lease, item = await take(store)
    await store.complete(lease, item, now=START)
    assert (await offer(store, "m3")).outcome is AcceptOutcome.ACCEPTED


async def test_full_queue_claims_nothing_in_any_lane(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(queue_messages=3))

    receipts = await asyncio.gather(*(offer(store, f"m{n}", chat=f"chat{n}") for n in range(10)))

    assert Counter(receipt.outcome for receipt in receipts) == {"accepted": 3, "full": 7}
    assert (await store.stats(now=START)).depth == 3
    lease, item = await take(store)
    await store.complete(lease, item, now=START)
    assert (await offer(store, "m9", chat="chat9")).outcome is AcceptOutcome.ACCEPTED
    assert (await offer(store, "m8", chat="chat8")).outcome is AcceptOutcome.FULL


async def test_commands_have_a_lane_of_their_own(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(lane_messages=1))
    await enqueue(store, message("m1"), message("c1", kind=MessageKind.COMMAND))

    question, _ = await take(store)
    command, item = await take(store)

    assert (question.lane + "!", question.conversation) == (command.lane, command.conversation)
    assert item.message.kind is MessageKind.COMMAND
