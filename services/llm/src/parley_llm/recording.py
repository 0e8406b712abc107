"""Records one call and its attempts: metrics, spans, the caller's limits, one log line when it failed."""

import time
from collections.abc import Iterable
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer

from parley_llm.config import DEFAULT_ALIAS, PASS_THROUGH
from parley_llm.errors import DeadlineExceededError, LLMError, StoppedError
from parley_llm.exchange import ChatCall
from parley_llm.inflight import Inflight
from parley_llm.metrics import OPERATION, LLMMetrics
from parley_llm.routing import Route, Target

_log = structlog.get_logger("parley_llm.calls")
_DETAILS = (
    ("cached", "prompt_tokens_details", "cached_tokens"),
    ("reasoning", "completion_tokens_details", "reasoning_tokens"),
)


def may_record(tracer: Tracer) -> bool:
    """Tell whether any span of the tracer can ever be recorded: without an exporter none is, and none is started."""
    return getattr(tracer, "sampler", None) is not ALWAYS_OFF


class CallRecord:
    """One call from its admission to its end; `end` counts once, however often it is called."""

    def __init__(
        self,
        call: ChatCall,
        route: Route,
        metrics: LLMMetrics,
        tracer: Tracer | None,
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
        self._span: Span = INVALID_SPAN
        self._traced = False
        if tracer is not None:
            self._start_span(tracer, call.model[:200] or route.alias)

    def _start_span(self, tracer: Tracer, model: str) -> None:
        attributes: dict[str, str | bool] = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": self._stream,
            "parley.request_id": self._call.request_id,
            "parley.caller": self._call.caller.name,
        }
        self._span = tracer.start_span(f"{OPERATION} {model}", self._call.context, SpanKind.CLIENT, attributes)
        self._traced = self._span.is_recording()

    def attempt(self, target: Target, model: str, after: LLMError | None) -> Span:
        """Note the start of an attempt, `after` the failure of the one before; return its span."""
        course = self._call.course
        upstream = target.upstream
        if after is not None:
            self._metrics.retries(upstream.name, after.kind).value += 1
            if self._upstream != upstream.name:
                self._metrics.fallbacks(self._upstream, upstream.name).value += 1
        course.attempts += 1
        course.upstream = self._upstream = upstream.name
        course.model = model
        self._provider = upstream.preset.provider
        if not self._traced or self._tracer is None:
            return INVALID_SPAN
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.request.resend_count": course.attempts - 1,
            "server.address": upstream.address.host,
            "server.port": upstream.address.port,
            "parley.upstream": upstream.name,
        }
        return self._tracer.start_span("POST", trace.set_span_in_context(self._span), SpanKind.CLIENT, attributes)

    def attempt_ended(self, span: Span, upstream: str, error: BaseException | None) -> None:
        """Note how an attempt ended."""
        outcome, kind = _outcome(error)
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
            reasons = [str(choice.get("finish_reason")) for choice in completion["choices"]]
            self.said(str(completion.get("id")), str(completion.get("model")), reasons)

    def said(self, response_id: str, model: str, finish_reasons: Iterable[str]) -> None:
        """Note what the upstream says about its answer, complete or not."""
        if self._traced:
            self._span.set_attribute("gen_ai.response.id", response_id)
            self._span.set_attribute("gen_ai.response.model", model)
            self._span.set_attribute("gen_ai.response.finish_reasons", tuple(finish_reasons))

    def end(self, *, error: BaseException | None = None, usage: dict[str, Any] | None = None, text: int = 0) -> None:
        """Note the end of the call; `text` is the answer's length in bytes, for when usage is missing."""
        if self._ended:
            return
        self._ended = True
        self._inflight.leave()
        metrics, caller = self._metrics, self._call.caller
        if self._stream:
            metrics.active_streams.dec()
        counts = _counted(usage) if usage is not None else _estimated(self._call, text)
        source = "upstream" if usage is not None else "estimated"
        caller.leave(counts["input"] + counts["output"])
        outcome, kind = _outcome(error)
        elapsed = time.perf_counter() - self._started
        labels = (OPERATION, self._provider, self._model)
        metrics.duration(*labels, kind).observe(elapsed, _exemplar(self._span) if self._traced else None)
        metrics.requests(caller.name, OPERATION, self._model, outcome).value += 1
        if counts["input"] and (error is None or text):
            for name, count in counts.items():
                if count:
                    metrics.tokens(caller.name, self._model, name, source).value += count
            if usage is not None:
                metrics.token_usage(*labels, "input").observe(counts["input"])
                metrics.token_usage(*labels, "output").observe(counts["output"])
        if self._stream:
            self._end_stream(labels, error)
        if self._traced:
            self._end_span(error, kind, counts if usage is not None else {})
        if isinstance(error, LLMError):
            self._log_failure(error, elapsed)

    def _end_stream(self, labels: tuple[str, str, str], error: BaseException | None) -> None:
        if self._first_content is not None:
            self._metrics.first_chunk(*labels).observe(self._first_content - self._started)
            if self._chunks > 1:
                spread = time.perf_counter() - self._first_content
                self._metrics.per_chunk(*labels).observe(spread / (self._chunks - 1))
        if error is not None:
            self._metrics.aborted(_abort_reason(error)).value += 1

    def _end_span(self, error: BaseException | None, kind: str, counts: dict[str, int]) -> None:
        span = self._span
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


def _estimated(call: ChatCall, text: int) -> dict[str, int]:
    """Return an estimate of the tokens: four bytes of UTF-8 each, near the truth for English and Chinese alike.

    For the input the size of the messages as JSON is near enough, and already there.
    """
    return {"input": max(1, len(call.texts.get("messages", "")) // 4), "output": text // 4}


def _counted(usage: dict[str, Any]) -> dict[str, int]:
    """Return the tokens by type as the upstream counted them."""
    counts = {"input": _count(usage, "prompt_tokens"), "output": _count(usage, "completion_tokens")}
    for kind, details, name in _DETAILS:
        if usage.get(details):
            counts[kind] = _count(usage[details], name)
    return counts


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
    if isinstance(error, StoppedError):
        return "drain"
    if isinstance(error, DeadlineExceededError):
        return "deadline"
    return "upstream_broken" if isinstance(error, LLMError) else "client_cancelled"


def _exemplar(span: Span) -> dict[str, str] | None:
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None
