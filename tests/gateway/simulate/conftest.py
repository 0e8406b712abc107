"""A whole gateway, its model and formatter replaced by stand-ins, beside the simulated platforms."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lark_oapi.ws import client as lark_client
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
from parley_gateway.platforms.base import BotContext, PlatformServices
from parley_gateway.platforms.registry import create_platform
from parley_gateway.questions import Questions
from parley_gateway.simulate import SimulateOptions, run
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import WeChatCloud
from parley_gateway.sources import Sources
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.sqlite.store import SqliteStore
from parley_gateway.webhooks import Webhooks
from parley_gateway.webhooks import create_app as create_webhook_app
from prometheus_client import CollectorRegistry

from tests.fakes.gateway_parts import COMMANDS, FakeFormatter, FakeLLM, NoTrail


@pytest.fixture(scope="session", autouse=True)
def _close_the_loop_of_lark_oapi() -> Iterator[None]:
    """lark-oapi makes an event loop when it is imported outside one, and never closes it."""
    yield
    loop = lark_client.loop
    if not loop.is_running():
        loop.close()


def feishu_bot(base_url: str, name: str = "team", **changes: Any) -> BotSettings:
    """Return the settings of a Feishu bot that the simulator knows."""
    section = {
        "app_id": "cli_simulator",
        "app_secret": "simulator-app-secret",
        "encrypt_key": "an-encrypt-key",
        "verification_token": "a-verification-token",
        "base_url": base_url,
        "streaming": False,
    }
    return BotSettings.model_validate(
        {"name": name, "platform": "feishu", "locale": "en", "feishu": {**section, **changes}}
    )


def wechat_bot(base_url: str, name: str = "support", **changes: Any) -> BotSettings:
    """Return the settings of a WeChat bot that the simulator knows."""
    section = {
        "app_id": "wx_simulator",
        "app_secret": "simulator-app-secret",
        "token": "a-token",
        "encoding_aes_key": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
        "base_url": base_url,
    }
    section = {key: value for key, value in {**section, **changes}.items() if value is not None}
    return BotSettings.model_validate({"name": name, "platform": "wechat", "locale": "en", "wechat": section})


@dataclass
class Stage:
    """The simulators, and whatever gateways a test runs beside them."""

    simulator: str
    feishu: FeishuCloud
    wechat: WeChatCloud
    connections: LongConnections
    data: Path
    llm: FakeLLM = field(default_factory=FakeLLM)
    formatter: FakeFormatter = field(default_factory=FakeFormatter)
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """Everything that `simulate` wrote."""
        return "\n".join(self.lines)

    async def simulate(self, bots: list[BotSettings], **options: Any) -> int:
        """Run the command; return its exit code."""
        chosen = SimulateOptions(**{"platform": "feishu", "text": "hi", "timeout_s": 20.0, **options})
        return await run(chosen, bots, write=self.lines.append)

    @asynccontextmanager
    async def gateway(self, *settings: BotSettings) -> AsyncIterator[str]:
        """Run a gateway with these bots; yields its address."""
        async with AsyncExitStack() as stack:
            store = SqliteStore(self.data / "parley.db", StoreLimits())
            await store.open()
            stack.push_async_callback(store.close)
            metrics, tracer = GatewayMetrics(CollectorRegistry()), NoOpTracer()
            bots = Bots([Bot(each, self._platform(each, store)) for each in settings])
            for bot in bots:
                stack.push_async_callback(bot.platform.close)
            choices = Choices(store, time.time, ttl_s=7 * 86400)
            forgetting = Forgetting(store, choices)
            questions = Questions(store, choices, time.time)
            levers = Levers(store, time.time)
            holding = Holding(levers, Ramps(256, time.time), time.time)
            pipeline = Pipeline(
                store,
                bots,
                Answering(store, self.formatter, self.llm, metrics, time.time, NoTrail()),
                questions,
                Commands(store, choices, forgetting),
                Delivery(store, time.time, NoTrail()),
                metrics,
                tracer,
                time.time,
                holding,
                NoTrail(),
                max_attempts=3,
            )
            dispatcher = Dispatcher(store, pipeline.process, owner="one", lanes=8, lease_s=5.0, clock=time.time)
            dispatcher.start()
            stack.push_async_callback(dispatcher.stop, 1.0)
            admission = Admission(store, questions, forgetting, levers, NoTrail(), time.time)
            webhooks = Webhooks(
                bots, admission, Clicks(store, admission, metrics, time.time), metrics, tracer, time.time
            )
            sources = Sources(bots, webhooks, metrics)
            sources.update()
            stack.push_async_callback(sources.stop)
            yield await stack.enter_async_context(running(create_webhook_app(webhooks, max_body_bytes=100_000)))

    @staticmethod
    def _platform(settings: BotSettings, store: SqliteStore) -> Any:
        context = BotContext(settings.name, settings.locale, COMMANDS)
        services = PlatformServices(context, store, store, time.time, lambda *_: None)
        return create_platform(settings.platform, settings.platform_settings, services)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    feishu, wechat = FeishuCloud(), WeChatCloud()
    connections = LongConnections(feishu, rules=ConnectionRules(reconnect_nonce=0, reconnect_interval=0.02))
    async with running(create_app(wechat, feishu, connections)) as address:
        yield Stage(address, feishu, wechat, connections, tmp_path)
