"""A gateway without its edges: the real store, pipeline and dispatcher around stand-ins."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from parley_gateway.admission import Admission
from parley_gateway.answering import Answering
from parley_gateway.bots import Bot, Bots
from parley_gateway.choices import Choices
from parley_gateway.clicks import Clicks
from parley_gateway.commands import Commands
from parley_gateway.config import BotSettings
from parley_gateway.delivery import Delivery
from parley_gateway.forgetting import Forgetting
from parley_gateway.holding import Holding
from parley_gateway.levers import Levers
from parley_gateway.messages import InboundMessage
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.pacing import Ramps
from parley_gateway.pipeline import Pipeline
from parley_gateway.questions import Questions
from parley_gateway.store.base import Receipt, StoreLimits
from parley_gateway.store.records import QueuedMessage
from parley_gateway.store.sqlite.store import SqliteStore
from parley_gateway.trails import TrailWriter
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
        self.bots = Bots([])
        self.set_bot()
        choices = Choices(self.store, self.clock, ttl_s=7 * 86400)
        forgetting = Forgetting(self.store, choices)
        self.questions = Questions(self.store, choices, self.clock)
        self.levers = Levers(self.store, self.clock)
        self.ramps = Ramps(256, self.clock)
        self.trails = TrailWriter(self.store, self.clock, by="worker", on_lost=self.metrics.trail_steps_lost.inc)
        self.admission = Admission(self.store, self.questions, forgetting, self.levers, self.trails, self.clock)
        self.clicks = Clicks(self.store, self.admission, self.metrics, self.clock)
        self.pipeline = Pipeline(
            self.store,
            self.bots,
            Answering(self.store, self.formatter, self.llm, self.metrics, self.clock, self.trails),
            self.questions,
            Commands(self.store, choices, forgetting),
            Delivery(self.store, self.clock, self.trails),
            self.metrics,
            self.tracer,
            self.clock,
            Holding(self.levers, self.ramps, self.clock),
            self.trails,
            max_attempts=3,
        )

    def set_bot(self, **options: Any) -> None:
        """Give the bot these settings."""
        given = {"name": "default", "platform": "tests.fakes:none", "locale": "en", **options}
        settings = BotSettings.model_validate(given)
        self.bots.replace([Bot(settings.model_copy(update={"platform": "fake"}), self.platform)])

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
