"""Runs the connections over which some platforms' events come: one for each such bot, in every process.

Events take the way of webhook requests from the first step on. A connection that fails in an unforeseen way is begun
again; that a platform can't be reached is no reason to call the process unready, since other bots may work.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from parley_gateway.bots import Bot, Bots
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.platforms.base import ConnectionSource, Handled, RawResponse
from parley_gateway.webhooks import Webhooks

AGAIN_AFTER_S = 10.0
"""How long to wait after a failure that nobody foresaw."""

log = structlog.get_logger("parley.sources")


class Sources:
    """The connections of all bots."""

    def __init__(self, bots: Bots, webhooks: Webhooks, metrics: GatewayMetrics) -> None:
        """Take the collaborators; `update` begins."""
        self._bots = bots
        self._webhooks = webhooks
        self._metrics = metrics
        self._runs: dict[tuple[str, str], _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def update(self) -> None:
        """Connect the bots that need it, and let go of the connections whose bot is gone or has a new platform."""
        if self._draining:
            return
        now = {(bot.settings.platform, bot.settings.name): bot for bot in self._bots}
        for key, run in list(self._runs.items()):
            if key not in now or now[key].platform is not run.platform:
                del self._runs[key]
                run.stop.set()
                if run.up is not None:
                    self._metrics.connection_up.remove(*run.labels)
        for key, bot in now.items():
            if key not in self._runs and isinstance(bot.platform, ConnectionSource):
                run = self._runs[key] = _Run(bot, self._take, self._connection_changed)
                task = asyncio.create_task(run.keep(bot.platform), name=f"source-{bot.label}-{bot.settings.name}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Take no more events; what is in hand is still stored and answered."""
        self._draining = True
        for run in self._runs.values():
            run.stop.set()

    async def stop(self) -> None:
        """Take no more events, and wait until all connections are closed: a few seconds at most."""
        await self.drain()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def notes(self) -> list[str]:
        """Return which bots are without their connection now."""
        return [
            f"{platform}/{name}: not connected"
            for (platform, name), run in sorted(self._runs.items())
            if run.up is False
        ]

    async def _take(self, run: "_Run", read: Callable[[], Awaitable[Handled]]) -> RawResponse:
        bot = self._bots.find(*run.key)
        if bot is None or bot.platform is not run.platform:
            # The settings have changed: the event shall come again, over the new connection if there is one.
            return await run.platform.unavailable()
        return await self._webhooks.receive_event(bot, read)

    def _connection_changed(self, run: "_Run", up: bool) -> None:
        run.up = up
        # A connection that was replaced says nothing any more about its bot.
        if self._runs.get(run.key) is run:
            self._metrics.connection_up.labels(*run.labels).set(int(up))


class _Run:
    """One connection: the sink of its events, and the task that keeps it."""

    def __init__(
        self,
        bot: Bot,
        take: Callable[["_Run", Callable[[], Awaitable[Handled]]], Awaitable[RawResponse]],
        changed: Callable[["_Run", bool], None],
    ) -> None:
        self.key = (bot.settings.platform, bot.settings.name)
        self.labels = (bot.label, bot.settings.name)
        self.platform = bot.platform
        self.stop = asyncio.Event()
        self.up: bool | None = None
        """None as long as the platform has said nothing: it may want no connection."""
        self._take = take
        self._changed = changed

    async def take(self, read: Callable[[], Awaitable[Handled]]) -> RawResponse:
        """Do with one event what is done with a webhook request."""
        return await self._take(self, read)

    def connected(self, up: bool) -> None:
        """Be told whether events can arrive now."""
        self._changed(self, up)

    async def keep(self, source: ConnectionSource) -> None:
        """Run the source until it is told to stop, or returns."""
        while True:
            try:
                await source.run(self.stop, self)
                return
            except Exception:
                # The operator's own platforms may raise anything here; a bot must not be deaf for good because of it.
                log.exception("source_failed", platform=self.labels[0], bot=self.labels[1])
            self.connected(False)
            try:
                async with asyncio.timeout(AGAIN_AFTER_S):
                    await self.stop.wait()
                return
            except TimeoutError:
                continue
