"""Records of other releases: the one before is read, others block nothing.

`VERSION` is patched while a record is written: that is the only way to play a process of another release.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from parley_gateway.messages import MessageKind, Turn
from parley_gateway.store import records
from parley_gateway.store.base import Store
from parley_gateway.store.records import DeadLetter

from tests.gateway.store.building import LEASE_TTL_S, START, conversation, enqueue, keep, kept, message, queued, take

CHAT = conversation().key


@contextmanager
def release(version: int) -> Iterator[None]:
    """Write records as another release does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "VERSION", version)
        yield


async def test_message_of_the_release_before_is_worked_on(store: Store) -> None:
    with release(0):
        await enqueue(store, message("m1"))

    _, item = await take(store)
    assert item == queued(message("m1"))


async def test_unreadable_message_becomes_a_dead_letter_and_the_lane_moves_on(store: Store) -> None:
    with release(2):
        await enqueue(store, message("m1"), message("m2"))
    await enqueue(store, message("m3"))

    lease, item = await take(store)

    assert item.message.message_id == "m3"
    dead = await store.dead_letters()
    assert [(one.item, one.reason) for one in dead] == [(None, "unreadable")] * 2
    assert {json.loads(one.record)["message_id"] for one in dead} == {"m1", "m2"}
    assert (await store.stats(now=START)).depth == 1
    assert await store.complete(lease, item, now=START) is None


async def test_lane_of_unreadable_messages_only_is_empty_afterwards(store: Store) -> None:
    with release(2):
        await enqueue(store, message("m1"))
    await enqueue(store, message("x", chat="other"))

    lease, item = await take(store)

    assert item.message.message_id == "x"
    assert await store.lease("other", now=START, ttl_s=LEASE_TTL_S) is None
    await store.complete(lease, item, now=START)
    assert (await store.stats(now=START)).depth == 0


async def test_worker_skips_an_unreadable_next_message(store: Store) -> None:
    await enqueue(store, message("m1"))
    with release(2):
        await enqueue(store, message("m2"))
    await enqueue(store, message("m3"))
    lease, item = await take(store)

    following = await store.complete(lease, item, now=START)

    assert following is not None
    assert following.message.message_id == "m3"
    assert [one.reason for one in await store.dead_letters()] == ["unreadable"]


async def test_unreadable_message_expires_without_a_notice(store: Store) -> None:
    with release(2):
        await enqueue(store, message("m1"))

    assert await store.expire(now=START + 600) == 1

    assert [one.reason for one in await store.dead_letters()] == ["unreadable"]
    assert (await store.stats(now=START)).depth == 0


async def test_unreadable_dead_letter_is_replayed_only_by_who_can_read_it(store: Store) -> None:
    with release(2):
        await enqueue(store, message("m1"))
    assert await store.lease("worker", now=START, ttl_s=LEASE_TTL_S) is None
    (dead,) = await store.dead_letters()

    assert not await store.replay(dead.reference, now=START)
    with release(2):
        assert await store.replay(dead.reference, now=START)
        _, item = await take(store)
    assert item.message.message_id == "m1"


async def test_dead_letter_keeps_an_unreadable_record_as_it_is(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)
    raw = '{"v": 99, "what": "ever"}'

    await store.complete(lease, item, now=START, dead=DeadLetter("ref", None, "unreadable", START, raw))

    assert await store.dead_letter("ref") == DeadLetter("ref", None, "unreadable", START, raw)


async def test_unreadable_turn_is_left_out(store: Store) -> None:
    for n, version in enumerate((1, 2, 0)):
        await enqueue(store, message(f"m{n}"))
        lease, item = await take(store)
        with release(version):
            await store.complete(lease, item, now=START, turn=Turn(f"q{n}", "a", START + n))

    assert [turn.question for turn in await store.history(CHAT, now=START)] == ["q0", "q2"]


async def test_unreadable_kept_answer_hides_no_other(store: Store) -> None:
    with release(2):
        await keep(store, kept("m1"))
    with release(0):
        await keep(store, kept("m2", ("two",)))

    assert await store.wait_answer(CHAT, "m1", timeout_s=0) is None
    assert await store.claim_part(CHAT, request_key="own", answer_id="m1", now=START) is None
    claimed = await store.claim_part(CHAT, request_key="r1", answer_id=None, now=START)
    assert claimed is not None
    assert (claimed.answer_id, claimed.text) == ("m2", "two")
    assert await store.unread(CHAT, now=START) == 0


async def test_fields_of_a_newer_process_survive_an_update(store: Store) -> None:
    item = records.load_message(json.dumps(json.loads(records.dump_message(queued(message("m1")))) | {"new": [1]}))
    await store.accept(item, now=START, dedupe_ttl_s=60)
    lease, taken = await take(store)
    await store.update(lease, taken)
    await store.release(lease)

    _, read = await take(store)
    assert read.extra == {"new": [1]}
    assert read.message.kind is MessageKind.QUESTION
