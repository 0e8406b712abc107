"""Questions that wait in their lanes: of a paused bot, and of a model that was out of reach."""

import asyncio

import pytest
from parley_gateway.errors import UpstreamAnswerError
from parley_gateway.messages import MessageKind
from parley_gateway.pacing import FIRST, LOOK_AGAIN_S
from parley_gateway.store.records import reference_of
from parley_gateway.trails import read_steps

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway

OPEN = UpstreamAnswerError("CIRCUIT_OPEN", "every target failed too often", True, 30.0)


async def pause(gateway: Gateway, notice: str = "") -> None:
    await gateway.levers.pause("fake", "default", notice=notice, for_s=None)


async def test_questions_of_a_paused_bot_wait_and_are_answered_in_order_after_it(gateway: Gateway) -> None:
    await pause(gateway)
    for number in range(3):
        await gateway.accept(question(f"{number}", message_id=f"m{number}"))
    await gateway.work()
    gateway.clock.now += 300
    await gateway.work()
    assert gateway.platform.phone.texts == []
    assert gateway.llm.calls == []
    assert (await gateway.store.stats(now=gateway.clock())).depth == 3
    await gateway.levers.resume("fake", "default")
    gateway.clock.now += LOOK_AGAIN_S
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to 0", "answer to 1", "answer to 2"]
    assert await gateway.store.dead_letters() == []


async def test_waiting_uses_up_no_attempt(gateway: Gateway) -> None:
    await pause(gateway)
    await gateway.accept(question())
    for _ in range(10):
        await gateway.work()
        gateway.clock.now += LOOK_AGAIN_S
    await gateway.levers.resume("fake", "default")
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]
    await gateway.trails.write()
    trail = read_steps(await gateway.store.trail(reference_of(question().delivery_key)))
    assert [step.name for step in trail].count("paused") == 1
    assert gateway.metric("parley_queue_redelivered_total") == 0


async def test_commands_are_answered_and_time_to_live_goes_on_while_paused(gateway: Gateway) -> None:
    await pause(gateway)
    await gateway.accept(question())
    await gateway.accept(question("/help", message_id="c1", kind=MessageKind.COMMAND))
    await gateway.work()
    assert gateway.platform.phone.texts[0].startswith("Just write to me")
    gateway.clock.now += 1800
    assert await gateway.store.expire(now=gateway.clock()) == 1
    await gateway.work()
    assert "could not answer your message in time" in gateway.platform.phone.texts[1]


async def test_answer_that_is_stored_already_is_sent_while_paused(gateway: Gateway) -> None:
    await gateway.accept(question())
    leased = await gateway.store.lease("dies", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    gateway.platform.phone.hold = asyncio.Event()
    dying = asyncio.create_task(gateway.pipeline.process(*leased))
    await gateway.platform.phone.accepted.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    gateway.platform.phone.hold = None
    gateway.platform.phone.shown.clear()
    gateway.platform.phone.keys.clear()
    await pause(gateway)
    gateway.clock.now += 16
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]


async def test_new_question_hears_at_once_that_the_model_is_away_and_can_be_replayed(gateway: Gateway) -> None:
    gateway.llm.script = [OPEN]
    await gateway.accept(question())
    await gateway.work()
    reference = reference_of(question().delivery_key)
    (text,) = gateway.platform.phone.texts
    assert text.startswith("The AI model can't be reached right now.")
    assert reference in text
    (dead,) = await gateway.store.dead_letters()
    assert (dead.reference, dead.reason) == (reference, "busy")
    assert await gateway.store.replay(reference, now=gateway.clock())
    await gateway.work()
    assert gateway.platform.phone.texts[1:] == ["answer to hello"]


async def test_circuit_that_closes_in_a_moment_is_waited_for(gateway: Gateway) -> None:
    gateway.llm.script = [UpstreamAnswerError("CIRCUIT_OPEN", "soon", True, 1.0)]
    await gateway.accept(question())
    await gateway.work()
    gateway.clock.now += LOOK_AGAIN_S
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]


async def test_question_that_failed_before_keeps_its_place_while_the_circuits_are_open(gateway: Gateway) -> None:
    gateway.llm.script = [UpstreamAnswerError("UPSTREAM_UNAVAILABLE", "503", True), OPEN]
    await gateway.accept(question())
    for _ in range(3):
        await gateway.work()
        gateway.clock.now += 61
    assert gateway.platform.phone.texts == ["answer to hello"]


async def test_backlog_goes_to_the_model_by_steps_after_an_outage(gateway: Gateway) -> None:
    """40 conversations wait; the model is back and answers when it is told to."""
    gateway.llm.script = [UpstreamAnswerError("UPSTREAM_UNAVAILABLE", "503", True) for _ in range(40)]
    for number in range(40):
        await gateway.accept(question(f"{number}", message_id=f"m{number}", chat=f"c{number}"))
    await gateway.work()
    gateway.ramps.of("").failed("CIRCUIT_OPEN")
    gateway.llm.calls.clear()
    gateway.clock.now += 61
    with_model: list[int] = []
    for _ in range(20):
        go = asyncio.Event()
        gateway.llm.script = [go] * 100
        before = len(gateway.llm.calls)
        workers = [asyncio.create_task(gateway.work(f"worker{number}", lease_s=600)) for number in range(40)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in workers) + len(gateway.llm.calls) - before < 40:
                await asyncio.sleep(0.005)
        with_model.append(len(gateway.llm.calls) - before)
        gateway.llm.script = []
        go.set()
        await asyncio.gather(*workers)
        gateway.clock.now += LOOK_AGAIN_S + 1
        if len(gateway.platform.phone.texts) == 40:
            break
    assert with_model[0] == FIRST
    assert sum(with_model) == 40
    assert with_model[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert len(gateway.llm.calls) == 40


@pytest.mark.parametrize("new", [True, False])
async def test_other_models_are_not_held_up(gateway: Gateway, new: bool) -> None:
    ramp = gateway.ramps.of("broken")
    ramp.failed("UNAVAILABLE")
    gateway.set_bot(model="chat")
    await gateway.accept(question())
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]
    assert ramp.admits(new=new)
