"""What the admin calls do and show."""

from dataclasses import replace

from parley_gateway.store.records import DeadLetter, QueuedMessage, reference_of

from tests.fakes.gateway_parts import NOW, question
from tests.gateway.admin.conftest import Ops


async def test_status_shows_what_waits_and_what_holds_it_up(ops: Ops) -> None:
    gateway = ops.gateway
    await ops.bury()
    await gateway.accept(question(message_id="m2"))
    await gateway.levers.pause("fake", "default", notice="soon", for_s=60)
    gateway.ramps.of("chat").failed("CIRCUIT_OPEN")
    gateway.clock.now += 7
    answer = (await ops.get("status")).json()
    assert answer == {
        "worker": "abc123",
        "queue": {"depth": 1, "leased": 0, "oldest_age_s": 7.0, "dead_letters": 1},
        "paused": [{"platform": "fake", "bot": "default", "since": NOW, "until": NOW + 60, "notice": "soon"}],
        "models": [
            {
                "model": "chat", "reason": "CIRCUIT_OPEN", "since": NOW, "answering": False, "limit": 4, "asking": 0,
            },
        ],
    }  # fmt: skip


async def test_dead_letters_are_listed_by_reason_without_text(ops: Ops) -> None:
    await ops.bury("SECRET WORDS", "m1", "llm")
    ops.gateway.clock.now += 1
    busy = await ops.bury("SECRET WORDS", "m2", "busy")
    answer = await ops.get("dead-letters")
    assert [row["reason"] for row in answer.json()["dead_letters"]] == ["busy", "llm"]
    narrowed = (await ops.get("dead-letters", reason="busy")).json()["dead_letters"]
    assert [row["reference"] for row in narrowed] == [busy]
    assert (narrowed[0]["platform"], narrowed[0]["message_id"], narrowed[0]["characters"]) == ("fake", "m2", 12)
    assert "SECRET" not in answer.text


async def test_text_of_a_dead_letter_is_shown_only_when_asked_for(ops: Ops) -> None:
    reference = await ops.bury("SECRET WORDS")
    assert "SECRET" not in (await ops.get(f"dead-letters/{reference}")).text
    assert (await ops.get(f"dead-letters/{reference}", text="1")).json()["text"] == "SECRET WORDS"
    assert (await ops.get("dead-letters/unknown2")).status_code == 404


async def test_replay_is_done_once_however_often_it_is_asked_for(ops: Ops) -> None:
    reference = await ops.bury()
    outcomes = [(await ops.post(f"dead-letters/{reference}/replay")).json()["outcome"] for _ in range(3)]
    assert outcomes == ["replayed", "already_replayed", "already_replayed"]
    assert (await ops.gateway.store.stats(now=ops.gateway.clock())).depth == 1
    await ops.gateway.work()
    assert ops.gateway.platform.phone.texts == ["answer to hello"]
    assert (await ops.post("dead-letters/unknown2/replay")).status_code == 404


async def test_record_that_cannot_be_read_is_shown_and_not_replayed(ops: Ops) -> None:
    store = ops.gateway.store
    await ops.gateway.accept(question())
    leased = await store.lease("worker", now=NOW, ttl_s=15)
    assert leased is not None
    await store.complete(
        leased[0], leased[1], now=NOW, dead=DeadLetter("unreadab", None, "unreadable", NOW, '{"v": 9}')
    )
    shown = (await ops.get("dead-letters/unreadab", text="1")).json()
    assert shown == {
        "reference": "unreadab", "reason": "unreadable", "failed_at": NOW, "readable": False, "record_bytes": 8,
    }  # fmt: skip
    assert (await ops.post("dead-letters/unreadab/replay")).status_code == 409
    assert (await ops.post("dead-letters/unreadab/discard")).json()["outcome"] == "discarded"
    assert (await ops.post("dead-letters/unreadab/discard")).status_code == 404


async def test_message_is_explained_by_reference_message_id_and_key(ops: Ops) -> None:
    ops.note("accepted", "om_123/4")
    key = question(message_id="om_123/4").delivery_key
    reference = reference_of(key)
    for given in (reference, reference.upper(), f" {reference} ", "om_123/4", key):
        answer = (await ops.get("explain", id=given)).json()
        assert answer["reference"] == reference, given
        assert answer["steps"] == [{"at": NOW, "step": "accepted", "by": "worker", "facts": {}}]
        assert answer["dead_letter"] is None


async def test_explaining_a_dead_letter_shows_it_too(ops: Ops) -> None:
    reference = await ops.bury("SECRET WORDS")
    response = await ops.get("explain", id=reference)
    assert response.json()["dead_letter"]["reason"] == "llm"
    assert "SECRET" not in response.text
    unknown = await ops.get("explain", id="nobody-knows")
    assert unknown.status_code == 404
    assert "'nobody-knows'" in unknown.json()["error"]


async def test_bot_is_named_alone_or_with_its_platform(ops: Ops) -> None:
    ops.add_bots(("wechat", "default"), ("wechat", "support"))
    ambiguous = await ops.post("pause", bot="default")
    assert ambiguous.status_code == 400
    assert "fake/default, wechat/default, wechat/support" in ambiguous.json()["error"]
    assert (await ops.post("pause", bot="wechat/default", for_s=60)).json()["until"] == NOW + 60
    assert (await ops.post("pause", bot="support", notice=" back soon ")).json()["notice"] == "back soon"
    unknown = await ops.post("pause", bot="nobody")
    assert unknown.status_code == 404
    assert "there is no bot 'nobody'" in unknown.json()["error"]
    assert (await ops.post("resume", bot="support")).json() == {
        "platform": "wechat", "bot": "support", "outcome": "resumed",
    }  # fmt: skip
    assert (await ops.post("resume", bot="support")).json()["outcome"] == "was_not_paused"


async def test_pause_of_a_bot_that_is_gone_can_be_taken_back(ops: Ops) -> None:
    ops.add_bots(("wechat", "support"))
    await ops.post("pause", bot="support")
    ops.gateway.bots.replace([bot for bot in ops.gateway.bots if bot.settings.name != "support"])
    assert (await ops.post("resume", bot="wechat/support")).json()["outcome"] == "resumed"
    assert ops.gateway.levers.pauses() == []


async def test_questions_older_than_a_time_expire_and_are_counted(ops: Ops) -> None:
    gateway = ops.gateway
    ops.add_bots(("wechat", "support"))
    await gateway.accept(question(message_id="m1"))
    other = replace(question(message_id="m2").conversation, platform="wechat", bot="support")
    await gateway.accept(replace(question(message_id="m2"), conversation=other))
    gateway.clock.now += 700
    await gateway.accept(question(message_id="m3", sent_at=gateway.clock()))
    assert (await ops.post("expire", older_than_s=600, bot="support")).json() == {"expired": 1}
    assert (await ops.post("expire", older_than_s=600)).json() == {"expired": 1}
    assert (await ops.post("expire", older_than_s=600)).json() == {"expired": 0}
    assert gateway.metric("parley_queue_dead_total", reason="expired") == 2
    reference = reference_of(QueuedMessage(question(message_id="m1"), NOW).key)
    assert (await ops.get(f"dead-letters/{reference}")).json()["reason"] == "expired"
