"""The server side of a gRPC call: one span, one count, one duration, and errors in their wire form, whatever happens.

Every call ends exactly once: returned, failed with one of our errors, failed with a bug, cancelled by the client, by
its deadline or by the server's own stop. Streaming handlers are driven from here and written with `context.write`:
handed to the library as generators they would, when cancelled in the middle of a write, be closed by the garbage
collector only.
"""

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from parley_common.calls_in_work import CallsInWork
from parley_common.errors import (
    DETAILS_KEY,
    MAX_MESSAGE,
    InternalError,
    ServiceError,
    clip,
    status_details,
)
from parley_common.metrics import ServiceMetrics

DEADLINE_SLACK_S = 0.02
"""A cancellation this shortly before the deadline is the deadline: the client's cancel arrives a little early."""

END_DOUBT_S = 0.02
"""How long the end of a client's messages is in doubt. To a handler a cancelled call first looks like one whose client
has said everything; the cancellation itself follows within a few milliseconds."""

_FAULTS = {
    grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
}  # fmt: skip
"""Codes that count as the server's fault (OpenTelemetry semantic conventions for RPC)."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAKE_HANDLER = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

ServicerContext = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, ServicerContext], Awaitable[Any]]

log = structlog.get_logger("parley.grpc")


@dataclass(frozen=True, slots=True)
class _Method:
    """What the metrics say of a call."""

    kind: str
    service: str
    name: str

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.kind, self.service, self.name


class _Writer:
    """The context of a streaming call, of which no write is broken off by the server's own stop."""

    def __init__(self, context: ServicerContext, calls: CallsInWork) -> None:
        self._context = context
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, response: Any) -> None:
        with self._calls.write():
            await self._context.write(response)


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the (asynchronous) handlers of the services it was told about.

    Of the others, health and reflection, only the streams are kept track of, so that a stop can end them.
    """

    def __init__(
        self, metrics: ServiceMetrics, tracer: Tracer, services: tuple[str, ...], domain: str, calls: CallsInWork
    ) -> None:
        """`domain` is the domain of `google.rpc.ErrorInfo`; `calls` is told of every call."""
        self._metrics = metrics
        self._tracer = tracer
        self._services = frozenset(services)
        self._domain = domain
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler, wrapped."""
        handler = await continuation(handler_call_details)
        service, _, name = handler_call_details.method.strip("/").rpartition("/")
        ours = service in self._services
        if handler is None or not (ours or handler.response_streaming):
            return handler
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if handler.request_streaming:
            inner = _told_in_full(inner)
        if handler.response_streaming:
            inner = self._written(inner)
        if ours:
            sides = (handler.request_streaming, handler.response_streaming)
            method = _Method("_".join("stream" if side else "unary" for side in sides), service, name)
            wrapped = self._recorded(inner, method, dict(handler_call_details.invocation_metadata or ()))
        else:
            wrapped = self._watched(inner)
        make = _MAKE_HANDLER[handler.request_streaming, handler.response_streaming]
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _watched(self, inner: Handler) -> Handler:
        async def handle(request: Any, context: ServicerContext) -> None:
            try:
                with self._calls.watch():
                    await self._unless_ended(inner(request, context))
            except ServiceError as error:
                await self._abort(context, error)

        return handle

    def _recorded(self, inner: Handler, method: _Method, metadata: dict[str, Any]) -> Handler:
        async def handle(request: Any, context: ServicerContext) -> Any:
            async with self._recording(method, metadata, context):
                with self._calls.call():
                    return await self._unless_ended(inner(request, context))

        return handle

    @asynccontextmanager
    async def _recording(
        self, method: _Method, metadata: dict[str, Any], context: ServicerContext
    ) -> AsyncGenerator[None, None]:
        """Record what happens in the block, and turn its failure into an abort of the call."""
        request_id = str(metadata.get("x-request-id") or uuid.uuid4().hex)[:64]
        span = self._start_span(method, metadata, request_id)
        token = attach(set_span_in_context(span))
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._metrics.server_started.labels(*method.labels).inc()
        self._metrics.inflight.inc()
        began = time.monotonic()
        code = grpc.StatusCode.UNKNOWN
        try:
            yield
            code = _code(context)
        except grpc.aio.AbortError:
            code = _code(context)
            raise
        except (Exception, asyncio.CancelledError) as exc:
            if _client_is_gone(exc):
                code = _code_of_cancellation(context)
                raise asyncio.CancelledError from exc
            error = exc if isinstance(exc, ServiceError) else _bug(exc, method, span, request_id)
            code = error.code
            await self._abort(context, error)
        finally:
            self._metrics.inflight.dec()
            self._metrics.server_handled.labels(*method.labels, code.name).inc()
            self._metrics.server_seconds.labels(*method.labels).observe(time.monotonic() - began)
            _end_span(span, code)
            detach(token)

    def _start_span(self, method: _Method, metadata: dict[str, Any], request_id: str) -> Span:
        carrier = {key: str(metadata[key]) for key in ("traceparent", "tracestate") if key in metadata}
        name = f"{method.service}/{method.name}"
        return self._tracer.start_span(
            name,
            context=TraceContextTextMapPropagator().extract(carrier, context=Context()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": name, "parley.request_id": request_id},
        )

    def _written(self, inner: Any) -> Handler:
        """Return a handler that writes what `inner`, an asynchronous generator function, yields."""

        async def handle(request: Any, context: ServicerContext) -> None:
            guarded: Any = _Writer(context, self._calls)
            responses = inner(request, guarded)
            if inspect.isawaitable(responses):
                # This handler writes for itself.
                await responses
                return
            async with aclosing(responses):
                async for response in responses:
                    await guarded.write(response)

        return handle

    async def _unless_ended(self, handling: Awaitable[Any]) -> Any:
        """Wait for the handler. Raises StoppedError when the server's stop has cancelled it."""
        try:
            return await handling
        except asyncio.CancelledError:
            self._calls.check()
            raise

    async def _abort(self, context: ServicerContext, error: ServiceError) -> None:
        trailing = [*(context.trailing_metadata() or ()), (DETAILS_KEY, status_details(error, self._domain))]
        await context.abort(error.code, clip(error.message, MAX_MESSAGE), tuple(trailing))


def _client_is_gone(exc: BaseException) -> bool:
    """Tell whether the call itself was cancelled: by its client, or by its deadline.

    A CancelledError without that is a bug of the handler (something it waited for was cancelled): the client waits on.
    """
    if isinstance(exc, grpc.aio.InternalError):
        # A read or write on the call failed: this may be noticed before the cancellation is.
        return True
    task = asyncio.current_task()
    return isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _bug(exc: BaseException, method: _Method, span: Span, request_id: str) -> ServiceError:
    """Log a failure that isn't one of ours; return what the client may know of it."""
    log.error("call_failed", method=method.name, exc_info=exc)
    # Only the type: the text may hold content, and the log's filter for secrets doesn't see spans.
    span.add_event("exception", {"exception.type": type(exc).__name__})
    return InternalError(f"internal error, request {request_id}")


def _told_in_full(inner: Any) -> Any:
    """Return a handler for which the end of the client's messages is one, not the beginning of a cancellation.

    Else half an upload would be taken for a whole one, and worked on for money.
    """

    async def whole(requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        async for request in requests:
            yield request
        await asyncio.sleep(END_DOUBT_S)

    def handle(requests: AsyncIterator[Any], context: ServicerContext) -> Any:
        return inner(whole(requests), context)

    return handle


def _code(context: ServicerContext) -> grpc.StatusCode:
    """Return the code that the handler set, OK when it set none."""
    code: Any = context.code()
    if not code:
        return grpc.StatusCode.OK
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)


def _code_of_cancellation(context: ServicerContext) -> grpc.StatusCode:
    left = context.time_remaining()
    over = left is not None and left <= DEADLINE_SLACK_S
    return grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED


def _end_span(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.status_code", code.name)
    if code in _FAULTS:
        span.set_attribute("error.type", code.name)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
