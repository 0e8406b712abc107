"""Histories, resets and stops."""

from parley_gateway.messages import MessageKind, Turn
from parley_gateway.store.base import Store, StoreLimits

from tests.gateway.store.building import START, conversation, enqueue, message, take
from tests.gateway.store.conftest import MakeStore

CHAT = conversation().key


async def answer_question(
    store: Store, n: int, *, asked_at: float, now: float | None = None, chat: str = "chat"
) -> Turn:
    """Send a question through the queue; its turn enters the history."""
    at = asked_at if now is None else now
    await enqueue(store, message(f"m{n}", chat=chat, sent_at=asked_at), now=at)
    lease, item = await take(store, now=at)
    turn = Turn(f"question {n}", f"answer {n}", asked_at)
    await store.complete(lease, item, now=at, turn=turn)
    return turn


async def test_turns_are_returned_in_the_order_of_their_questions(store: Store, make_store: MakeStore) -> None:
    first = await answer_question(store, 1, asked_at=START + 1)
    third = await answer_question(store, 3, asked_at=START + 3)
    # In a group one person's slow question can be answered after another person's later one.
    second = await answer_question(store, 2, asked_at=START + 2, now=START + 4)
    await answer_question(store, 4, asked_at=START, chat="elsewhere")

    assert await store.history(CHAT, now=START + 5) == (first, second, third)
    reopened = await make_store(instead_of=store)
    assert await reopened.history(CHAT, now=START + 5) == (first, second, third)
    assert await reopened.history("nobody", now=START) == ()


async def test_history_keeps_a_number_of_turns(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(history_turns=3))
    turns = [await answer_question(store, n, asked_at=START + n) for n in range(5)]

    assert await store.history(CHAT, now=START + 5) == tuple(turns[2:])


async def test_turns_end_with_their_time(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(history_ttl_s=100))
    await answer_question(store, 1, asked_at=START)
    second = await answer_question(store, 2, asked_at=START + 50)

    assert await store.history(CHAT, now=START + 100) == (second,)
    await store.clean(now=START + 100)
    assert await store.history(CHAT, now=START + 100) == (second,)


async def test_reset_forgets_the_turns(store: Store) -> None:
    await answer_question(store, 1, asked_at=START)
    await answer_question(store, 2, asked_at=START + 1)
    other = await answer_question(store, 3, asked_at=START, chat="elsewhere")

    assert await store.reset_history(CHAT, at=START + 1) == 2

    assert await store.history(CHAT, now=START + 1) == ()
    assert await store.history(conversation("elsewhere").key, now=START + 1) == (other,)
    assert await store.reset_history(CHAT, at=START + 1) == 0


async def test_answer_that_was_running_during_a_reset_is_not_remembered(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)

    await store.reset_history(CHAT, at=START + 5)
    await store.complete(lease, item, now=START + 9, turn=Turn("old", "answer", START))

    assert await store.history(CHAT, now=START + 9) == ()
    later = await answer_question(store, 2, asked_at=START + 6)
    assert await store.history(CHAT, now=START + 9) == (later,)


async def test_turn_of_a_message_is_forgotten_alone(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)
    await store.complete(lease, item, now=START, turn=Turn("both", "answer", START, ("m1", "m1b")))
    other = await answer_question(store, 2, asked_at=START + 1)

    assert not await store.forget_turn(CHAT, "m9")
    assert not await store.forget_turn(conversation("elsewhere").key, "m1")
    assert await store.forget_turn(CHAT, "m1b")
    assert await store.history(CHAT, now=START + 1) == (other,)
    assert not await store.forget_turn(CHAT, "m1b")


async def test_reset_that_arrives_late_spares_what_was_asked_after_it(store: Store) -> None:
    await answer_question(store, 1, asked_at=START)
    after = await answer_question(store, 2, asked_at=START + 2)

    assert await store.reset_history(CHAT, at=START + 1) == 1
    # And an even older one brings nothing back into reach.
    assert await store.reset_history(CHAT, at=START - 5) == 0
    await answer_question(store, 3, asked_at=START + 0.5)

    assert await store.history(CHAT, now=START + 2) == (after,)


async def test_stop_marks_one_lane(store: Store) -> None:
    lane, other = message("m1", group=True, sender="ann").lane, message("m2", group=True, sender="bob").lane

    assert await store.stop_requested(CHAT, lane) == 0
    await store.request_stop(CHAT, lane, at=START + 5)
    await store.request_stop(CHAT, lane, at=START + 3)

    assert await store.stop_requested(CHAT, lane) == START + 5
    assert await store.stop_requested(CHAT, other) == 0


async def test_stop_of_a_command_concerns_the_questions_lane(store: Store) -> None:
    command = message("c1", kind=MessageKind.COMMAND)

    await store.request_stop(CHAT, command.question_lane, at=START)

    assert await store.stop_requested(CHAT, message("m1").lane) == START


async def test_marks_end_with_their_time(make_store: MakeStore) -> None:
    store = await make_store(StoreLimits(mark_ttl_s=100))
    await store.request_stop(CHAT, CHAT, at=START)
    await store.reset_history(CHAT, at=START)

    await store.clean(now=START + 99)
    assert await store.stop_requested(CHAT, CHAT) == START
    await store.clean(now=START + 100)
    assert await store.stop_requested(CHAT, CHAT) == 0
    old = await answer_question(store, 1, asked_at=START - 1, now=START + 100)
    assert await store.history(CHAT, now=START + 100) == (old,)
