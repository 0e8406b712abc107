"""Messages whose time to live ended, dead letters, and replaying them."""

from dataclasses import replace

import pytest
from parley_gateway.errors import LeaseLostError
from parley_gateway.messages import MessageKind
from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.records import DeadLetter, QueuedMessage, StoredAnswer

from tests.gateway.store.building import (
    LEASE_TTL_S,
    START,
    answer,
    conversation,
    enqueue,
    enqueue_many,
    message,
    queued,
    take,
)
from tests.gateway.store.conftest import MakeStore

CHAT = conversation().key
TTL_S = 600.0
OVER = START + TTL_S


async def fail(store: Store, item: QueuedMessage, reference: str, *, at: float = START) -> None:
    """Make a message a dead letter, as a worker does."""
    lease, taken = await take(store, now=at)
    assert taken.key == item.key
    await store.complete(lease, taken, now=at, dead=DeadLetter(reference, item, "failed", at))


async def test_expired_message_becomes_a_notice_and_a_dead_letter(store: Store) -> None:
    sent = replace(queued(message("m1", group=True), traceparent="00-t"), reply_state={"card": "c1"}, attempts=3)
    await store.accept(sent, now=START, dedupe_ttl_s=60)

    assert await store.expire(now=OVER - 1) == 0
    assert await store.expire(now=OVER) == 1

    (dead,) = await store.dead_letters()
    assert (dead.item, dead.reason, dead.failed_at) == (sent, "expired", OVER)
    lease, notice = await take(store, now=OVER)
    assert lease.lane == sent.message.lane + "!"
    assert notice == QueuedMessage(
        message=replace(sent.message, kind=MessageKind.NOTICE, text="expired", sent_at=OVER),
        received_at=OVER,
        reply_state={"card": "c1"},
        traceparent="00-t",
        note=dead.reference,
    )
    assert await store.complete(lease, notice, now=OVER) is None
    assert (await store.stats(now=OVER)).depth == 0


async def test_every_message_of_a_lane_expires_by_its_own_time(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2", time_to_live_s=TTL_S + 60), message("m3"))

    assert await store.expire(now=OVER) == 2

    _, item = await take(store, now=OVER + 1)
    assert item.message.message_id == "m2"
    lease, notice = await take(store, now=OVER + 1)
    following = await store.complete(lease, notice, now=OVER + 1)
    assert following is not None
    assert [notice.message.message_id, following.message.message_id] == ["m1", "m3"]


async def test_message_in_work_does_not_expire_but_those_behind_it_do(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"), now=OVER - 1)
    lease, item = await take(store, now=OVER - 1)

    assert await store.expire(now=OVER) == 1

    assert [dead.item.message.message_id for dead in await store.dead_letters() if dead.item] == ["m2"]
    await store.complete(lease, item, now=OVER)


async def test_message_whose_worker_died_expires_and_the_lease_with_it(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2", time_to_live_s=2 * TTL_S))
    lease, item = await take(store, now=OVER - LEASE_TTL_S)

    assert await store.expire(now=OVER) == 1

    with pytest.raises(LeaseLostError):
        await store.renew(lease, now=OVER, ttl_s=LEASE_TTL_S)
    with pytest.raises(LeaseLostError):
        await store.complete(lease, item, now=OVER)
    _, following = await take(store, now=OVER)
    assert following.message.message_id == "m2"


async def test_expired_message_that_was_put_off_does_not_wait_for_its_due_time(store: Store) -> None:
    await store.accept(queued(message("m1"), due_at=OVER + 3600), now=START, dedupe_ttl_s=60)

    assert await store.expire(now=OVER) == 1
    _, notice = await take(store, now=OVER)
    assert notice.message.kind is MessageKind.NOTICE


async def test_notice_that_expires_causes_no_other(store: Store) -> None:
    await enqueue(store, message("m1"))
    await store.expire(now=OVER)

    assert await store.expire(now=OVER + TTL_S - 1) == 0
    assert await store.expire(now=OVER + TTL_S) == 1

    assert await store.lease("worker", now=OVER + TTL_S, ttl_s=LEASE_TTL_S) is None
    assert (await store.stats(now=OVER)).depth == 0
    assert [dead.reason for dead in await store.dead_letters()] == ["expired", "expired"]


async def test_expired_question_is_pending_until_its_notice_is_done(store: Store) -> None:
    await enqueue(store, message("m1"), message("c1", kind=MessageKind.COMMAND))
    await store.expire(now=OVER)

    assert set(await store.pending(CHAT)) == {"m1", "c1"}
    lease, notice = await take(store, now=OVER)
    await store.complete(lease, notice, now=OVER)
    assert notice.message.message_id not in await store.pending(CHAT)


async def test_many_messages_expire_in_one_call(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(lane_messages=1000))
    await enqueue_many(store, 450, chats=10)

    assert await store.expire(now=OVER) == 450
    assert (await store.stats(now=OVER)).dead_letters == 450


async def test_dead_letters_are_listed_newest_first(store: Store) -> None:
    for n in range(3):
        await enqueue(store, message(f"m{n}"))
        await fail(store, queued(message(f"m{n}")), f"ref{n}", at=START + n)

    assert [dead.reference for dead in await store.dead_letters()] == ["ref2", "ref1", "ref0"]
    assert [dead.reference for dead in await store.dead_letters(limit=2)] == ["ref2", "ref1"]
    found = await store.dead_letter("ref1")
    assert found == DeadLetter("ref1", queued(message("m1")), "failed", START + 1)
    assert await store.dead_letter("nothing") is None


async def test_dead_letters_are_bounded_in_time_and_number(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(dead_letters=2, dead_letter_ttl_s=100))
    for n in range(4):
        await enqueue(store, message(f"m{n}"))
        await fail(store, queued(message(f"m{n}")), f"ref{n}", at=START + n)

    await store.clean(now=START + 4)
    assert [dead.reference for dead in await store.dead_letters()] == ["ref3", "ref2"]
    await store.clean(now=START + 102)
    assert [dead.reference for dead in await store.dead_letters()] == ["ref3"]


async def test_replayed_message_waits_in_its_lane_as_if_sent_now(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"))
    tried = replace(
        queued(message("m1")), attempts=3, failures=2, due_at=START + 9, answer=answer(), reply_state={"card": "c"}
    )
    await fail(store, tried, "ref")
    later = START + 86400

    assert await store.replay("ref", now=later)

    assert await store.dead_letters() == []
    lease, item = await take(store, now=later)
    assert item.message.message_id == "m2"
    again = await store.complete(lease, item, now=later)
    assert again == replace(
        tried, message=replace(tried.message, sent_at=later), received_at=later, attempts=0, failures=0, due_at=0.0
    )
    assert await store.expire(now=later) == 0
    assert not await store.replay("ref", now=later)


async def test_replay_does_not_repeat_a_sentence_about_the_failure(store: Store) -> None:
    await enqueue(store, message("m1"))
    sorry = StoredAnswer("Sorry", (), START, failure="upstream_auth")
    await fail(store, replace(queued(message("m1")), answer=sorry), "ref")

    assert await store.replay("ref", now=START)

    _, item = await take(store)
    assert item.answer is None
