"""Every metric of this service. Label values are configured names or words of this program, never callers' text."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = tuple(0.01 * 2**n for n in range(15))
TOKENS = tuple(float(4**n) for n in range(11))
_GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
OPERATION = "chat"


class _Children:
    """Remembers a metric's labelled children; looking one up through the library costs three times as much."""

    def __init__(self, labels: Callable[..., Any]) -> None:
        self._labels = labels
        self._children: dict[tuple[str, ...], Any] = {}

    def __call__(self, *values: str) -> Any:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._labels(*values)
        return child


class LLMMetrics:
    """The metrics of the LLM service on one registry. The `gen_ai_*` names are OpenTelemetry's for GenAI clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> _Children:
            return _Children(Histogram(name, text, labels, buckets=buckets, registry=registry).labels)

        def counter(name: str, text: str, *labels: str) -> _Children:
            return _Children(Counter(name, text, labels, registry=registry).labels)

        self.duration = histogram(
            "gen_ai_client_operation_duration_seconds", "Duration of a call.", (*_GENAI, "error_type"), SECONDS
        )
        self.first_chunk = histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Time to a stream's first content.", _GENAI, SECONDS
        )
        self.per_chunk = histogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Mean time between a stream's chunks after the first.",
            _GENAI,
            SECONDS,
        )
        self.token_usage = histogram(
            "gen_ai_client_token_usage", "Tokens of a call.", (*_GENAI, "gen_ai_token_type"), TOKENS
        )
        self.requests = counter(
            "parley_llm_requests_total", "Calls that ended.", "caller", "operation", "model", "outcome"
        )
        self.tokens = counter(
            "parley_llm_tokens_total",
            "Tokens; source says whether the upstream counted them or they are estimated.",
            "caller",
            "model",
            "type",
            "source",
        )
        self.attempts = counter(
            "parley_llm_attempts_total", "Requests to upstreams.", "upstream", "outcome", "error_type"
        )
        self.retries = counter("parley_llm_retries_total", "Repeated attempts, by what failed.", "upstream", "reason")
        self.fallbacks = counter("parley_llm_fallbacks_total", "Changes to another upstream.", "from", "to")
        self.circuit = _Children(
            Gauge(
                "parley_llm_upstream_circuit_state",
                "Circuit of the upstream's target that was used last: 0 closed, 1 half open, 2 open.",
                ("upstream",),
                registry=registry,
            ).labels
        )
        self.rate_limited = counter(
            "parley_llm_ratelimited_total", "Calls refused by a caller's own limit.", "caller", "limit"
        )
        self.active_streams = Gauge("parley_llm_active_streams", "Streams being served.", registry=registry)
        self.aborted = counter("parley_llm_stream_aborted_total", "Streams that ended early.", "reason")
