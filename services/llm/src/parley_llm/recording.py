"""Records one call and its attempts: metrics, spans, the caller's limits, one log line when it failed."""

import time
from collections.abc import Iterable
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from parley_llm.config import DEFAULT_ALIAS, PASS_THROUGH
from parley_llm.errors import DeadlineExceededError, DrainingError, LLMError
from parley_llm.exchange import ChatCall
from parley_llm.inflight import Inflight
from parley_llm.metrics import OPERATION, LLMMetrics
from parley_llm.routing import Route, Target

_log = structlog.get_logger("parley_llm.calls")


class CallRecord:
    """One call from its admission to its end; `end` counts once, however often it is called."""

    def __init__(
        self,
        call: ChatCall,
        route: Route,
        metrics: LLMMetrics,
        tracer: Tracer,
        inflight: Inflight,
        *,
        stream: bool,
    ) -> None:
        inflight.enter()
        if stream:
            metrics.active_streams.inc()
        self._inflight = inflight
        self._call = call
        self._metrics = metrics
        self._tracer = tracer
        self._stream = stream
        self._started = time.perf_counter()
        self._first_content: float | None = None
        self._chunks = 0
        self._ended = False
        self._provider = route.targets[0].upstream.preset.provider
        self._model = _model_label(route, call.model)
        self._upstream = ""
        attributes: dict[str, str | bool] = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": call.model[:200] or route.alias,
            "gen_ai.request.stream": stream,
            "parley.request_id": call.request_id,
            "parley.caller": call.caller.name,
        }
        name = f"{OPERATION} {attributes['gen_ai.request.model']}"
        self._span = tracer.start_span(name, call.context, SpanKind.CLIENT, attributes)

    def attempt(self, target: Target, model: str, after: LLMError | None) -> Span:
        """Note the start of an attempt, `after` the failure of the one before; return its span."""
        course = self._call.course
        upstream = target.upstream
        if after is not None:
            self._metrics.retries(upstream.name, after.kind).inc()
            if self._upstream != upstream.name:
                self._metrics.fallbacks(self._upstream, upstream.name).inc()
        course.attempts += 1
        course.upstream = self._upstream = upstream.name
        course.model = model
        self._provider = upstream.preset.provider
        return self._tracer.start_span(
            "POST",
            trace.set_span_in_context(self._span) if self._span.is_recording() else self._call.context,
            SpanKind.CLIENT,
            {
                "http.request.method": "POST",
                "http.request.resend_count": course.attempts - 1,
                "server.address": upstream.address.host,
                "server.port": upstream.address.port,
                "parley.upstream": upstream.name,
            },
        )

    def attempt_ended(self, span: Span, upstream: str, error: BaseException | None) -> None:
        """Note how an attempt ended."""
        if error is None:
            self._metrics.attempts(upstream, "ok", "").inc()
            span.set_attribute("http.response.status_code", 200)
        elif isinstance(error, LLMError):
            self._metrics.attempts(upstream, "error", error.kind).inc()
            span.set_attribute("error.type", error.kind)
            status = error.metadata.get("upstream_status")
            if status:
                span.set_attribute("http.response.status_code", int(status))
            span.set_status(Status(StatusCode.ERROR, error.reason))
        else:
            self._metrics.attempts(upstream, "cancelled", "cancelled").inc()
            span.set_attribute("error.type", "cancelled")
        span.end()

    def circuit(self, target: Target, state: int) -> None:
        """Show a target's circuit."""
        self._metrics.circuit(target.upstream.name).set(state)

    def content(self, chunks: int) -> None:
        """Note that content was passed on."""
        if self._first_content is None:
            self._first_content = time.perf_counter()
        self._chunks += chunks

    def answered(self, response_id: str, model: str, finish_reasons: Iterable[str]) -> None:
        """Note what the upstream says about its answer."""
        if self._span.is_recording():
            self._span.set_attribute("gen_ai.response.id", response_id)
            self._span.set_attribute("gen_ai.response.model", model)
            self._span.set_attribute("gen_ai.response.finish_reasons", tuple(finish_reasons))

    def end(self, *, error: BaseException | None = None, usage: dict[str, Any] | None = None, text: int = 0) -> None:
        """Note the end of the call; `text` is the answer's length in bytes, for when usage is missing."""
        if self._ended:
            return
        self._ended = True
        self._inflight.leave()
        if self._stream:
            self._metrics.active_streams.dec()
        counts, source = _token_counts(usage, self._call, text)
        self._call.caller.leave(counts["input"] + counts["output"])
        outcome, kind = _outcome(error)
        elapsed = time.perf_counter() - self._started
        labels = (OPERATION, self._provider, self._model)
        self._metrics.duration(*labels, kind).observe(elapsed, _exemplar(self._span))
        self._metrics.requests(self._call.caller.name, OPERATION, self._model, outcome).inc()
        if counts["input"] and (error is None or text):
            for name, count in counts.items():
                if count:
                    self._metrics.tokens(self._call.caller.name, self._model, name, source).inc(count)
            if source == "upstream":
                self._metrics.token_usage(*labels, "input").observe(counts["input"])
                self._metrics.token_usage(*labels, "output").observe(counts["output"])
        if self._stream:
            self._end_stream(labels, error)
        self._end_span(error, kind, counts if source == "upstream" else {})
        if isinstance(error, LLMError):
            self._log_failure(error, elapsed)

    def _end_stream(self, labels: tuple[str, str, str], error: BaseException | None) -> None:
        if self._first_content is not None:
            self._metrics.first_chunk(*labels).observe(self._first_content - self._started)
            if self._chunks > 1:
                spread = time.perf_counter() - self._first_content
                self._metrics.per_chunk(*labels).observe(spread / (self._chunks - 1))
        if error is not None:
            self._metrics.aborted(_abort_reason(error)).inc()

    def _end_span(self, error: BaseException | None, kind: str, counts: dict[str, int]) -> None:
        span = self._span
        if span.is_recording():
            if self._first_content is not None:
                span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_content - self._started)
            if counts:
                span.set_attribute("gen_ai.usage.input_tokens", counts["input"])
                span.set_attribute("gen_ai.usage.output_tokens", counts["output"])
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


def _token_counts(usage: dict[str, Any] | None, call: ChatCall, text: int) -> tuple[dict[str, int], str]:
    """Return the tokens by type, and whether the `upstream` counted them or they are `estimated`.

    The estimate is four bytes of UTF-8 a token, which is near the truth for English and Chinese alike.
    """
    if usage is None:
        # The size of the messages as JSON: near enough, and already there.
        return {"input": max(1, len(call.texts.get("messages", "")) // 4), "output": text // 4}, "estimated"
    prompt_details = usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return {
        "input": _count(usage, "prompt_tokens"),
        "output": _count(usage, "completion_tokens"),
        "cached": _count(prompt_details, "cached_tokens"),
        "reasoning": _count(completion_details, "reasoning_tokens"),
    }, "upstream"


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def _outcome(error: BaseException | None) -> tuple[str, str]:
    if error is None:
        return "ok", ""
    if isinstance(error, LLMError):
        return "error", error.kind
    return "cancelled", "cancelled"


def _abort_reason(error: BaseException) -> str:
    if isinstance(error, DrainingError):
        return "drain"
    if isinstance(error, DeadlineExceededError):
        return "deadline"
    return "upstream_broken" if isinstance(error, LLMError) else "client_cancelled"


def _exemplar(span: Span) -> dict[str, str] | None:
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled and span.is_recording() else None
