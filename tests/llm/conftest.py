"""The service in the test's own process, in front of a scripted upstream."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import httpx2
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from parley.llm.v1 import llm_service_pb2_grpc
from parley_common.boot import Runtime
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health
from parley_common.telemetry import Telemetry
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from parley_llm.rpc.servicer import SERVICE
from parley_llm.server import LLMService

from tests.fakes.openai_upstream import OpenAIUpstream, completion

API_KEY = "sk-upstream-secret-0123456789"


STOPPING: list[asyncio.Task[None]] = []


class Running:
    """A running service with clients of both kinds."""

    def __init__(self, service: LLMService, http: httpx2.AsyncClient, channel: grpc.aio.Channel, runtime: Runtime):
        self.service = service
        self.http = http
        self.stub: Any = llm_service_pb2_grpc.LLMServiceStub(channel)
        self.runtime = runtime
        self.spans: InMemorySpanExporter = InMemorySpanExporter()

    @property
    def base_url(self) -> str:
        """Where OpenAI clients point."""
        return f"http://127.0.0.1:{self.service.http_port}/v1"

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 when there is none."""
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def run_service(settings: dict[str, Any], env: dict[str, str] | None = None) -> AsyncIterator[Running]:
    """Run the service with a section `llm`."""
    parsed = LLMSettings.model_validate({"grpc_port": 0, "http_port": 0, **settings})
    metrics = ServiceMetrics("llm", "test")
    provider = TracerProvider(shutdown_on_exit=False)
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    runtime = Runtime(metrics, Health(metrics, (SERVICE,)), Telemetry(provider))
    service = LLMService(parsed, runtime, env or {})
    async with AsyncExitStack() as stack:
        await service.start()
        # The server looks at its stop flag ten times a second; no test waits for that, the last fixture does.
        stack.callback(lambda: STOPPING.append(asyncio.create_task(service.stop(0.0))))
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{service.http_port}", trust_env=False, timeout=20)
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}", [("grpc.enable_http_proxy", 0)])
        )
        running = Running(service, http, channel, runtime)
        running.spans = spans
        yield running


DEMO_MODELS = {"*": {"targets": [{"upstream": "demo", "model": "demo"}]}}
QUICK = {"backoff_initial": 0.01, "backoff_max": 0.02}


def settings_for(*upstreams: OpenAIUpstream, **model: Any) -> dict[str, Any]:
    """Return settings with the alias `chat` over these upstreams (`up0`, `up1`, …); `model` overrides its parts."""
    names = [f"up{number}" for number in range(len(upstreams))]
    return {
        "upstreams": {
            name: {"base_url": upstream.base_url, "api_keys": [API_KEY]}
            for name, upstream in zip(names, upstreams, strict=True)
        },
        "models": {
            "chat": {
                "targets": [{"upstream": name, "model": "fake-model"} for name in names],
                "timeouts": {"connect": "2s", "first_token": "5s", "idle": "5s", "total": "10s"},
                **model,
                "retry": {**QUICK, **model.get("retry", {})},
            }
        },
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run this folder's tests in one event loop, so that they can share a running service."""
    for item in items:
        in_folder = "tests/llm/" in item.path.as_posix()
        if in_folder and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def upstream() -> AsyncIterator[OpenAIUpstream]:
    """An upstream that answers well until told otherwise."""
    async with OpenAIUpstream(completion()) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def all_stopped() -> AsyncIterator[None]:
    """Services that tests started have stopped, without errors, when the tests are over."""
    yield
    await asyncio.gather(*STOPPING)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_service() -> AsyncIterator[Running]:
    """A service that lives as long as the tests; starting one for each test would take most of the time."""
    async with run_service({"upstreams": {"demo": {"preset": "demo"}}, "models": DEMO_MODELS}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def service(shared_service: Running, upstream: OpenAIUpstream) -> AsyncIterator[Running]:
    """The shared service with fresh routes, budgets and circuits in front of `upstream`."""
    settings = LLMSettings.model_validate(settings_for(upstream))
    core = shared_service.service.core
    before, core.routing = core.routing, build_routing(settings, {})
    try:
        yield shared_service
    finally:
        core.routing.close()
        core.routing = before
