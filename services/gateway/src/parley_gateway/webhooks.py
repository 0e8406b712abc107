"""The webhooks' HTTP face: read, prove, parse, store, acknowledge, in this order and on one screen.

Nothing is acknowledged before it is stored. What a platform may do with a held request, and how it is told that nothing
could be stored, is the platform's own business.
"""

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import structlog
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, SpanKind, Tracer
from starlette.requests import ClientDisconnect

from parley_gateway.admission import Admission
from parley_gateway.bots import Bot, Bots
from parley_gateway.clicks import Clicks
from parley_gateway.errors import DeliveryError, StoreUnavailableError, WebhookError
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.platforms.base import (
    Challenge,
    Clicked,
    Farewell,
    Handled,
    Ignored,
    Messages,
    Query,
    RawRequest,
    RawResponse,
    Recall,
)
from parley_gateway.store.base import AcceptOutcome, Receipt
from parley_gateway.store.records import QueuedMessage

log = structlog.get_logger("parley.webhooks")


Read = Callable[[], Awaitable[Handled]]
"""Proves and parses a request, or parses an event, and raises what `Platform.handle` raises."""


class BodyTooLargeError(Exception):
    """The request's body is larger than `gateway.max_body_bytes`."""


class Webhooks:
    """Receives webhook requests for all bots."""

    def __init__(
        self,
        bots: Bots,
        admission: Admission,
        clicks: Clicks,
        metrics: GatewayMetrics,
        tracer: Tracer,
        clock: Callable[[], float],
    ) -> None:
        """Take the collaborators."""
        self._bots = bots
        self._admission = admission
        self._clicks = clicks
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock

    async def receive(self, platform: str, name: str, request: RawRequest) -> RawResponse:
        """Answer one webhook request."""
        bot = self._bots.find(platform, name)
        if bot is None:
            return RawResponse(404, b"no such bot\n")
        # The query isn't recorded: WeChat puts signatures and the user's id there.
        span = self._tracer.start_span(
            f"{request.method} /webhooks/{{platform}}/{{bot}}",
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "http.route": "/webhooks/{platform}/{bot}",
                "parley.platform": bot.label,
                "parley.bot": name,
            },
        )
        return await self._measured(bot, span, lambda: bot.platform.handle(request))

    async def receive_event(self, bot: Bot, read: Read) -> RawResponse:
        """Answer one event that came over a platform's own connection, as `receive` answers a request."""
        attributes = {"parley.platform": bot.label, "parley.bot": bot.settings.name}
        span = self._tracer.start_span("receive event", kind=SpanKind.SERVER, attributes=attributes)
        return await self._measured(bot, span, read)

    async def _measured(self, bot: Bot, span: Span, read: Read) -> RawResponse:
        began = monotonic()
        with trace.use_span(span, end_on_exit=True):
            response = await self._answer(bot, read)
            span.set_attribute("http.response.status_code", response.status)
        self._metrics.ack_seconds.labels(bot.label).observe(monotonic() - began)
        return response

    async def _answer(self, bot: Bot, read: Read) -> RawResponse:
        try:
            handled = await read()
            match handled:
                case Challenge(response):
                    self._metrics.event(bot.label, "verify", "accepted")
                    return response
                case Ignored(event, response, outcome):
                    self._metrics.event(bot.label, event, outcome)
                    return response
                case Query(event, respond):
                    self._metrics.event(bot.label, event, "accepted")
                    return await respond()
                case Messages():
                    return await self._take(bot, handled)
                case Clicked():
                    return await self._clicks.take(bot, handled)
                case Recall(conversation, message_id, response):
                    await self._admission.recall(conversation, message_id)
                    self._metrics.event(bot.label, "recall", "accepted")
                    return response
                case Farewell(conversation, at, response):
                    await self._admission.forget(conversation, at=at)
                    self._metrics.event(bot.label, "unsubscribe", "accepted")
                    return response
        except WebhookError as exc:
            self._metrics.event(bot.label, "other", exc.outcome)
            log.warning("webhook_refused", platform=bot.label, bot=bot.settings.name, error=str(exc))
            return RawResponse(exc.status, f"{exc}\n".encode())
        except (StoreUnavailableError, DeliveryError) as exc:
            self._metrics.event(bot.label, "other", "unavailable")
            log.error("webhook_not_stored", platform=bot.label, bot=bot.settings.name, error=str(exc))
            return await bot.platform.unavailable()

    async def _take(self, bot: Bot, handled: Messages) -> RawResponse:
        """Store the messages of one request, then acknowledge it."""
        receipt: Receipt | None = None
        for message in handled.messages:
            with self._tracer.start_as_current_span(
                "send inbound",
                kind=SpanKind.PRODUCER,
                attributes={
                    "messaging.operation.name": "send",
                    "messaging.destination.name": "inbound",
                    "messaging.message.id": message.message_id,
                },
            ) as span:
                carrier: dict[str, str] = {}
                inject(carrier)
                item = QueuedMessage(message, self._clock(), traceparent=carrier.get("traceparent", ""))
                admitted = await self._admission.admit(bot, handled, item)
                receipt = admitted.receipt
                if receipt is not None and receipt.outcome is AcceptOutcome.DUPLICATE:
                    _link_first(span, receipt)
            self._metrics.event(bot.label, handled.event, admitted.outcome)
            if admitted.response is not None:
                return admitted.response
        if receipt is None:
            raise ValueError("a platform returned Messages without a message")
        return await handled.respond(receipt)


def _link_first(span: trace.Span, receipt: Receipt) -> None:
    """Link a redelivery's trace to that of the first delivery."""
    first = trace.get_current_span(extract({"traceparent": receipt.traceparent})).get_span_context()
    if first.is_valid:
        span.add_link(first)


def create_app(webhooks: Webhooks, *, max_body_bytes: int) -> FastAPI:
    """Build the app of the webhooks' port."""
    app = FastAPI(title="Parley gateway", openapi_url=None, docs_url=None, redoc_url=None)

    async def webhook(platform: str, bot: str, request: Request) -> Response:
        try:
            body = await _read(request, max_body_bytes)
        except BodyTooLargeError:
            return Response("the body is too large\n", status_code=413, media_type="text/plain")
        except ClientDisconnect:
            # The platform gave up before its request was here whole; it will deliver again.
            return Response(status_code=400)
        raw = RawRequest(request.method, dict(request.query_params), _lower(request.headers), body)
        answer = await webhooks.receive(platform, bot, raw)
        return Response(answer.body, status_code=answer.status, headers={"content-type": answer.content_type})

    app.add_api_route("/webhooks/{platform}/{bot}", webhook, methods=["GET", "POST"], response_model=None)
    return app


async def _read(request: Request, limit: int) -> bytes:
    """Read the body, at most `limit` bytes. Raises BodyTooLargeError."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
