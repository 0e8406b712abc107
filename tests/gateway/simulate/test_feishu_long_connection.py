"""A gateway whose Feishu bot gets its events over the long connection, and `simulate feishu` for such a bot."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from parley_gateway.config import BotSettings
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.platforms.feishu import long_connection_endpoint
from parley_gateway.simulate import feishu as simulate_feishu
from parley_gateway.simulators.feishu.events import event, message_event, text_content
from parley_gateway.simulators.feishu.pusher import Timings
from parley_gateway.store.sqlite.store import SqliteStore

from tests.e2e.waiting import eventually
from tests.gateway.simulate.conftest import Stage, feishu_bot


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_feishu, "QUIET_S", 0.3)
    monkeypatch.setattr(long_connection_endpoint, "SHORTEST_WAIT_S", 0.02)


def connected_bot(stage: Stage) -> BotSettings:
    """Return a bot that connects to the simulator; it has none of the webhooks' secrets."""
    return feishu_bot(stage.simulator, mode="long_connection", encrypt_key=None, verification_token=None)


@asynccontextmanager
async def connected(stage: Stage) -> AsyncIterator[BotSettings]:
    """Run a gateway with such a bot."""
    bot = connected_bot(stage)
    async with stage.gateway(bot):
        await eventually(lambda: stage.connections.connections)
        yield bot
    assert stage.connections.violations == []


def said(stage: Stage, text: str, chat_id: str = "oc_1") -> dict[str, Any]:
    """Return the event of a user's message."""
    message = stage.feishu.user_says(text_content(text), chat_id=chat_id, sender="ou_1")
    return message_event(stage.feishu.app, "", message)


async def test_answer_is_shown(stage: Stage) -> None:
    async with connected(stage) as bot:
        assert await stage.simulate([bot], text="ping", user="me", gateway="http://127.0.0.1:9") == 0
    assert stage.lines[0] == "ou_me → ping"
    assert re.search(r"^  delivery 1: acknowledged after \d+ ms$", stage.output, re.MULTILINE)
    assert re.search(r"^  answer after .+s:\nanswer to ping$", stage.output, re.MULTILINE)


async def test_bot_that_is_not_connected(stage: Stage) -> None:
    assert await stage.simulate([connected_bot(stage)], text="ping") == 1
    assert "the bot isn't connected to the simulator" in stage.output


async def test_nothing_is_acknowledged_while_the_store_is_down(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is refused, comes again after a while, is stored then, and answered once."""
    accept, refusals = SqliteStore.accept, 2
    stage.connections.timings = Timings(retry_after_s=(0.01,) * 4)

    async def fails_at_first(*arguments: Any, **keywords: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StoreUnavailableError("disk full")
        return await accept(*arguments, **keywords)

    monkeypatch.setattr(SqliteStore, "accept", fails_at_first)
    async with connected(stage):
        delivery = await stage.connections.deliver(said(stage, "hi"))
        assert [step.status for step in delivery.steps] == [500, 500, 200]
        await eventually(lambda: stage.feishu.seen_in("oc_1"))
    assert len(stage.llm.calls) == 1


async def test_event_delivered_again_is_answered_once(stage: Stage) -> None:
    async with connected(stage):
        message = said(stage, "once")
        for number in range(3):
            again = {**message, "header": {**message["header"], "event_id": f"event-{number}"}}
            assert (await stage.connections.deliver(again)).acknowledged
        await eventually(lambda: stage.feishu.seen_in("oc_1"))
        await asyncio.sleep(0.1)
    assert len(stage.feishu.seen_in("oc_1")) == 1
    assert len(stage.llm.calls) == 1


async def test_click_on_a_card_is_answered_in_time(stage: Stage) -> None:
    click = event(stage.feishu.app, "", "card.action.trigger", {"action": {"tag": "button", "value": {}}})
    async with connected(stage):
        (step,) = (await stage.connections.deliver(click)).steps
    assert step.acknowledged
    assert step.duration_s < 3


async def test_webhook_of_such_a_bot_is_refused(stage: Stage) -> None:
    async with stage.gateway(connected_bot(stage)) as gateway:
        assert await stage.simulate([feishu_bot(stage.simulator)], gateway=gateway, timeout_s=1.0) == 1
    assert "delivery 1: HTTP status 403" in stage.output
    assert not stage.llm.calls


async def test_messages_go_on_after_a_cut(stage: Stage) -> None:
    async with connected(stage):
        await stage.connections.cut()
        await eventually(lambda: stage.connections.connections)
        assert (await stage.connections.deliver(said(stage, "still there?"))).acknowledged
        await eventually(lambda: stage.feishu.seen_in("oc_1"))
