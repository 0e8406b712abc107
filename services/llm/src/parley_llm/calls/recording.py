"""Records one call and its attempts: metrics, spans, the caller's limits, one log line when it failed."""

import time
from collections.abc import Iterable
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from parley_common.telemetry import Telemetry

from parley_llm.calls.inflight import Inflight
from parley_llm.calls.routing import Route, Target
from parley_llm.config.values import DEFAULT_ALIAS, PASS_THROUGH
from parley_llm.errors import DeadlineExceededError, LLMError, StoppedError
from parley_llm.exchange import Call
from parley_llm.limits.base import Admission
from parley_llm.metrics import LLMMetrics
from parley_llm.prices import FREE, cost
from parley_llm.usage import Usage

_log = structlog.get_logger("parley_llm.calls")


class CallRecord:
    """One call from its admission to its end; `end` counts once, however often it is called."""

    def __init__(
        self,
        call: Call,
        admission: Admission,
        route: Route,
        metrics: LLMMetrics,
        telemetry: Telemetry,
        inflight: Inflight,
    ) -> None:
        inflight.enter()
        if call.stream:
            metrics.active_streams.inc()
        self._inflight = inflight
        self._call = call
        self._admission = admission
        self._prices = FREE
        self._target: Target | None = None
        self._metrics = metrics
        self._stream = call.stream
        self._operation = call.operation
        self._started = time.perf_counter()
        self._first_content: float | None = None
        self._chunks = 0
        self._ended = False
        self._provider = route.targets[0].upstream.preset.provider
        self._model = _model_label(route, call.model)
        self._upstream = ""
        self._span: Span = INVALID_SPAN
        self._tracer: Tracer | None = None
        if telemetry.records:
            self._start_span(telemetry, call.model[:200] or route.alias)
        self._traced = self._tracer is not None

    def _start_span(self, telemetry: Telemetry, model: str) -> None:
        name = f"{self._operation.gen_ai} {model}"
        self._tracer = telemetry.tracer_for(name, self._call.context, SpanKind.CLIENT)
        if self._tracer is None:
            return
        attributes: dict[str, str | bool] = {
            "gen_ai.operation.name": self._operation.gen_ai,
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": self._stream,
            "parley.request_id": self._call.request_id,
            "parley.caller": self._call.caller.name,
        }
        self._span = self._tracer.start_span(name, self._call.context, SpanKind.CLIENT, attributes)

    def attempt(self, target: Target, model: str, after: LLMError | None) -> Span:
        """Note the start of an attempt, `after` the failure of the one before; return its span."""
        course = self._call.course
        upstream = target.upstream
        self._prices = target.prices
        self._target = target
        if after is not None:
            self._metrics.retries(upstream.name, after.kind).value += 1
            if self._upstream != upstream.name:
                self._metrics.fallbacks(self._upstream, upstream.name).value += 1
        course.attempts += 1
        self.won(target, model)
        if self._tracer is None:
            return INVALID_SPAN
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.request.resend_count": course.attempts - 1,
            "server.address": upstream.address.host,
            "server.port": upstream.address.port,
            "parley.upstream": upstream.name,
        }
        return self._tracer.start_span("POST", trace.set_span_in_context(self._span), SpanKind.CLIENT, attributes)

    def won(self, target: Target, model: str) -> None:
        """Note whose answer the call has, or waits for."""
        course, upstream = self._call.course, target.upstream
        course.upstream = self._upstream = upstream.name
        course.model = model
        self._provider = upstream.preset.provider
        self._prices = target.prices
        self._target = target

    def attempt_ended(self, span: Span, upstream: str, error: BaseException | None, *, lost: bool = False) -> None:
        """Note how an attempt ended; `lost` says that another one beside it was quicker."""
        outcome, kind = ("hedged", "hedged") if lost else _outcome(error)
        self._metrics.attempts(upstream, outcome, kind).value += 1
        if not self._traced:
            return
        if error is None:
            span.set_attribute("http.response.status_code", 200)
        else:
            span.set_attribute("error.type", kind)
        if isinstance(error, LLMError):
            status = error.metadata.get("upstream_status")
            if status:
                span.set_attribute("http.response.status_code", int(status))
            span.set_status(Status(StatusCode.ERROR, error.reason))
        span.end()

    def circuit(self, target: Target, state: int) -> None:
        """Show a target's circuit."""
        self._metrics.show_circuit(target.upstream.name, state)

    def content(self, chunks: int) -> None:
        """Note that content was passed on."""
        if self._first_content is None:
            self._first_content = time.perf_counter()
        self._chunks += chunks

    def answered(self, completion: dict[str, Any]) -> None:
        """Note what the upstream says about its complete answer."""
        if self._traced:
            choices = completion.get("choices")
            reasons = [
                str(choice.get("finish_reason"))
                for choice in (choices if isinstance(choices, list) else [])
                if isinstance(choice, dict) and choice.get("finish_reason")
            ]
            self.said(str(completion.get("id") or ""), str(completion.get("model") or ""), reasons)

    def said(self, response_id: str, model: str, finish_reasons: Iterable[str]) -> None:
        """Note what the upstream says about its answer, complete or not."""
        if not self._traced:
            return
        if response_id:
            self._span.set_attribute("gen_ai.response.id", response_id)
        if model:
            self._span.set_attribute("gen_ai.response.model", model)
        if reasons := tuple(finish_reasons):
            self._span.set_attribute("gen_ai.response.finish_reasons", reasons)

    def end(self, *, error: BaseException | None = None, usage: Usage | None = None) -> None:
        """Note the end of the call, and what it used; None for nothing."""
        if self._ended:
            return
        self._ended = True
        self._inflight.leave()
        metrics, caller = self._metrics, self._call.caller
        if self._stream:
            metrics.active_streams.dec()
        price = cost(self._prices, usage) if usage is not None else 0.0
        caller.account.release(self._admission, self._model, usage or Usage(), price)
        outcome, kind = _outcome(error)
        elapsed = time.perf_counter() - self._started
        operation = self._operation
        labels = (operation.gen_ai, self._provider, self._answering_model())
        metrics.duration(*labels, kind).observe(elapsed, _exemplar(self._span) if self._traced else None)
        metrics.requests(caller.name, operation.name, self._model, outcome).value += 1
        if usage is not None:
            self._count_tokens(usage, labels)
            if price:
                metrics.cost(caller.name, self._model).value += price
        if self._call.app:
            self._count_app(outcome, usage)
        if self._stream:
            self._end_stream(labels, error)
        if self._traced:
            self._end_span(error, kind, usage)
        if isinstance(error, LLMError):
            self._log_failure(error, elapsed)

    def _answering_model(self) -> str:
        """Return the label of the model that answered, or was asked last: as configured, never a caller's own words."""
        target = self._target
        return self._model if target is None or target.alias == PASS_THROUGH else target.model or target.alias

    def _count_tokens(self, usage: Usage, labels: tuple[str, str, str]) -> None:
        metrics, caller, model = self._metrics, self._call.caller.name, self._model
        source = "estimated" if usage.estimated else "upstream"
        if usage.input:
            metrics.tokens(caller, model, "input", source).value += usage.input
        if usage.output:
            metrics.tokens(caller, model, "output", source).value += usage.output
        if usage.cached:
            metrics.tokens(caller, model, "cached", source).value += usage.cached
        if usage.reasoning:
            metrics.tokens(caller, model, "reasoning", source).value += usage.reasoning
        if usage.tokens and not usage.estimated:
            metrics.token_usage(*labels, "input").observe(usage.input)
            metrics.token_usage(*labels, "output").observe(usage.output)

    def _count_app(self, outcome: str, usage: Usage | None) -> None:
        caller = self._call.caller.name
        app = self._call.app if self._call.app in self._call.caller.apps else "other"
        self._metrics.app_requests(caller, app, outcome).value += 1
        if usage is not None:
            self._metrics.app_tokens(caller, app, "input").value += usage.input
            self._metrics.app_tokens(caller, app, "output").value += usage.output

    def _end_stream(self, labels: tuple[str, str, str], error: BaseException | None) -> None:
        if self._first_content is not None:
            self._metrics.first_chunk(*labels).observe(self._first_content - self._started)
            if self._chunks > 1:
                spread = time.perf_counter() - self._first_content
                self._metrics.per_chunk(*labels).observe(spread / (self._chunks - 1))
        if error is not None:
            self._metrics.aborted(_abort_reason(error)).value += 1

    def _end_span(self, error: BaseException | None, kind: str, usage: Usage | None) -> None:
        span = self._span
        if self._first_content is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_content - self._started)
        if usage is not None and not usage.estimated:
            span.set_attribute("gen_ai.usage.input_tokens", usage.input)
            span.set_attribute("gen_ai.usage.output_tokens", usage.output)
        span.set_attribute("parley.attempts", self._call.course.attempts)
        if kind:
            span.set_attribute("error.type", kind)
        if isinstance(error, LLMError):
            span.set_status(Status(StatusCode.ERROR, error.reason))
        span.end()

    def _log_failure(self, error: LLMError, elapsed: float) -> None:
        course = self._call.course
        _log.warning(
            "call failed",
            reason=error.reason,
            request_id=self._call.request_id,
            caller=self._call.caller.name,
            model=self._model,
            upstream=course.upstream,
            attempts=course.attempts,
            seconds=round(elapsed, 3),
            upstream_status=error.metadata.get("upstream_status"),
            upstream_request_id=error.metadata.get("upstream_request_id"),
        )


def _model_label(route: Route, asked: str) -> str:
    if route.alias != PASS_THROUGH:
        return route.alias
    model = route.targets[0].model
    return model if model and asked in ("", DEFAULT_ALIAS, model) else "other"


def _outcome(error: BaseException | None) -> tuple[str, str]:
    if error is None:
        return "ok", ""
    if isinstance(error, LLMError):
        return "error", error.kind
    return "cancelled", "cancelled"


def _abort_reason(error: BaseException) -> str:
    if isinstance(error, StoppedError):
        return "drain"
    if isinstance(error, DeadlineExceededError):
        return "deadline"
    return "upstream_broken" if isinstance(error, LLMError) else "client_cancelled"


def _exemplar(span: Span) -> dict[str, str] | None:
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None
