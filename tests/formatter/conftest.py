"""The formatter in the test's own process, called over a real port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from parley.formatter.v1 import formatter_service_pb2_grpc
from parley_common.boot import Runtime
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health
from parley_common.telemetry import Telemetry
from parley_formatter.config import FormatterSettings
from parley_formatter.server import SERVICE, FormatterService


class Running:
    """A running formatter and a client's stub."""

    def __init__(self, stub: Any, channel: grpc.aio.Channel, runtime: Runtime) -> None:
        self.stub = stub
        self.channel = channel
        self.runtime = runtime

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 when there is none."""
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def _run(prompts_dir: Path | None = None, **settings: Any) -> AsyncIterator[Running]:
    metrics = ServiceMetrics("formatter", "test")
    runtime = Runtime(metrics, Health(metrics, (SERVICE,)), Telemetry(TracerProvider(shutdown_on_exit=False)))
    service = FormatterService(FormatterSettings(grpc_port=0, prompts_dir=prompts_dir, **settings), runtime)
    await service.start()
    await runtime.health.started()
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{service.port}",
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", 2**25),
                ("grpc.max_send_message_length", 2**25),
            ],
        ) as channel:
            stub = formatter_service_pb2_grpc.FormatterServiceStub(channel)
            yield Running(stub, channel, runtime)
    finally:
        await service.stop(0.0)


RunFormatter = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def run_formatter() -> RunFormatter:
    """Return what starts a formatter."""
    return _run
