"""The simulated Feishu with its long connections, and bots that connect to it, for tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from parley_gateway.errors import WebhookError
from parley_gateway.platforms.base import Handled, RawResponse
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.feishu.pusher import Timings
from parley_gateway.simulators.server import create_app, running

from tests.e2e.waiting import eventually
from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu.conftest import Calls, Clock, fixture_event, make_platform, make_settings

EVENT = fixture_event("message__text_single")

QUICK = ConnectionRules(reconnect_nonce=0, reconnect_interval=0.02)
"""Lets a client connect again at once."""


@dataclass
class Sink:
    """Stands in for the gateway: collects what the events were read as, and answers as it is told."""

    answer: RawResponse = field(default_factory=lambda: RawResponse(200, b"{}"))
    hold: asyncio.Event | None = None
    error: Exception | None = None
    handled: list[Handled] = field(default_factory=list)
    refused: list[WebhookError] = field(default_factory=list)
    up: list[bool] = field(default_factory=list)
    begun: int = 0

    async def take(self, read: Callable[[], Awaitable[Handled]]) -> RawResponse:
        self.begun += 1
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            await self.hold.wait()
        try:
            self.handled.append(await read())
        except WebhookError as exc:
            self.refused.append(exc)
            return RawResponse(exc.status)
        return self.answer

    def connected(self, up: bool) -> None:
        self.up.append(up)


@dataclass
class Running:
    """A bot whose connection is kept."""

    platform: FeishuPlatform
    sink: Sink
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(10):
            await self.task


class World:
    """The simulated Feishu on a port, and the bots that connect to it."""

    def __init__(self, cloud: FeishuCloud, clock: Clock, calls: Calls) -> None:
        self.cloud, self.clock, self.calls = cloud, clock, calls
        self.feishu = LongConnections(cloud, rules=QUICK, timings=Timings(ack_s=3.0, retry_after_s=(0.01,) * 4))
        self.url = ""

    @asynccontextmanager
    async def bot(self, *, environ: dict[str, str] | None = None, **changes: Any) -> AsyncIterator[Running]:
        """Run a bot's connection for the length of the block."""
        values = {"mode": "long_connection", "encrypt_key": None, "verification_token": None, **changes}
        settings = make_settings(values.pop("base_url", self.url), **values)
        platform = make_platform(settings, MemoryCache(), self.clock, self.calls, environ)
        sink, stop = Sink(), asyncio.Event()
        bot = Running(platform, sink, stop, asyncio.create_task(platform.run(stop, sink)))
        try:
            yield bot
        finally:
            await bot.end()
            await platform.close()

    async def connected(self, count: int = 1) -> None:
        await eventually(lambda: len(self.feishu.connections) == count)


@asynccontextmanager
async def open_world(cloud: FeishuCloud, clock: Clock, calls: Calls) -> AsyncIterator[World]:
    """Serve the simulated Feishu; at the end no bot may have broken its rules."""
    world = World(cloud, clock, calls)
    async with running(create_app(feishu=cloud, connections=world.feishu)) as world.url:
        yield world
        assert world.feishu.violations == []
