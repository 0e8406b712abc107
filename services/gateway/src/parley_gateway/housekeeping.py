"""What the gateway does by the clock: read levers, expire, clean the store, measure the queue, try credentials."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from parley_gateway.bots import Bot, Bots
from parley_gateway.errors import DeliveryError, StoreUnavailableError
from parley_gateway.levers import Levers
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.store.base import Store

LEVERS_EVERY_S = 1.0
EXPIRE_EVERY_S = 1.0
MEASURE_EVERY_S = 2.0
CLEAN_EVERY_S = 60.0
CREDENTIALS_EVERY_S = 3600.0

log = structlog.get_logger("parley.housekeeping")


class Housekeeping:
    """Runs the periodic tasks of one process."""

    def __init__(
        self, store: Store, bots: Bots, levers: Levers, metrics: GatewayMetrics, clock: Callable[[], float]
    ) -> None:
        """Take the collaborators."""
        self._levers = levers
        self._store = store
        self._bots = bots
        self._metrics = metrics
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin."""
        plan = [
            (LEVERS_EVERY_S, self._levers.refresh),
            (EXPIRE_EVERY_S, self._expire),
            (MEASURE_EVERY_S, self._measure),
            (CLEAN_EVERY_S, self._clean),
            (CREDENTIALS_EVERY_S, self._check_credentials),
        ]
        self._tasks = {asyncio.create_task(self._repeat(every_s, job), name=job.__name__) for every_s, job in plan}

    def bots_changed(self, new: Sequence[Bot], gone: Sequence[Bot]) -> None:
        """Try the credentials of new or changed bots now; show nothing any more of bots that are gone."""
        for bot in gone:
            self._metrics.credentials_ok.remove(bot.label, bot.settings.name)
        if new:
            task = asyncio.create_task(self._once(lambda: self._check_bots(new)), name="check-new-bots")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, every_s: float, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._once(job)
            await asyncio.sleep(every_s)

    async def _once(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except StoreUnavailableError as exc:
            log.warning("store_unavailable", error=str(exc))

    async def _expire(self) -> None:
        expired = await self._store.expire(now=self._clock())
        if expired:
            self._metrics.dead.labels("expired").inc(expired)
            log.warning("expired", messages=expired)

    async def _measure(self) -> None:
        stats = await self._store.stats(now=self._clock())
        self._metrics.queue_depth.set(stats.depth)
        self._metrics.queue_leased.set(stats.leased)
        self._metrics.queue_oldest.set(stats.oldest_age_s)

    async def _clean(self) -> None:
        await self._store.clean(now=self._clock())

    async def _check_credentials(self) -> None:
        await self._check_bots(tuple(self._bots))

    async def _check_bots(self, bots: Sequence[Bot]) -> None:
        await asyncio.gather(*(self._check_bot(bot) for bot in bots))

    async def _check_bot(self, bot: Bot) -> None:
        error: DeliveryError | None = None
        try:
            await bot.platform.check_credentials()
        except DeliveryError as exc:
            error = exc
        now = self._bots.find(bot.settings.platform, bot.settings.name)
        if now is None or now.platform is not bot.platform:
            return  # Replaced or removed meanwhile: its credentials say nothing any more.
        self._metrics.credentials_ok.labels(bot.label, bot.settings.name).set(0 if error else 1)
        if error:
            log.error("credentials_failed", platform=bot.label, bot=bot.settings.name, error=str(error))
