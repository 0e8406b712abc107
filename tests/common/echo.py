"""A gRPC service of plain bytes that does what a request says, behind a real server and channel, with what both record.

The four methods differ in which side streams. What a request may say: see `Echo._act`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Tracer
from parley_common.errors import ServiceError
from parley_common.grpc_client import cancelling, create_channel
from parley_common.grpc_server import bind_port, create_server
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health

SERVICE = "parley.test.v1.EchoService"
DOMAIN = "test.parley"
METHODS = {
    "unary_unary": "Unary",
    "unary_stream": "Stream",
    "stream_unary": "Collect",
    "stream_stream": "Converse",
}
SECRET_PLAN = "words of the bug"


class FullError(ServiceError):
    """An error of the service."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "FULL"
    retryable = True


class Echo:
    """The service, and what happened to its handlers."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        """A handler runs."""
        self.waiting = asyncio.Event()
        """A handler has taken in everything and waits."""
        self.completed = asyncio.Event()
        """A handler has come to its end by itself."""
        self.ended = asyncio.Event()
        self.ended_at = 0.0
        self.produced = 0
        self.request_id: str | None = None
        self.trace_id = 0
        self.error: ServiceError = FullError("too much of it", retry_after_s=1.5, metadata={"limit": "3"})

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
                "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
                "Converse": grpc.stream_stream_rpc_method_handler(self.converse),
                "Write": grpc.unary_stream_rpc_method_handler(self.write),
            },
        )

    async def unary(self, request: bytes, context: Any) -> bytes:
        async with self._observed():
            return await self._act(request, context)

    async def stream(self, request: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        async with self._observed():
            yield b"first"
            while request == b"flood":
                self.produced += 1
                yield b"x" * 65536
            yield await self._act(request, context)

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with self._observed():
            return b"+".join([await self._act(request, context) async for request in requests])

    async def converse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncGenerator[bytes, None]:
        async with self._observed():
            yield b"first"
            async for request in requests:
                yield await self._act(request, context)

    async def write(self, request: bytes, context: Any) -> None:
        """Answer with the library's other way of streaming."""
        async with self._observed():
            await context.write(b"first")
            await context.write(await self._act(request, context))

    @asynccontextmanager
    async def _observed(self) -> AsyncGenerator[None, None]:
        self.request_id = structlog.contextvars.get_contextvars().get("request_id")
        self.trace_id = trace.get_current_span().get_span_context().trace_id
        self.began.set()
        try:
            yield
            self.completed.set()
        finally:
            self.ended_at = time.monotonic()
            self.ended.set()

    async def _act(self, what: bytes, context: Any) -> bytes:
        match what:
            case b"error":
                raise self.error
            case b"abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "not here")
            case b"bug":
                raise ValueError(SECRET_PLAN)
            case b"own cancel":
                sleeper = asyncio.create_task(asyncio.sleep(30))
                sleeper.cancel()
                await sleeper
            case b"code":
                context.set_code(grpc.StatusCode.ALREADY_EXISTS)
            case b"wait":
                self.waiting.set()
                await asyncio.sleep(30)
        return what


@dataclass(frozen=True, slots=True)
class World:
    """A server and a channel to it, with everything they recorded."""

    echo: Echo
    health: Health
    server: grpc.aio.Server
    port: int
    channel: grpc.aio.Channel
    exporter: InMemorySpanExporter
    tracer: Tracer
    server_metrics: ServiceMetrics
    client_metrics: ServiceMetrics

    def call(self, kind: str, what: bytes, **options: Any) -> Any:
        """Begin a call."""
        return begin_call(self.channel, kind, what, **options)

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        """Return the finished spans of this kind."""
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    def counted(self, metrics: ServiceMetrics, name: str) -> dict[str, float]:
        """Return the samples of this name by code (or by nothing), all labels else summed up."""
        found: dict[str, float] = {}
        for family in metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name:
                    code = sample.labels.get("grpc_code", "")
                    found[code] = found.get(code, 0.0) + sample.value
        return found


def begin_call(channel: grpc.aio.Channel, kind: str, what: bytes, **options: Any) -> Any:
    """Begin a call of this kind with one request."""
    request = _once(what) if kind.startswith("stream") else what
    return stub(channel, kind)(request, **options)


def stub(channel: grpc.aio.Channel, kind: str, method: str = "") -> Any:
    """Return what calls the service's method: the one of this kind, or another."""
    return getattr(channel, kind)(f"/{SERVICE}/{method or METHODS[kind]}")


async def _once(what: bytes) -> AsyncGenerator[bytes, None]:
    yield what


async def responses_of(call: Any, kind: str) -> list[bytes]:
    """Return all answers of a call, as clients are told to take them in."""
    if not kind.endswith("stream"):
        return [await call]
    async with cancelling(call):
        return [response async for response in call]


async def eventually(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait until the condition holds; fail when it doesn't in time."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def until_stuck(echo: Echo) -> None:
    """Wait until flow control holds a handler that floods its client in a write."""
    await eventually(lambda: echo.produced > 1)
    produced = -1
    while produced != echo.produced:
        produced = echo.produced
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(**options: Any) -> AsyncGenerator[World, None]:
    """Run the echo service and a channel to it; `options` are those of `create_server`."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer: Tracer = provider.get_tracer("test")
    echo = Echo()
    server_metrics, client_metrics = ServiceMetrics("server", "1"), ServiceMetrics("client", "1")
    health = Health(server_metrics, (SERVICE,))
    server = create_server(server_metrics, tracer, health, services=(SERVICE,), domain=DOMAIN, **options)
    server.add_generic_rpc_handlers((echo.handlers(),))
    port = bind_port(server, "127.0.0.1", 0)
    await server.start()
    await health.started()
    channel = create_channel(f"127.0.0.1:{port}", client_metrics, tracer)
    try:
        yield World(echo, health, server, port, channel, exporter, tracer, server_metrics, client_metrics)
    finally:
        await channel.close()
        await server.stop(0)
