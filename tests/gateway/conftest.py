"""A gateway without its edges: the real store, pipeline and dispatcher around stand-ins."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from parley_gateway.answering import Answering
from parley_gateway.bots import Bot, Bots
from parley_gateway.commands import Commands
from parley_gateway.config import BotSettings
from parley_gateway.delivery import Delivery
from parley_gateway.messages import InboundMessage
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.pipeline import Pipeline
from parley_gateway.store.base import Receipt, StoreLimits
from parley_gateway.store.records import QueuedMessage
from parley_gateway.store.sqlite.store import SqliteStore
from prometheus_client import CollectorRegistry

from tests.fakes.gateway_parts import FakeClock, FakeFormatter, FakeLLM, FakePlatform


@dataclass
class Gateway:
    """What a test needs of the inside of a gateway."""

    store: SqliteStore
    clock: FakeClock = field(default_factory=FakeClock)
    platform: FakePlatform = field(default_factory=FakePlatform)
    llm: FakeLLM = field(default_factory=FakeLLM)
    formatter: FakeFormatter = field(default_factory=FakeFormatter)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = provider.get_tracer("test")
        self.metrics = GatewayMetrics(self.registry)
        settings = BotSettings(name="default", platform="tests.fakes:none", locale="en")
        bot = Bot(settings.model_copy(update={"platform": "fake"}), self.platform)
        self.bots = Bots([bot])
        self.pipeline = Pipeline(
            self.store,
            self.bots,
            Answering(self.store, self.formatter, self.llm, self.metrics, self.clock),
            Commands(self.store),
            Delivery(self.store, self.clock),
            self.metrics,
            self.tracer,
            self.clock,
            max_attempts=3,
        )

    async def accept(self, message: InboundMessage) -> Receipt:
        """Store a message as a webhook would."""
        return await self.store.accept(
            QueuedMessage(message, self.clock()), now=self.clock(), dedupe_ttl_s=self.platform.redelivery.span_s
        )

    async def work(self, owner: str = "worker", lease_s: float = 15.0) -> int:
        """Work off everything that is due; return how many messages that were."""
        count = 0
        while leased := await self.store.lease(owner, now=self.clock(), ttl_s=lease_s):
            lease, item = leased
            following: QueuedMessage | None = item
            while following is not None:
                following = await self.pipeline.process(lease, following)
                count += 1
        return count

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 when it has none yet."""
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    clock = FakeClock()
    store = SqliteStore(tmp_path / "parley.db", StoreLimits(), clock)
    await store.open()
    yield Gateway(store, clock)
    await store.close()
