"""Which messages get into the queue, and what those that don't are told: once, and not again for a redelivery."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.platforms.base import Messages, RawResponse
from parley_gateway.store.base import Receipt
from parley_gateway.webhooks import Webhooks, create_app

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway

REFUSED = "Sorry, this bot is not open to you. Please ask the people who run it."
LIMITED = "That was too much at once. Please wait a minute; what you send until then I can't answer."


class Sender:
    """Sends messages through the webhook of a platform that can, or can't, answer in the request."""

    def __init__(self, gateway: Gateway, client: httpx2.AsyncClient) -> None:
        self._gateway = gateway
        self._client = client
        self.inline = False

    async def send(self, message: InboundMessage, *, refusal: str = "") -> str:
        """Return what the request was answered with."""

        async def respond(receipt: Receipt) -> RawResponse:
            return RawResponse(200, receipt.outcome.value.encode())

        async def say(sentence: str) -> RawResponse:
            return RawResponse(200, sentence.encode())

        self._gateway.platform.handled = Messages(
            (message,), "text", respond, RawResponse(200, b"silence"), refusal, say if self.inline else None
        )
        return (await self._client.post("http://gateway/webhooks/fake/default", content=b"x")).text

    def counted(self, outcome: str) -> float:
        return self._gateway.metric("parley_gateway_events_total", platform="fake", event="text", outcome=outcome)


@pytest.fixture
async def sender(gateway: Gateway) -> AsyncIterator[Sender]:
    webhooks = Webhooks(gateway.bots, gateway.admission, gateway.clicks, gateway.metrics, gateway.tracer, gateway.clock)
    transport = httpx2.ASGITransport(app=create_app(webhooks, max_body_bytes=1000))
    async with httpx2.AsyncClient(transport=transport) as client:
        yield Sender(gateway, client)


def by(user: str, message_id: str, text: str = "hello", kind: MessageKind = MessageKind.QUESTION) -> InboundMessage:
    return replace(question(text, message_id=message_id, chat=user, kind=kind), sender=user)


async def test_refused_user_is_told_once_a_day_in_the_chat(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(deny={"users": ["ann"]})
    assert await sender.send(by("ann", "m1", "a secret")) == "silence"
    # The platform delivers it again: the same message, the same notice.
    assert await sender.send(by("ann", "m1", "a secret")) == "silence"
    assert await sender.send(by("ann", "m2")) == "silence"
    assert await sender.send(by("bob", "m3")) == "accepted"
    await gateway.work()
    assert sorted(gateway.platform.phone.shown) == [("ann", REFUSED), ("bob", "answer to hello")]
    assert len(gateway.llm.calls) == 1
    assert sender.counted("refused_user") == 3
    gateway.clock.now += 86_400
    await sender.send(by("ann", "m4"))
    await gateway.work()
    assert gateway.platform.phone.texts.count(REFUSED) == 2


async def test_refused_user_is_told_in_the_request_where_that_is_possible(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(allow={"users": ["bob"]})
    sender.inline = True
    assert await sender.send(by("ann", "m1")) == REFUSED
    assert await sender.send(by("ann", "m1")) == REFUSED
    assert await sender.send(by("ann", "m2")) == "silence"
    assert (await gateway.store.stats(now=gateway.clock())).depth == 0


async def test_refusal_can_be_silent(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(deny={"users": ["ann"]}, refusal="silence")
    sender.inline = True
    assert await sender.send(by("ann", "m1")) == "silence"
    assert (await gateway.store.stats(now=gateway.clock())).depth == 0


async def test_what_the_platform_refuses_is_told_and_counted_alike(gateway: Gateway, sender: Sender) -> None:
    assert await sender.send(by("ann", "m1"), refusal="refused_tenant") == "silence"
    await gateway.work()
    assert gateway.platform.phone.texts == [REFUSED]
    assert gateway.llm.calls == []
    assert sender.counted("refused_tenant") == 1


async def test_limit_of_a_minute_is_told_once_and_ends_with_it(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(limits={"messages_per_user_minute": 2})
    answers = [await sender.send(by("ann", f"m{n}")) for n in range(5)]
    assert answers == ["accepted", "accepted", "silence", "silence", "silence"]
    assert await sender.send(by("bob", "b1")) == "accepted"
    await gateway.work()
    assert sorted(gateway.platform.phone.shown) == [
        ("ann", LIMITED), ("ann", "answer to hello"), ("ann", "answer to hello"), ("bob", "answer to hello"),
    ]  # fmt: skip
    assert (sender.counted("limited"), sender.counted("accepted")) == (3, 3)
    gateway.clock.now += 60
    assert await sender.send(by("ann", "m9")) == "accepted"


async def test_redelivery_of_an_accepted_message_is_not_one_too_many(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(limits={"messages_per_user_minute": 2})
    for _ in range(3):
        assert await sender.send(by("ann", "m1")) in ("accepted", "duplicate")
    assert await sender.send(by("ann", "m2")) == "accepted"
    assert await sender.send(by("ann", "m2")) == "duplicate"
    assert await sender.send(by("ann", "m1")) == "duplicate"
    assert await sender.send(by("ann", "m3")) == "silence"
    assert await sender.send(by("ann", "m3")) == "duplicate"
    await gateway.work()
    assert sorted(gateway.platform.phone.texts) == [LIMITED, "answer to hello", "answer to hello"]


async def test_limit_is_told_in_the_request_where_that_is_possible(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(limits={"messages_per_user_minute": 1})
    sender.inline = True
    assert [await sender.send(by("ann", f"m{n}")) for n in range(3)] == ["accepted", LIMITED, "silence"]
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]


async def test_limit_holds_back_neither_stop_nor_forget_nor_admins(gateway: Gateway, sender: Sender) -> None:
    gateway.set_bot(limits={"messages_per_user_minute": 1}, admins=["root"])
    command = MessageKind.COMMAND
    assert await sender.send(by("ann", "m1")) == "accepted"
    assert await sender.send(by("ann", "m2", "/help", command)) == "silence"
    assert await sender.send(by("ann", "m3", "/stop", command)) == "accepted"
    assert await sender.send(by("ann", "m4", "/Forget me", command)) == "accepted"
    assert [await sender.send(by("root", f"r{n}")) for n in range(3)] == ["accepted"] * 3
