"""Answers that wait for a request of the user."""

import asyncio

from parley_gateway.store.base import ClaimedPart, Store, StoreLimits

from tests.gateway.store.building import START, Clock, conversation, enqueue, keep, kept, message, take
from tests.gateway.store.conftest import MakeStore

CHAT = conversation().key


async def claim(
    store: Store, request_key: str, answer_id: str | None = None, *, now: float = START
) -> tuple[str, int] | None:
    """Return answer id and part index that a request is given."""
    claimed = await store.claim_part(CHAT, request_key=request_key, answer_id=answer_id, now=now)
    return (claimed.answer_id, claimed.index) if claimed else None


async def test_parts_are_read_one_request_at_a_time(store: Store, make_store: MakeStore) -> None:
    await keep(store, kept("m1", ("one", "two")))

    first = await store.claim_part(CHAT, request_key="r1", answer_id=None, now=START)
    assert first == ClaimedPart("m1", 0, 2, "one", "question m1")
    reopened = await make_store(instead_of=store)
    second = await reopened.claim_part(CHAT, request_key="r2", answer_id=None, now=START)
    assert second == ClaimedPart("m1", 1, 2, "two", "question m1")
    assert await claim(reopened, "r3") is None


async def test_repeated_request_gets_the_same_part(store: Store) -> None:
    await keep(store, kept("m1", ("one", "two", "three")))

    given = await asyncio.gather(*(claim(store, "r1") for _ in range(5)), *(claim(store, "r2") for _ in range(5)))

    assert len(set(given[:5])) == len(set(given[5:])) == 1
    assert {given[0], given[5]} == {("m1", 0), ("m1", 1)}
    # Even a request that names another answer by now is the same request.
    assert await claim(store, "r1", "m1") == given[0]


async def test_own_request_always_gets_the_first_part(store: Store) -> None:
    own = message("m1").delivery_key
    await keep(store, kept("m1", ("one", "two")))

    assert await claim(store, "fetch") == ("m1", 0)
    assert await claim(store, own, "m1") == ("m1", 0)
    assert await claim(store, own) == ("m1", 0)
    assert await claim(store, "fetch 2") == ("m1", 1)
    assert await claim(store, own, "m1") == ("m1", 0)


async def test_part_carried_by_the_own_request_counts_as_read(store: Store) -> None:
    await keep(store, kept("m1", ("one", "two")))

    assert await claim(store, message("m1").delivery_key, "m1") == ("m1", 0)
    assert await claim(store, "fetch") == ("m1", 1)


async def test_oldest_unread_answer_comes_first_unless_one_is_named(store: Store) -> None:
    await keep(store, kept("m1", ("one",)), now=START)
    await keep(store, kept("m2", ("two",)), now=START + 1)
    await keep(store, kept("m3", ("three",)), now=START + 2)

    assert await claim(store, "r1", "m2", now=START + 3) == ("m2", 0)
    assert await claim(store, "r2", now=START + 3) == ("m1", 0)
    assert await claim(store, "r3", now=START + 3) == ("m3", 0)
    assert await claim(store, "r4", now=START + 3) is None
    assert await claim(store, "r5", "m2", now=START + 3) is None
    assert await claim(store, "r6", "never kept", now=START + 3) is None


async def test_next_message_that_carried_an_old_part_repeats_it_until_it_asks_for_its_own(store: Store) -> None:
    await keep(store, kept("m1", ("old",)))
    own = message("m2").delivery_key
    # The answer to m1 could not be pushed: the next message's request carries it, while m2 itself is queued.
    assert await claim(store, own) == ("m1", 0)
    await keep(store, kept("m2", ("new",)))

    assert await claim(store, own) == ("m1", 0)
    assert await claim(store, own, "m2") == ("m2", 0)


async def test_unread_counts_answers_not_parts(store: Store) -> None:
    assert await store.unread(CHAT, now=START) == 0
    await keep(store, kept("m1", ("one", "two")))
    await keep(store, kept("m2", ("three",)))
    assert await store.unread(CHAT, now=START) == 2

    await claim(store, "r1")
    assert await store.unread(CHAT, now=START) == 2
    await claim(store, "r2")
    assert await store.unread(CHAT, now=START) == 1
    assert await store.unread(conversation("other").key, now=START) == 0


async def test_answers_of_another_conversation_are_out_of_reach(store: Store) -> None:
    await keep(store, kept("m1"))
    other = conversation("other").key

    assert await store.claim_part(other, request_key="r1", answer_id="m1", now=START) is None
    assert await store.wait_answer(other, "m1", timeout_s=0) is None


async def test_answer_and_what_was_given_of_it_end_with_their_time(make_store: MakeStore, clock: Clock) -> None:
    store = await make_store(StoreLimits(kept_answer_ttl_s=100))
    await keep(store, kept("m1", ("one", "two")))
    assert await claim(store, "r1", now=START) == ("m1", 0)

    assert await claim(store, "r1", now=START + 99) == ("m1", 0)
    assert await claim(store, "r1", now=START + 100) is None
    assert await claim(store, "r2", now=START + 100) is None
    assert await claim(store, message("m1").delivery_key, "m1", now=START + 100) is None
    assert await store.unread(CHAT, now=START + 100) == 0
    clock.pass_time(100)
    assert await store.wait_answer(CHAT, "m1", timeout_s=0) is None

    await store.clean(now=START + 100)
    assert await claim(store, "r1", now=START) is None


async def test_answer_kept_again_is_unread_again(store: Store) -> None:
    await keep(store, kept("m1", ("old",)))
    assert await claim(store, "r1") == ("m1", 0)
    await enqueue(store, message("again"))
    lease, item = await take(store)
    await store.complete(lease, item, now=START, kept=kept("m1", ("new",)))

    claimed = await store.claim_part(CHAT, request_key="r2", answer_id=None, now=START)
    assert claimed == ClaimedPart("m1", 0, 1, "new", "question m1")


async def test_waiting_ends_as_soon_as_the_answer_is_kept(store: Store) -> None:
    waiting = [asyncio.create_task(store.wait_answer(CHAT, "m1", timeout_s=30)) for _ in range(3)]
    other = asyncio.create_task(store.wait_answer(CHAT, "m2", timeout_s=30))
    await store.stats(now=START)

    await keep(store, kept("m1"))

    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [kept("m1")] * 3
    assert not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_waiting_for_an_answer_that_is_there_returns_at_once(store: Store) -> None:
    await keep(store, kept("m1"))

    async with asyncio.timeout(10):
        assert await store.wait_answer(CHAT, "m1", timeout_s=30) == kept("m1")


async def test_waiting_ends_after_its_time(store: Store) -> None:
    assert await store.wait_answer(CHAT, "m1", timeout_s=0.02) is None
