"""Clicks on an answer: stopped, asked again, rated; each once, and only by who may."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from parley_gateway import clicks
from parley_gateway.clicks import Clicks
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.messages import InboundMessage
from parley_gateway.platforms.base import Click, Clicked, ClickOutcome, RawResponse
from parley_gateway.webhooks import Webhooks

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway


@pytest.fixture
def click(gateway: Gateway) -> Callable[..., Any]:
    """Return what clicks, by way of the webhook, and returns the outcome."""
    webhooks = Webhooks(gateway.bots, gateway.admission, gateway.clicks, gateway.metrics, gateway.tracer, gateway.clock)

    async def clicking(what: Click, message: InboundMessage | None = None, user: str = "user") -> str:
        shown = replace(message or question("hello"), text="")
        made = Clicked(what, shown, user, "", lambda outcome: RawResponse(body=outcome.value.encode()))

        async def read() -> Clicked:
            return made

        (bot,) = gateway.bots
        return (await webhooks.receive_event(bot, read)).body.decode()

    return clicking


async def turns(gateway: Gateway) -> list[tuple[str, str]]:
    history = await gateway.store.history(question().conversation.key, now=gateway.clock())
    return [(turn.question, turn.answer) for turn in history]


async def test_question_is_asked_again_without_its_turn_and_those_after_it(
    gateway: Gateway, click: Callable[..., Any]
) -> None:
    for number, text in enumerate(("one", "two", "three"), start=1):
        await gateway.accept(question(text, message_id=f"m{number}"))
        await gateway.work()
        gateway.clock.now += 1
    assert await click(Click.REGENERATE, question(message_id="m2")) == ClickOutcome.DONE
    await gateway.work()
    assert [message.content for message in gateway.llm.calls[3]] == ["one", "answer to one", "two"]
    assert [asked for asked, _ in await turns(gateway)] == ["one", "three", "two"]
    assert gateway.platform.phone.texts[3] == "answer to two"


async def test_each_answer_is_asked_for_anew_once(gateway: Gateway, click: Callable[..., Any]) -> None:
    await gateway.accept(question("one"))
    await gateway.work()
    outcomes = [await click(Click.REGENERATE) for _ in range(3)]
    assert outcomes == [ClickOutcome.DONE, ClickOutcome.ALREADY, ClickOutcome.ALREADY]
    assert await gateway.work() == 1
    assert await click(Click.REGENERATE) == ClickOutcome.GONE
    assert await click(Click.REGENERATE, question(message_id="m1~1")) == ClickOutcome.DONE
    await gateway.work()
    history = await gateway.store.history(question().conversation.key, now=gateway.clock())
    assert [turn.message_ids for turn in history] == [("m1~2",)]


async def test_question_that_is_still_being_answered_is_not_asked_again(
    gateway: Gateway, click: Callable[..., Any]
) -> None:
    await gateway.accept(question("one"))
    assert await click(Click.REGENERATE) == ClickOutcome.UNAVAILABLE
    assert await gateway.work() == 1


async def test_question_that_was_forgotten_is_not_asked_again(gateway: Gateway, click: Callable[..., Any]) -> None:
    await gateway.accept(question("one"))
    await gateway.work()
    await gateway.store.reset_history(question().conversation.key, at=gateway.clock() + 1)
    assert await click(Click.REGENERATE) == ClickOutcome.GONE
    assert await gateway.work() == 0


@pytest.mark.parametrize("what", [Click.STOP, Click.REGENERATE])
async def test_only_who_asked_and_admins_may(gateway: Gateway, click: Callable[..., Any], what: Click) -> None:
    gateway.set_bot(admins=["boss"])
    await gateway.accept(question("one"))
    await gateway.work()
    assert await click(what, user="stranger") == ClickOutcome.NOT_ASKER
    assert await click(what, user="boss") == ClickOutcome.DONE


async def test_who_is_denied_may_not_even_rate(gateway: Gateway, click: Callable[..., Any]) -> None:
    gateway.set_bot(deny={"users": ["troll"]})
    assert await click(Click.GOOD, user="troll") == ClickOutcome.REFUSED
    assert gateway.metric("parley_gateway_feedback_total", platform="fake", bot="default", value="up") == 0


async def test_ratings_count_once_a_user(gateway: Gateway, click: Callable[..., Any]) -> None:
    assert await click(Click.GOOD) == ClickOutcome.DONE
    assert await click(Click.GOOD) == ClickOutcome.ALREADY
    assert await click(Click.BAD) == ClickOutcome.ALREADY
    assert await click(Click.BAD, user="other") == ClickOutcome.DONE
    counted = [
        gateway.metric("parley_gateway_feedback_total", platform="fake", bot="default", value=value)
        for value in ("up", "down")
    ]
    assert counted == [1, 1]


async def test_stop_ends_this_answer_and_not_the_question_behind_it(
    gateway: Gateway, click: Callable[..., Any]
) -> None:
    never = asyncio.Event()
    gateway.llm.script = [never]
    await gateway.accept(question("one", message_id="m1"))
    await gateway.accept(question("two", message_id="m2"))
    working = asyncio.create_task(gateway.work())
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    assert await click(Click.STOP, question(message_id="m1")) == ClickOutcome.DONE
    async with asyncio.timeout(10):
        await working
    assert gateway.platform.phone.texts == ["answer to\n\n(stopped)", "answer to two"]
    assert gateway.llm.cancelled == 1


async def test_store_that_is_away_or_slow_is_answered_in_time(
    gateway: Gateway, click: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        async def request_stop(self, *_: Any, **__: Any) -> None:
            raise StoreUnavailableError("gone")

        async def try_lock(self, *_: Any, **__: Any) -> bool:
            await asyncio.Event().wait()
            return True

    monkeypatch.setattr(clicks, "ANSWER_BY_S", 0.05)
    away: Any = Away()
    (bot,) = gateway.bots
    broken = Clicks(away, gateway.admission, gateway.metrics, gateway.clock)
    for what in (Click.STOP, Click.GOOD):
        made = Clicked(what, question(), "user", "", lambda outcome: RawResponse(body=outcome.value.encode()))
        assert (await broken.take(bot, made)).body == b"unavailable"


async def test_question_that_is_asked_again_keeps_to_the_limits(gateway: Gateway, click: Callable[..., Any]) -> None:
    gateway.set_bot(limits={"messages_per_user_minute": 1})
    await gateway.accept(question("one"))
    await gateway.work()
    assert await click(Click.REGENERATE) == ClickOutcome.DONE
    await gateway.work()
    assert await click(Click.REGENERATE, question(message_id="m1~1")) == ClickOutcome.REFUSED
