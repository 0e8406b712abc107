"""What the users of a paused bot are told, and how."""

from dataclasses import replace

from parley_gateway.admission import Admitted
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.platforms.base import Messages, RawResponse
from parley_gateway.store.base import Receipt
from parley_gateway.store.records import QueuedMessage, reference_of
from parley_gateway.trails import read_steps

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway

OWN_WORDS = "I am being looked after for a while."


async def admit(gateway: Gateway, message: InboundMessage, *, in_request: bool = False) -> Admitted:
    """Offer a message as a webhook does, of a platform that can or can't answer in the request."""

    async def respond(_receipt: Receipt) -> RawResponse:
        return RawResponse()

    async def say(sentence: str) -> RawResponse:
        return RawResponse(body=sentence.encode())

    handled = Messages((message,), "text", respond, say=say if in_request else None)
    if in_request:
        handled = replace(handled, say_meanwhile=say)
    (bot,) = gateway.bots
    return await gateway.admission.admit(bot, handled, QueuedMessage(message, gateway.clock()))


async def pause(gateway: Gateway, notice: str = "") -> None:
    await gateway.levers.pause("fake", "default", notice=notice, for_s=None)


async def test_user_is_told_once_an_hour_and_every_question_is_stored(gateway: Gateway) -> None:
    await pause(gateway)
    for number in range(3):
        admitted = await admit(gateway, question(message_id=f"m{number}"))
        assert (admitted.outcome, admitted.response) == ("accepted", None)
    await gateway.work()
    (text,) = gateway.platform.phone.texts
    assert text.startswith(OWN_WORDS)
    assert (await gateway.store.stats(now=gateway.clock())).depth == 3
    gateway.clock.now += 3600
    await admit(gateway, question(message_id="m4", sent_at=gateway.clock()))
    await gateway.work()
    assert len([text for text in gateway.platform.phone.texts if text.startswith(OWN_WORDS)]) == 2


async def test_redelivery_neither_repeats_nor_loses_the_notice(gateway: Gateway) -> None:
    await pause(gateway, "Back at {noon}.")
    for _ in range(3):
        await admit(gateway, question())
    await gateway.work()
    assert gateway.platform.phone.texts == ["Back at {noon}."]


async def test_notice_travels_in_the_request_where_that_is_possible(gateway: Gateway) -> None:
    await pause(gateway, "Back at noon.")
    told = [await admit(gateway, question(), in_request=True) for _ in range(2)]
    assert [admitted.response.body for admitted in told if admitted.response] == [b"Back at noon."] * 2
    assert (await admit(gateway, question(message_id="m2"), in_request=True)).response is None
    await gateway.work()
    assert gateway.platform.phone.texts == []
    await gateway.levers.resume("fake", "default")
    gateway.clock.now += 5
    await gateway.work()
    assert len(gateway.platform.phone.texts) == 2


async def test_commands_and_other_bots_are_not_told(gateway: Gateway) -> None:
    await gateway.levers.pause("fake", "other", notice="", for_s=None)
    assert (await admit(gateway, question(), in_request=True)).response is None
    await pause(gateway)
    command = question("/help", message_id="c1", kind=MessageKind.COMMAND)
    assert (await admit(gateway, command, in_request=True)).response is None


async def test_full_queue_is_no_pause(gateway: Gateway) -> None:
    await pause(gateway)
    for number in range(50):
        await admit(gateway, question(message_id=f"m{number}"), in_request=True)
    refused = await admit(gateway, question(message_id="m50"), in_request=True)
    assert (refused.outcome, refused.response) == ("queue_full", None)


async def test_arrival_and_redelivery_stand_in_the_trail(gateway: Gateway) -> None:
    message = question("SECRET WORDS")
    for _ in range(2):
        await admit(gateway, message)
    await gateway.trails.write()
    steps = read_steps(await gateway.store.trail(reference_of(message.delivery_key)))
    assert [(step.name, step.facts["delivery"], step.facts["message_id"]) for step in steps] == [
        ("accepted", 1, "m1"), ("redelivered", 2, "m1"),
    ]  # fmt: skip
    assert "SECRET" not in str(steps)
