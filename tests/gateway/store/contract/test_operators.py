"""What an operator makes a store do: expire what waits for too long, forget dead letters."""

from parley_gateway.messages import MessageKind
from parley_gateway.store.base import Store
from parley_gateway.store.records import DeadLetter

from tests.gateway.store.building import DEDUPE_TTL_S, START, conversation, enqueue, message, queued, take

SUPPORT = "wechat/support/"


async def test_questions_received_before_a_time_expire_and_their_users_are_told(store: Store) -> None:
    await enqueue(store, message("m1"), message("m2", sent_at=START + 10), message("m3", sent_at=START + 20))
    await enqueue(store, message("c1", kind=MessageKind.COMMAND))

    assert await store.expire_older(now=START + 30, received_before=START + 20, conversations=SUPPORT) == 2

    assert {dead.item.message.message_id for dead in await store.dead_letters() if dead.item} == {"m1", "m2"}
    assert {dead.reason for dead in await store.dead_letters()} == {"expired"}
    seen = []
    for _ in range(4):
        lease, item = await take(store, now=START + 30)
        seen.append((item.message.kind, item.message.message_id))
        while following := await store.complete(lease, item, now=START + 30):
            item = following
            seen.append((item.message.kind, item.message.message_id))
        if len(seen) == 4:
            break
    assert set(seen) == {
        (MessageKind.NOTICE, "m1"), (MessageKind.NOTICE, "m2"),
        (MessageKind.COMMAND, "c1"), (MessageKind.QUESTION, "m3"),
    }  # fmt: skip
    assert await store.expire_older(now=START + 30, received_before=START + 20) == 0


async def test_only_the_conversations_meant_expire(store: Store) -> None:
    await enqueue(store, message("m1"))
    assert await store.expire_older(now=START + 9, received_before=START + 9, conversations="wechat/supp/") == 0
    assert await store.expire_older(now=START + 9, received_before=START + 9, conversations="feishu/support/") == 0
    assert await store.expire_older(now=START + 9, received_before=START + 9, conversations="") == 1


async def test_question_in_work_stays_and_one_that_was_put_off_does_not(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)
    await store.accept(queued(message("m2", chat="other"), due_at=START + 3600), now=START, dedupe_ttl_s=DEDUPE_TTL_S)

    assert await store.expire_older(now=START + 1, received_before=START + 1) == 1

    await store.complete(lease, item, now=START + 1)
    (dead,) = await store.dead_letters()
    assert dead.item is not None
    assert dead.item.message.message_id == "m2"


async def test_discarded_dead_letter_is_gone(store: Store) -> None:
    await enqueue(store, message("m1"))
    lease, item = await take(store)
    await store.complete(lease, item, now=START, dead=DeadLetter("ref", item, "failed", START))

    assert await store.discard("ref")
    assert await store.dead_letter("ref") is None
    assert not await store.discard("ref")
    assert not await store.replay("ref", now=START)
    assert await store.history(conversation().key, now=START) == ()
