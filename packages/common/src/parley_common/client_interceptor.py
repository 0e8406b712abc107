"""The client side of a gRPC call: one span, one count, one duration.

The interceptors hand the call back without awaiting its end, which would stop a caller's cancellation from reaching it;
what there is to record is recorded when the call is done.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley_common.metrics import ServiceMetrics

Continuation = Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]]


class _Recorder:
    """Begins and ends what is recorded of a call."""

    def __init__(self, metrics: ServiceMetrics, tracer: Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer

    async def run(
        self, kind: str, continuation: Continuation, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        """Make the call with our trace context in its metadata and record how it ends."""
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        service, _, name = method.strip("/").rpartition("/")
        span = self._tracer.start_span(
            f"{service}/{name}",
            kind=SpanKind.CLIENT,
            attributes={"rpc.system.name": "grpc", "rpc.method": f"{service}/{name}"},
        )
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(span))
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *carrier.items())
        began = time.monotonic()

        def end(code: grpc.StatusCode) -> None:
            self._end(span, (kind, service, name), code, time.monotonic() - began)

        try:
            call = await continuation(_with_metadata(details, metadata), request)
        except BaseException as exc:
            end(grpc.StatusCode.CANCELLED if isinstance(exc, asyncio.CancelledError) else grpc.StatusCode.UNKNOWN)
            raise
        call.add_done_callback(lambda done: end(_final_code(done)))
        return call

    def _end(self, span: Span, labels: tuple[str, str, str], code: grpc.StatusCode, seconds: float) -> None:
        self._metrics.client_handled.labels(*labels, code.name).inc()
        self._metrics.client_seconds.labels(*labels).observe(seconds)
        span.set_attribute("rpc.status_code", code.name)
        if code is not grpc.StatusCode.OK:
            span.set_attribute("error.type", code.name)
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def _with_metadata(details: grpc.aio.ClientCallDetails, metadata: grpc.aio.Metadata) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


def _final_code(call: Any) -> grpc.StatusCode:
    """Return the code of a call that is done.

    `code()` is a coroutine; of a finished call it has nothing to wait for and ends at its first step.
    """
    pending = call.code()
    try:
        pending.send(None)
    except StopIteration as stop:
        return stop.value if isinstance(stop.value, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
    pending.close()
    return grpc.StatusCode.UNKNOWN


class _Interceptor:
    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._recorder.run("unary_unary", continuation, client_call_details, request)


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._recorder.run("unary_stream", continuation, client_call_details, request)


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await self._recorder.run("stream_unary", continuation, client_call_details, request_iterator)


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await self._recorder.run("stream_stream", continuation, client_call_details, request_iterator)


def client_interceptors(metrics: ServiceMetrics, tracer: Tracer) -> list[grpc.aio.ClientInterceptor]:
    """Return the interceptors for one channel: the library wants one object for each kind of call."""
    recorder = _Recorder(metrics, tracer)
    return [_UnaryUnary(recorder), _UnaryStream(recorder), _StreamUnary(recorder), _StreamStream(recorder)]
