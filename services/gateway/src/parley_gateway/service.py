"""The gateway as a process: everything built, started and stopped in order."""

import asyncio
import time
import uuid
from collections.abc import Mapping

from parley_common.boot import Runtime, StartError
from parley_common.grpc_client import create_channel
from parley_common.http_server import HTTPServer
from starlette.routing import BaseRoute

from parley_gateway.admin.calls import AdminCalls, Surroundings
from parley_gateway.admin.routes import Admin
from parley_gateway.admission import Admission
from parley_gateway.answering import Answering
from parley_gateway.bot_changes import BotChanges
from parley_gateway.bots import Bot, Bots
from parley_gateway.choices import Choices
from parley_gateway.clicks import Clicks
from parley_gateway.clients.formatter import RETRIED, FormatterClient
from parley_gateway.clients.llm import LLMClient
from parley_gateway.commands import Commands
from parley_gateway.config import BotSettings, GatewaySettings
from parley_gateway.delivery import Delivery
from parley_gateway.dispatcher import Dispatcher
from parley_gateway.errors import StoreError, StoreLockedError, StoreUnavailableError
from parley_gateway.forgetting import Forgetting
from parley_gateway.holding import Holding
from parley_gateway.housekeeping import Housekeeping
from parley_gateway.levers import Levers
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.pacing import Ramps
from parley_gateway.pipeline import Pipeline
from parley_gateway.platforms.base import BotContext, PlatformServices
from parley_gateway.platforms.registry import create_platform
from parley_gateway.questions import Questions
from parley_gateway.sources import Sources
from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.open import StoreWishes, open_store
from parley_gateway.trails import TrailWriter
from parley_gateway.webhooks import Webhooks, create_app

APPLIES = frozenset({"admin_token", "bots", "llm.key", "llm.timeout", "formatter.timeout"})
"""Options that change while the service runs."""


