"""Order, parallel lanes, due times, leases with a fence."""

from dataclasses import replace

import pytest
from parley_gateway.errors import LeaseLostError
from parley_gateway.messages import Turn
from parley_gateway.store.base import QueueStats, Store
from parley_gateway.store.records import DeadLetter, PartStatus

from tests.gateway.store.building import LEASE_TTL_S, START, answer, conversation, enqueue, kept, message, queued, take
from tests.gateway.store.conftest import MakeStore

CHAT = conversation().key
LATER = START + LEASE_TTL_S


async def test_lane_is_first_in_first_out_and_held_by_one_worker(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"), message("m3"))

    lease, item = await take(store)
    assert await store.lease("other", now=START, ttl_s=LEASE_TTL_S) is None
    ids = [item.message.message_id]
    while following := await store.complete(lease, item, now=START):
        item = following
        ids.append(item.message.message_id)
        assert await store.lease("other", now=START, ttl_s=LEASE_TTL_S) is None

    assert ids == ["m1", "m2", "m3"]


async def test_what_waits_behind_the_head_can_be_read_by_who_holds_the_lane(store: Store) -> None:
    await enqueue(store, message("m1"))
    await enqueue(store, message("other", chat="b"), now=START + 1)
    await enqueue(store, message("m2"))
    await store.accept(queued(message("m3"), due_at=START + 10), now=START, dedupe_ttl_s=60)
    await enqueue(store, message("m4"))
    lease, item = await take(store)

    behind = await store.behind(lease, limit=10)
    assert [each.message.message_id for each in behind] == ["m2", "m3", "m4"]
    assert [each.message.message_id for each in await store.behind(lease, limit=2)] == ["m2", "m3"]

    following = await store.complete(lease, item, now=START)
    assert following is not None
    assert [each.message.message_id for each in await store.behind(lease, limit=10)] == ["m3", "m4"]
    await store.release(lease)
    with pytest.raises(LeaseLostError):
        await store.behind(lease, limit=10)


async def test_lanes_are_worked_on_in_parallel(store: Store) -> None:
    await enqueue(
        store,
        message("m1", chat="a"),
        message("m2", chat="b"),
        message("m3", chat="room", sender="ann", group=True),
        message("m4", chat="room", sender="bob", group=True),
        message("m5", chat="room", sender="ann", group=True),
    )

    leased = [await take(store) for _ in range(4)]

    assert sorted(item.message.message_id for _, item in leased) == ["m1", "m2", "m3", "m4"]
    assert await store.lease("worker", now=START, ttl_s=LEASE_TTL_S) is None


async def test_lane_whose_head_is_due_longest_comes_first(store: Store) -> None:
    await enqueue(store, message("late", chat="a"), now=START + 3)
    await enqueue(store, message("early", chat="b"), now=START + 1)
    await enqueue(store, message("behind early", chat="b"), now=START + 1)
    await store.accept(queued(message("delayed", chat="c"), due_at=START + 2), now=START, dedupe_ttl_s=60)

    order = [(await take(store, now=START + 5))[1].message.message_id for _ in range(3)]

    assert order == ["early", "delayed", "late"]


async def test_lane_is_not_ready_before_its_head_is_due(store: Store) -> None:
    await store.accept(queued(message("m1"), due_at=START + 10), now=START, dedupe_ttl_s=60)
    await enqueue(store, message("m2"))

    assert await store.lease("worker", now=START + 9, ttl_s=LEASE_TTL_S) is None
    _, item = await take(store, now=START + 10)
    assert item.message.message_id == "m1"


async def test_message_put_off_keeps_its_place(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"))
    lease, item = await take(store)

    await store.update(lease, replace(item, due_at=START + 5, attempts=1))
    await store.release(lease)

    assert await store.lease("worker", now=START + 4, ttl_s=LEASE_TTL_S) is None
    lease, item = await take(store, now=START + 5)
    assert (item.message.message_id, item.attempts) == ("m1", 1)
    following = await store.complete(lease, item, now=START + 5)
    assert following is not None
    assert following.message.message_id == "m2"


async def test_completing_releases_a_lane_whose_next_message_is_not_due(store: Store) -> None:
    await enqueue(store, message("m1"))
    await store.accept(queued(message("m2"), due_at=START + 10), now=START, dedupe_ttl_s=60)
    lease, item = await take(store)

    assert await store.complete(lease, item, now=START) is None
    with pytest.raises(LeaseLostError):
        await store.renew(lease, now=START, ttl_s=LEASE_TTL_S)
    _, item = await take(store, now=START + 10)
    assert item.message.message_id == "m2"


async def test_update_is_durable_and_read_back_whole(store: Store, make_store: MakeStore) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)
    stored = answer()
    sending = stored.with_part(0, replace(stored.parts[0], status=PartStatus.SENDING, first_tried_at=START))
    changed = replace(item, attempts=2, failures=1, answer=sending, reply_state={"card": "c1"}, note="n")

    await store.update(lease, changed)
    reopened = await make_store(instead_of=store)

    _, read = await take(reopened, now=LATER)
    assert read == changed


async def test_everything_that_comes_of_a_message_is_stored_in_one_step(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)

    turn, dead = Turn("q", "a", START), DeadLetter("ref", item, "content_filter", START)
    await store.complete(lease, item, now=START, turn=turn, kept=kept("m1"), dead=dead)

    assert await store.history(CHAT, now=START) == (turn,)
    assert await store.wait_answer(CHAT, "m1", timeout_s=0) == kept("m1")
    assert await store.dead_letters() == [dead]
    assert await store.stats(now=START) == QueueStats(depth=0, leased=0, oldest_age_s=0, dead_letters=1)


async def test_released_lane_goes_to_the_next_worker_at_once(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, _ = await take(store)

    await store.release(lease)

    again, item = await take(store, owner="other")
    assert (again.generation, again.owner) == (lease.generation + 1, "other")
    assert item.message.message_id == "m1"


async def test_draining_gives_back_the_lanes_of_one_owner_only(store: Store) -> None:
    await enqueue(store, *(message(f"m{n}", chat=f"chat{n}") for n in range(3)))
    mine = [await take(store, owner="mine") for _ in range(2)]
    others, item = await take(store, owner="others")

    assert await store.release_owner("mine") == 2

    await store.update(others, item)
    taken = {(await take(store))[0].lane for _ in range(2)}
    assert taken == {lease.lane for lease, _ in mine}
    assert await store.release_owner("mine") == 0


async def test_lease_that_ran_out_is_taken_over_with_what_was_stored(store: Store) -> None:
    await enqueue(store, message("m1"))
    first, item = await take(store)
    await store.update(first, replace(item, answer=answer()))

    assert await store.lease("other", now=LATER - 1, ttl_s=LEASE_TTL_S) is None
    second, resumed = await take(store, owner="other", now=LATER)

    assert second.generation > first.generation
    assert resumed.answer == answer()


async def test_renewed_lease_is_not_taken_over(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, _ = await take(store)

    renewed = await store.renew(lease, now=START + 20, ttl_s=LEASE_TTL_S)

    assert renewed == replace(lease, expires_at=START + 20 + LEASE_TTL_S)
    assert await store.lease("other", now=LATER, ttl_s=LEASE_TTL_S) is None
    await take(store, owner="other", now=START + 50)


async def test_lease_that_ran_out_may_be_renewed_while_nobody_took_the_lane(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, _ = await take(store)

    await store.renew(lease, now=LATER + 5, ttl_s=LEASE_TTL_S)

    assert await store.lease("other", now=LATER + 5, ttl_s=LEASE_TTL_S) is None


async def test_who_lost_the_lane_writes_nothing(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"))
    old, item = await take(store, owner="same")
    # The very same owner: only the generation tells the two holders apart.
    new, _ = await take(store, owner="same", now=LATER)

    with pytest.raises(LeaseLostError):
        await store.renew(old, now=LATER, ttl_s=LEASE_TTL_S)
    with pytest.raises(LeaseLostError):
        await store.update(old, replace(item, answer=answer()))
    with pytest.raises(LeaseLostError):
        await store.complete(
            old,
            item,
            now=LATER,
            turn=Turn("q", "a", START),
            kept=kept("m1"),
            dead=DeadLetter("ref", item, "failed", START),
        )
    await store.release(old)

    assert await store.history(CHAT, now=LATER) == ()
    assert await store.wait_answer(CHAT, "m1", timeout_s=0) is None
    assert await store.dead_letters() == []
    following = await store.complete(new, item, now=LATER)
    assert following is not None
    assert following.message.message_id == "m2"
    with pytest.raises(LeaseLostError):
        await store.complete(old, item, now=LATER)


async def test_only_the_head_can_be_written(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"))
    lease, first = await take(store)
    second = await store.complete(lease, first, now=START)
    assert second is not None

    with pytest.raises(LeaseLostError):
        await store.update(lease, first)
    with pytest.raises(LeaseLostError):
        await store.complete(lease, first, now=START)

    assert await store.complete(lease, second, now=START) is None


async def test_generation_is_never_used_twice(store: Store) -> None:
    generations = []
    for n in range(5):
        await enqueue(store, message(f"m{n}"))
        lease, item = await take(store)
        generations.append(lease.generation)
        await store.complete(lease, item, now=START)
        # Long after, the lane is empty and may be forgotten.
        await store.clean(now=START + 30 * 86400)

    assert generations == sorted(set(generations))


async def test_lane_with_messages_is_never_forgotten(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2"))
    lease, item = await take(store)
    await store.complete(lease, item, now=START)
    await store.release(lease)

    await store.clean(now=START + 30 * 86400)

    again, item = await take(store)
    assert item.message.message_id == "m2"
    assert again.generation > lease.generation


async def test_stats_tell_what_waits_and_what_is_in_work(store: Store) -> None:
    assert await store.stats(now=START) == QueueStats(0, 0, 0.0, 0)
    await enqueue(store, message("m1", chat="a", sent_at=START - 3), message("m2", chat="a"), message("m3", chat="b"))
    lease, item = await take(store)

    assert await store.stats(now=START + 4) == QueueStats(depth=3, leased=1, oldest_age_s=7.0, dead_letters=0)
    # Nobody is at work any more when a lease ran out.
    assert (await store.stats(now=LATER)).leased == 0

    await store.complete(lease, item, now=START)
    assert (await store.stats(now=START)).depth == 2


async def test_pending_lists_the_questions_that_have_no_answer_yet(store: Store) -> None:
    await enqueue(
        store,
        message("m1", chat="room", sender="ann", group=True),
        message("m2", chat="room", sender="bob", group=True),
        message("m3", chat="room", sender="ann", group=True),
        message("x", chat="elsewhere"),
    )
    room = conversation("room").key
    lease, item = await take(store)

    assert await store.pending(room) == ("m1", "m2", "m3")
    await store.complete(lease, item, now=START)
    assert await store.pending(room) == ("m2", "m3")
    assert await store.pending("nobody") == ()
