"""Connections as the gateway keeps them: begun, watched, replaced with their bots, stopped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from parley_gateway import sources as sources_module
from parley_gateway.bots import Bot, Bots
from parley_gateway.config import BotSettings
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.platforms.base import EventSink, Handled, Ignored, RawResponse
from parley_gateway.sources import Sources
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.e2e.waiting import eventually
from tests.fakes.gateway_parts import FakePlatform

EVENT = Ignored("other", RawResponse(200, b"taken"))


class ConnectedPlatform(FakePlatform):
    """A platform with a connection that does what the test tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: list[EventSink] = []
        self.stops: list[asyncio.Event] = []
        self.failures: list[Exception] = []
        self.finished = 0

    async def run(self, stop: asyncio.Event, sink: EventSink) -> None:
        self.sinks.append(sink)
        self.stops.append(stop)
        sink.connected(False)
        if self.failures:
            raise self.failures.pop(0)
        sink.connected(True)
        await stop.wait()
        sink.connected(False)
        self.finished += 1

    async def event(self) -> RawResponse:
        """Let an event come over the connection."""
        return await self.sinks[-1].take(read)


async def read() -> Handled:
    return EVENT


class Receiver:
    """Stands in for the webhooks: answers events and remembers whose they were."""

    def __init__(self) -> None:
        self.bots: list[str] = []

    async def receive_event(self, bot: Bot, read: Callable[[], Awaitable[Handled]]) -> RawResponse:
        self.bots.append(f"{bot.settings.name} {bot.settings.model}")
        handled = await read()
        assert isinstance(handled, Ignored)
        return handled.response


def bot(platform: FakePlatform, name: str = "team", model: str = "") -> Bot:
    settings = BotSettings(name=name, platform="tests.fakes:none", locale="en", model=model)
    return Bot(settings.model_copy(update={"platform": "fake"}), platform)


class Kept:
    """Sources with their surroundings."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bots = Bots([])
        self.receiver = Receiver()
        webhooks: Any = self.receiver
        self.sources = Sources(self.bots, webhooks, GatewayMetrics(self.registry))

    def use(self, *bots: Bot) -> None:
        self.bots.replace(bots)
        self.sources.update()

    def up(self, name: str = "team") -> float | None:
        return self.registry.get_sample_value("parley_gateway_connection_up", {"platform": "fake", "bot": name})


@pytest.fixture
async def kept(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    monkeypatch.setattr(sources_module, "AGAIN_AFTER_S", 0.02)
    kept = Kept()
    yield kept
    async with asyncio.timeout(10):
        await kept.sources.stop()


async def test_event_takes_the_way_of_webhook_requests(kept: Kept) -> None:
    platform = ConnectedPlatform()
    kept.use(bot(platform))
    await eventually(lambda: kept.up() == 1)
    assert await platform.event() == EVENT.response
    assert kept.sources.notes() == []


async def test_platform_without_connection_is_left_alone(kept: Kept) -> None:
    kept.use(bot(FakePlatform()))
    await asyncio.sleep(0)
    assert kept.up() is None
    assert kept.sources.notes() == []


async def test_lost_connection_is_a_metric_and_a_note(kept: Kept) -> None:
    platform = ConnectedPlatform()
    kept.use(bot(platform))
    await eventually(lambda: kept.up() == 1)
    platform.sinks[0].connected(False)
    assert kept.up() == 0
    assert kept.sources.notes() == ["fake/team: not connected"]


async def test_failed_source_is_begun_again(kept: Kept) -> None:
    platform = ConnectedPlatform()
    platform.failures = [RuntimeError("a bug"), RuntimeError("another")]
    with capture_logs() as logs:
        kept.use(bot(platform))
        await eventually(lambda: kept.up() == 1)
    assert len(platform.sinks) == 3
    assert [entry["event"] for entry in logs] == ["source_failed"] * 2


async def test_bot_with_other_settings_keeps_its_connection(kept: Kept) -> None:
    platform = ConnectedPlatform()
    kept.use(bot(platform, model="small"))
    await eventually(lambda: kept.up() == 1)
    kept.use(bot(platform, model="large"))
    await platform.event()
    assert kept.receiver.bots == ["team large"]
    assert len(platform.sinks) == 1


async def test_replaced_platform_is_let_go_and_says_nothing_more(kept: Kept) -> None:
    old, new = ConnectedPlatform(), ConnectedPlatform()
    kept.use(bot(old))
    await eventually(lambda: kept.up() == 1)
    kept.use(bot(new))
    await eventually(lambda: old.finished)
    await eventually(lambda: kept.up() == 1)
    old.sinks[0].connected(False)
    assert kept.up() == 1
    # What still comes over the old connection shall come again.
    assert (await old.event()).status == 503
    assert kept.receiver.bots == []


async def test_bot_that_is_gone_leaves_no_metric(kept: Kept) -> None:
    platform = ConnectedPlatform()
    kept.use(bot(platform), bot(ConnectedPlatform(), "other"))
    await eventually(lambda: kept.up() == 1 and kept.up("other") == 1)
    kept.use(bot(ConnectedPlatform(), "other"))
    await eventually(lambda: platform.finished)
    assert kept.up() is None
    assert kept.sources.notes() in ([], ["fake/other: not connected"])


async def test_drain_lets_go_at_once_and_begins_nothing(kept: Kept) -> None:
    platform, later = ConnectedPlatform(), ConnectedPlatform()
    kept.use(bot(platform))
    await eventually(lambda: kept.up() == 1)
    await kept.sources.drain()
    await eventually(lambda: platform.finished)
    kept.use(bot(later))
    await kept.sources.stop()
    assert later.sinks == []


async def test_stop_ends_the_wait_after_a_failure(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "AGAIN_AFTER_S", 600.0)
    platform = ConnectedPlatform()
    platform.failures = [RuntimeError("a bug")]
    kept.use(bot(platform))
    await eventually(lambda: platform.sinks)
    await kept.sources.stop()
