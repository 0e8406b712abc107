"""WeChat on both sides of a real gateway: simulated phones and API, real store, pipeline and HTTP."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import NoOpTracer
from parley_gateway.admission import Admission
from parley_gateway.answering import Answering
from parley_gateway.bots import Bot, Bots
from parley_gateway.choices import Choices
from parley_gateway.clicks import Clicks
from parley_gateway.commands import Commands
from parley_gateway.config import BotSettings
from parley_gateway.delivery import Delivery
from parley_gateway.dispatcher import Dispatcher
from parley_gateway.forgetting import Forgetting
from parley_gateway.holding import Holding
from parley_gateway.levers import Levers
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.pacing import Ramps
from parley_gateway.pipeline import Pipeline
from parley_gateway.platforms.base import BotContext, Platform, PlatformServices
from parley_gateway.platforms.wechat import create
from parley_gateway.platforms.wechat.inline import InlineTimings
from parley_gateway.ports import AnswerDelta, AnswerEvent, AnswerFinish, PromptMessage
from parley_gateway.questions import Questions
from parley_gateway.simulators.server import create_app as create_simulator
from parley_gateway.simulators.server import running
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.cloud import SimulatedAccount, WeChatCloud
from parley_gateway.simulators.wechat.pusher import Delivery as PushDelivery
from parley_gateway.simulators.wechat.pusher import Timings, WeChatPusher
from parley_gateway.simulators.wechat.webhook import Webhook
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.sqlite import SqliteStore
from parley_gateway.webhooks import Webhooks, create_app
from prometheus_client import CollectorRegistry

from tests.fakes.gateway_parts import COMMANDS, FakeFormatter, NoTrail
from tests.gateway.platforms.wechat.vectors import AES_KEY, TOKEN

USER = "oUser_1"
OTHER_USER = "oUser_2"

# Less than a fifth of WeChat's times, with more room around each of them.
CUT_S = 0.8
PLATFORM_TIMES = InlineTimings(answer_by_s=0.4, open_until_s=1.1, last_try_after_s=1.5)
WECHAT_TIMES = Timings(answer_s=CUT_S)


class GatedLLM:
    """Answers `answer to <question>`, or what `says` holds; a question that is held waits for its event."""

    def __init__(self) -> None:
        self.says: dict[str, str] = {}
        self.asked: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}

    def hold(self, question: str) -> asyncio.Event:
        """Let a question wait until the event is set."""
        return self._gates.setdefault(question, asyncio.Event())

    async def stream(self, messages: Sequence[PromptMessage], **_options: object) -> AsyncGenerator[AnswerEvent, None]:
        question = messages[-1].content
        self.asked.append(question)
        if question in self._gates:
            await self._gates[question].wait()
        yield AnswerDelta(self.says.get(question, f"answer to {question}"))
        yield AnswerFinish("stop")


@dataclass
class World:
    """One account, its phones, its API, and the gateways that share a store."""

    cloud: WeChatCloud
    api_url: str
    store: SqliteStore
    stack: AsyncExitStack
    llm: GatedLLM = field(default_factory=GatedLLM)
    formatter: FakeFormatter = field(default_factory=FakeFormatter)
    platforms: list[Platform] = field(default_factory=list)
    connections: list[tuple[str, int]] = field(default_factory=list)
    """Where each webhook request came from."""
    events: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    platform_times: InlineTimings = PLATFORM_TIMES
    wechat_times: Timings = WECHAT_TIMES

    async def start(self, *, lanes: int = 8, **options: Any) -> WeChatPusher:
        """Start a gateway (one more replica on every call) and return WeChat's way to it."""
        settings = self.settings(**options)
        bot = Bot(settings, self._platform(settings))
        metrics, tracer = GatewayMetrics(CollectorRegistry()), NoOpTracer()
        bots = Bots([bot])
        choices = Choices(self.store, time.time, ttl_s=7 * 86400)
        forgetting = Forgetting(self.store, choices)
        questions = Questions(self.store, choices, time.time)
        levers = Levers(self.store, time.time)
        holding = Holding(levers, Ramps(256, time.time), time.time)
        pipeline = Pipeline(
            self.store,
            bots,
            Answering(self.store, self.formatter, self.llm, metrics, time.time, NoTrail()),
            questions,
            Commands(self.store, choices, forgetting),
            Delivery(self.store, time.time, NoTrail()),
            metrics,
            tracer,
            time.time,
            holding,
            NoTrail(),
            max_attempts=3,
        )
        admission = Admission(self.store, questions, forgetting, levers, NoTrail(), time.time)
        owner = f"replica-{len(self.platforms)}"
        dispatcher = Dispatcher(self.store, pipeline.process, owner=owner, lanes=lanes, lease_s=5.0, clock=time.time)
        clicks = Clicks(self.store, admission, metrics, time.time)
        app = create_app(Webhooks(bots, admission, clicks, metrics, tracer, time.time), max_body_bytes=100_000)
        url = await self.stack.enter_async_context(running(self._recording(app)))
        dispatcher.start()
        self.stack.push_async_callback(bot.platform.close)
        self.stack.push_async_callback(dispatcher.stop, 0.1)
        wechat = settings.wechat
        assert wechat is not None
        webhook = Webhook(
            f"{url}/webhooks/wechat/default",
            TOKEN,
            self.cloud.account.app_id,
            self.cloud.account.account_id,
            AES_KEY,
            wechat.encryption_mode,
        )
        return WeChatPusher(webhook, self.cloud, timings=self.wechat_times)

    def settings(self, **options: Any) -> BotSettings:
        """Return the bot's settings; an option that is None is left out."""
        section = {
            "app_id": self.cloud.account.app_id,
            "app_secret": self.cloud.account.app_secret,
            "token": TOKEN,
            "encoding_aes_key": AES_KEY,
            "base_url": self.api_url,
            **options,
        }
        given = {name: value for name, value in section.items() if value is not None}
        return BotSettings.model_validate({"name": "default", "platform": "wechat", "locale": "en", "wechat": given})

    def seen(self, user: str = USER) -> list[str]:
        """Return the texts on a user's screen."""
        return [each.text for each in self.cloud.seen_by(user)]

    async def ask_late(self, wechat: WeChatPusher, text: str, user: str = USER, *, age_s: float = 0.0) -> PushDelivery:
        """Ask a question that is held, and return its last try, without the full time of the two before."""
        fields = messages.text(wechat.webhook.account_id, user, text, at=time.time() - age_s)
        push = requests.push(wechat.webhook, fields, at=time.time())
        hasty = WeChatPusher(wechat.webhook, timings=Timings(0.05, tries=2))
        assert (await hasty.deliver(push)).failed
        last = WeChatPusher(wechat.webhook, self.cloud, timings=Timings(CUT_S, tries=1))
        return await last.deliver(push, str(fields["MsgId"]))

    async def until_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no message waits or is in work."""
        async with asyncio.timeout(timeout_s):
            while (await self.store.stats(now=time.time())).depth:
                await asyncio.sleep(0.01)

    def _platform(self, settings: BotSettings) -> Platform:
        services = PlatformServices(
            context=BotContext(settings.name, settings.locale, COMMANDS),
            kept=self.store,
            cache=self.store,
            clock=time.time,
            on_call=lambda *call: self.calls.append(call),
            on_event=self.events.append,
            environ={},
        )
        assert settings.wechat is not None
        platform = create(settings.wechat, services, timings=self.platform_times)
        self.platforms.append(platform)
        return platform

    def _recording(self, app: Any) -> Any:
        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            self.connections.append(tuple(scope["client"]))
            await app(scope, receive, send)

        return asgi


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[MakeWorld]:
    async with AsyncExitStack() as stack:

        async def make(*, verified: bool = True, limits: StoreLimits | None = None) -> World:
            cloud = WeChatCloud(SimulatedAccount(verified=verified), clock=time.time)
            store = SqliteStore(tmp_path / "parley.db", limits or StoreLimits(), time.time)
            await store.open()
            stack.push_async_callback(store.close)
            api_url = await stack.enter_async_context(running(create_simulator(cloud)))
            return World(cloud, api_url, store, stack)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()
