"""The trail of a message: written behind its back, bounded, without a word of what was written."""

import asyncio
import json

import pytest
from parley_gateway import trails
from parley_gateway.errors import StoreUnavailableError, TransientDeliveryError, UpstreamAnswerError
from parley_gateway.store.records import QueuedMessage, reference_of
from parley_gateway.trails import Step, read_steps

from tests.fakes.gateway_parts import NOW, question
from tests.gateway.conftest import Gateway

ITEM = QueuedMessage(question(), NOW)


async def steps_of(gateway: Gateway, item: QueuedMessage = ITEM) -> list[Step]:
    await gateway.trails.write()
    return read_steps(await gateway.store.trail(reference_of(item.key)))


async def test_steps_are_read_back_in_order_with_their_facts(gateway: Gateway) -> None:
    gateway.trails.note(ITEM, "accepted", delivery=1)
    gateway.clock.now += 1.5
    gateway.trails.note(ITEM, "sent", part=1, remote_id="", long="x" * 1000)
    assert await gateway.store.trail(reference_of(ITEM.key)) == []
    first, second = await steps_of(gateway)
    assert first == Step(NOW, "accepted", "worker", {"delivery": 1})
    assert second == Step(NOW + 1.5, "sent", "worker", {"part": 1, "long": "x" * 128})
    gateway.trails.note(ITEM, "done")
    assert [step.name for step in await steps_of(gateway)] == ["accepted", "sent", "done"]


async def test_steps_wait_while_the_store_is_away(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    other = QueuedMessage(question(message_id="m2"), NOW)
    gateway.trails.note(ITEM, "accepted")
    gateway.trails.note(other, "accepted")

    add_trail = gateway.store.add_trail

    async def away_for_one(conversation: str, reference: str, entry: str, *, now: float, ttl_s: float) -> None:
        if reference != reference_of(ITEM.key):
            await add_trail(conversation, reference, entry, now=now, ttl_s=ttl_s)
            return
        gateway.trails.note(ITEM, "noted meanwhile")
        raise StoreUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "add_trail", away_for_one)
        with pytest.raises(StoreUnavailableError):
            await gateway.trails.write()
    assert [step.name for step in await steps_of(gateway)] == ["accepted", "noted meanwhile"]
    assert [step.name for step in await steps_of(gateway, other)] == ["accepted"]


async def test_waiting_steps_are_bounded_and_what_is_lost_is_counted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MOST_WAITING", 10)
    for number in range(25):
        gateway.trails.note(ITEM, "sent", part=number)
    assert gateway.metric("parley_gateway_trail_steps_lost_total") == 15
    assert [step.facts["part"] for step in await steps_of(gateway)] == list(range(15, 25))


async def test_writer_writes_by_itself_and_writes_the_rest_when_it_stops(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "WRITE_EVERY_S", 0.02)
    gateway.trails.start()
    gateway.trails.note(ITEM, "accepted")
    async with asyncio.timeout(10):
        while not await gateway.store.trail(reference_of(ITEM.key)):
            await asyncio.sleep(0.01)
    gateway.trails.note(ITEM, "done")
    await gateway.trails.stop()
    assert [step.name for step in read_steps(await gateway.store.trail(reference_of(ITEM.key)))] == ["accepted", "done"]


async def test_steps_of_one_write_are_one_entry(gateway: Gateway) -> None:
    for _ in range(7):
        gateway.trails.note(ITEM, "sent")
    await gateway.trails.write()
    (entry,) = await gateway.store.trail(reference_of(ITEM.key))
    assert len(json.loads(entry)) == 7


async def test_way_of_a_message_with_failures_is_told_without_its_text(gateway: Gateway) -> None:
    gateway.llm.script = [
        UpstreamAnswerError(
            "UPSTREAM_UNAVAILABLE", "upstream said: SECRET WORDS", True, None,
            {"upstream": "main", "upstream_request_id": "req-9", "attempts": "3"},
        ),
    ]  # fmt: skip
    gateway.platform.phone.failures = [TransientDeliveryError("timed out near SECRET WORDS", "timeout")]
    await gateway.accept(question("SECRET WORDS"))
    for _ in range(3):
        await gateway.work()
        gateway.clock.now += 61
    steps = await steps_of(gateway)
    assert [step.name for step in steps] == [
        "began", "prompt", "llm_failed", "put_off",
        "began", "prompt", "answered", "formatted", "send_failed", "put_off",
        "began", "sent", "done",
    ]  # fmt: skip
    facts = {step.name: dict(step.facts) for step in steps}
    assert facts["llm_failed"] == {
        "reason": "UPSTREAM_UNAVAILABLE", "upstream": "main", "upstream_request_id": "req-9", "attempts": "3",
    }  # fmt: skip
    assert facts["send_failed"] == {"part": 1, "error": "TransientDeliveryError", "code": "timeout"}
    assert facts["sent"] == {"part": 1, "of": 1, "remote_id": "remote-1"}
    assert facts["done"] == {"outcome": "delivered"}
    assert "SECRET" not in str(await gateway.store.trail(reference_of(ITEM.key)))


async def test_expired_and_dead_messages_tell_so(gateway: Gateway) -> None:
    await gateway.accept(question())
    gateway.clock.now += 1800
    await gateway.store.expire(now=gateway.clock())
    await gateway.work()
    steps = await steps_of(gateway)
    assert [(step.name, step.facts.get("notice", "")) for step in steps[:1]] == [("began", "expired")]
    assert steps[-1].facts == {"outcome": "delivered"}
    gateway.llm.script = [UpstreamAnswerError("UPSTREAM_AUTH", "no", retryable=False)]
    failing = question(message_id="m2", sent_at=gateway.clock())
    await gateway.accept(failing)
    await gateway.work()
    last = await steps_of(gateway, QueuedMessage(failing, gateway.clock()))
    assert (last[-1].name, dict(last[-1].facts)) == ("dead", {"reason": "llm"})