class GatewayService:
    """Builds the gateway's parts and runs them."""

    def __init__(self, settings: GatewaySettings, runtime: Runtime) -> None:
        """Build everything that needs no running loop."""
        self._settings = settings
        self._runtime = runtime
        self._metrics = GatewayMetrics(runtime.metrics.registry)
        self._owner = uuid.uuid4().hex
        self._stopping: asyncio.Task[None] | None = None
        limits = StoreLimits(
            queue_messages=settings.queue_messages,
            lane_messages=settings.lane_messages,
            history_ttl_s=settings.history_ttl,
        )
        wishes = StoreWishes(settings.store_wait.replicas, settings.store_wait.local, self._metrics.store_check)
        self._store: Store = open_store(settings.store.get_secret_value(), limits, wishes=wishes)
        choices = Choices(self._store, time.time, ttl_s=settings.history_ttl)
        self._forgetting = Forgetting(self._store, choices)
        self._questions = Questions(self._store, choices, time.time)
        self._commands = Commands(self._store, choices, self._forgetting)
        self._bots = Bots([self._build_bot(bot) for bot in settings.bots])
        self._levers = Levers(self._store, time.time, self._show_pauses)
        self._ramps = Ramps(settings.parallel_lanes, time.time)
        worker = self._owner[:6]
        self._trails = TrailWriter(self._store, time.time, by=worker, on_lost=self._metrics.trail_steps_lost.inc)
        surroundings = Surroundings(
            self._store, self._bots, self._levers, self._ramps, self._trails, self._metrics, time.time, worker
        )
        self._admin = Admin(AdminCalls(surroundings), settings.admin_token)
        self.routes: tuple[BaseRoute, ...] = self._admin.routes

    async def start(self) -> None:
        """Open the store, connect, listen. Raises StartError, BindError."""
        settings, runtime = self._settings, self._runtime
        try:
            await self._store.open()
            await self._levers.refresh()
        except StoreError as exc:
            code = 2 if isinstance(exc, StoreLockedError) else 1
            raise StartError(f"gateway.store: {exc}", code) from exc
        tracer, metrics = runtime.telemetry.tracer, runtime.metrics
        self._channels = [
            create_channel(settings.formatter.target, metrics, tracer, retried=RETRIED),
            create_channel(settings.llm.target, metrics, tracer),
        ]
        self._formatter = FormatterClient(self._channels[0], timeout_s=settings.formatter.timeout)
        self._llm = LLMClient(self._channels[1], key=_key(settings), timeout_s=settings.llm.timeout)
        pipeline = Pipeline(
            self._store,
            self._bots,
            Answering(self._store, self._formatter, self._llm, self._metrics, time.time, self._trails),
            self._questions,
            self._commands,
            Delivery(self._store, time.time, self._trails),
            self._metrics,
            tracer,
            time.time,
            Holding(self._levers, self._ramps, time.time),
            self._trails,
            max_attempts=settings.max_attempts,
        )
        self._dispatcher = Dispatcher(
            self._store,
            pipeline.process,
            owner=self._owner,
            lanes=settings.parallel_lanes,
            lease_s=settings.lease,
            clock=time.time,
        )
        self._housekeeping = Housekeeping(self._store, self._bots, self._levers, self._metrics, time.time)
        self._bot_changes = BotChanges(self._bots, self._build_bot, self._housekeeping)
        admission = Admission(self._store, self._questions, self._forgetting, self._levers, self._trails, time.time)
        clicks = Clicks(self._store, admission, self._metrics, time.time)
        webhooks = Webhooks(self._bots, admission, clicks, self._metrics, tracer, time.time)
        self._sources = Sources(self._bots, webhooks, self._metrics)
        app = create_app(webhooks, max_body_bytes=settings.max_body_bytes)
        self._http = HTTPServer(app, settings.host, settings.http_port, grace_s=settings.shutdown.grace)
        await self._http.start()
        self._trails.start()
        self._dispatcher.start()
        self._housekeeping.start()
        self._sources.update()
        runtime.health.add_check(self._store_ready)
        runtime.health.add_notes(self._sources.notes)
        runtime.health.on_drain(self._dispatcher.stop_claiming)
        runtime.health.on_drain(self._sources.drain)

    async def reload(self, settings: GatewaySettings) -> None:
        """Use other bots, another key and other time limits from now on. Raises ReloadError: nothing has changed."""
        longest = max(self._settings.llm.timeout, settings.llm.timeout)
        await self._bot_changes.apply(settings.bots, answer_s=longest)
        self._sources.update()
        self._show_pauses()
        self._admin.change(settings.admin_token)
        self._llm.change(key=_key(settings), timeout_s=settings.llm.timeout)
        self._formatter.change(timeout_s=settings.formatter.timeout)
        self._settings = settings

    async def stop(self, grace_s: float) -> None:
        """Finish or hand over the work at hand, answer held requests, close everything.

        Called again with 0 while it is at it, it stops waiting.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(grace_s), name="stop")
        elif grace_s <= 0:
            self._http.hurry()
            self._dispatcher.hurry()
        await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> None:
        await asyncio.gather(self._http.stop(), self._sources.stop(), self._dispatcher.stop(grace_s))
        await self._housekeeping.stop()
        await self._trails.stop()
        await self._bot_changes.close()
        for bot in self._bots:
            await bot.platform.close()
        for channel in self._channels:
            await channel.close()
        await self._store.close()

    def addresses(self) -> Mapping[str, str]:
        """Return where the webhooks are."""
        return {"http": f"{self._settings.host}:{self._http.port}"}

    def _build_bot(self, settings: BotSettings) -> Bot:
        services = PlatformServices(
            context=BotContext(settings.name, settings.locale, self._commands.names),
            kept=self._store,
            cache=self._store,
            clock=time.time,
            on_call=lambda api, outcome, error_type: self._metrics.delivery_attempts.labels(
                settings.platform, api, outcome, error_type
            ).inc(),
            on_event=lambda report: self._metrics.report(settings.platform, settings.name, report),
        )
        try:
            platform = create_platform(settings.platform, settings.platform_settings, services)
        except (ImportError, AttributeError, OSError) as exc:
            raise StartError(
                f"gateway.bots: {settings.name}: platform {settings.platform} can't be loaded: {exc}"
            ) from exc
        return Bot(settings, platform)

    def _show_pauses(self) -> None:
        self._metrics.bot_paused.clear()
        for bot in self._bots:
            paused = self._levers.paused(bot.settings.platform, bot.settings.name) is not None
            self._metrics.bot_paused.labels(bot.label, bot.settings.name).set(paused)

    async def _store_ready(self) -> str | None:
        try:
            await self._store.ping()
        except StoreUnavailableError as exc:
            return f"store: {exc}"
        return None


def _key(settings: GatewaySettings) -> str | None:
    return settings.llm.key.get_secret_value() if settings.llm.key else None
