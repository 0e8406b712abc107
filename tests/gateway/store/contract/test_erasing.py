"""What is erased is gone everywhere, and nothing of anybody else goes with it."""

from dataclasses import replace

import pytest
from parley_gateway.errors import LeaseLostError
from parley_gateway.messages import InboundMessage, MessageKind, Turn
from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.records import DeadLetter, KeptAnswer

from tests.gateway.store.building import START, conversation, enqueue, message, queued, take
from tests.gateway.store.conftest import MakeStore

ROOM = conversation("room").key


def said(message_id: str, sender: str, *, chat: str = "room", sent_at: float = START) -> InboundMessage:
    return message(message_id, chat=chat, sender=sender, group=True, sent_at=sent_at)


async def live(store: Store, *inbound: InboundMessage) -> list[str]:
    """Answer each message, keep the answer, file a dead letter, put a blob; returns the blobs."""
    blobs = []
    for one in inbound:
        await enqueue(store, one)
        lease, item = await take(store)
        kept = KeptAnswer(one.message_id, f"key {one.message_id}", "q", ("part",), START)
        dead = DeadLetter(f"ref-{one.message_id}", item, "failed", START)
        turn = Turn(one.message_id, "a", START)
        await store.complete(lease, item, now=START, turn=turn, kept=kept, dead=dead)
        await store.request_stop(one.conversation.key, one.lane, at=START)
        blobs.append(await store.put_blob(b"picture", mime="image/png", now=START, lane=one.lane))
    return blobs


async def left(store: Store, inbound: InboundMessage, blob: str) -> int:
    """Count what is left of what `live` made of a message."""
    key = inbound.conversation.key
    return sum(
        [
            any(turn.question == inbound.message_id for turn in await store.history(key, now=START)),
            await store.wait_answer(key, inbound.message_id, timeout_s=0) is not None,
            await store.dead_letter(f"ref-{inbound.message_id}") is not None,
            await store.stop_requested(key, inbound.lane) > 0,
            await store.get_blob(blob, now=START) is not None,
        ]
    )


async def test_everything_of_a_conversation_goes_and_nothing_of_another(store: Store) -> None:
    ann, bob, other = said("m1", "ann"), said("m2", "bob"), said("m3", "ann", chat="elsewhere")
    # The name of this conversation begins with the other's.
    thread = message("m4", chat="room2")
    blobs = await live(store, ann, bob, other, thread)
    assert await left(store, ann, blobs[0]) == 5

    assert await store.erase(ROOM, None, at=START + 1) == 10

    assert [await left(store, *pair) for pair in zip((ann, bob, other, thread), blobs, strict=True)] == [0, 0, 5, 5]
    assert await store.unread(ROOM, now=START) == 0
    assert await store.erase(ROOM, None, at=START + 1) == 0


async def test_one_lane_goes_and_the_others_of_its_conversation_stay(store: Store) -> None:
    ann, bob = said("m1", "ann"), said("m2", "bob")
    blobs = await live(store, ann, bob)

    assert await store.erase(ROOM, ann.lane, at=START + 1) == 5

    assert [await left(store, ann, blobs[0]), await left(store, bob, blobs[1])] == [0, 5]
    claimed = await store.claim_part(ROOM, request_key="r", answer_id=None, now=START)
    assert claimed is not None
    assert claimed.answer_id == "m2"


async def test_waiting_messages_sent_before_go_with_those_of_the_commands_lane(store: Store) -> None:
    command = replace(said("c1", "ann"), kind=MessageKind.COMMAND)
    await enqueue(store, said("m1", "ann"), said("m2", "ann"), command, said("m3", "ann", sent_at=START + 5))
    await enqueue(store, said("m4", "bob"))

    assert await store.erase(ROOM, said("m1", "ann").lane, at=START + 5) == 3

    taken = [(await take(store))[1].message.message_id for _ in range(2)]
    assert sorted(taken) == ["m3", "m4"]
    assert (await store.stats(now=START)).depth == 2
    # It was claimed: a redelivery brings nothing back.
    again = await store.accept(queued(said("m1", "ann")), now=START, dedupe_ttl_s=60)
    assert again.outcome == "duplicate"


async def test_message_in_work_goes_and_its_worker_finds_its_lease_lost(store: Store) -> None:
    await enqueue(store, said("m1", "ann"), said("m2", "ann", sent_at=START + 5))
    lease, item = await take(store)

    assert await store.erase(ROOM, None, at=START + 5) == 1

    with pytest.raises(LeaseLostError):
        await store.update(lease, item)
    with pytest.raises(LeaseLostError):
        await store.complete(lease, item, now=START, turn=Turn("q", "a", START))
    assert await store.history(ROOM, now=START) == ()
    again, following = await take(store)
    assert following.message.message_id == "m2"
    assert again.generation > lease.generation


async def test_turn_of_a_question_asked_before_is_refused_afterwards(store: Store) -> None:
    await store.erase(ROOM, None, at=START + 5)
    for n, asked_at in enumerate((START + 4, START + 5)):
        await enqueue(store, said(f"m{n}", "ann", sent_at=asked_at))
        lease, item = await take(store)
        await store.complete(lease, item, now=START, turn=Turn(f"m{n}", "a", asked_at))

    assert [turn.question for turn in await store.history(ROOM, now=START + 6)] == ["m1"]


async def test_room_of_erased_blobs_can_be_used_again(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(blob_quota_bytes=100))
    lane = said("m1", "ann").lane
    await store.put_blob(bytes(100), mime="a/b", now=START, lane=lane)

    assert await store.erase(ROOM, lane, at=START) == 1

    await store.put_blob(bytes(100), mime="a/b", now=START, lane=lane)
