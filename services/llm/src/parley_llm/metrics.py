"""Every metric of this service. Label values are configured names or words of this program, never callers' text."""

from prometheus_client import CollectorRegistry, Gauge

from parley_llm.tally import Counter, Histogram

SECONDS = tuple(0.01 * 2**n for n in range(15))
TOKENS = tuple(float(4**n) for n in range(11))
_GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class LLMMetrics:
    """The metrics of the LLM service on one registry. The `gen_ai_*` names are OpenTelemetry's for GenAI clients."""

    def __init__(self, registry: CollectorRegistry, currency: str = "USD") -> None:
        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets, registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry)

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
        self._circuit = Gauge(
            "parley_llm_upstream_circuit_state",
            "Circuit of the upstream's target that was used last: 0 closed, 1 half open, 2 open.",
            ("upstream",),
            registry=registry,
        )
        self.rate_limited = counter(
            "parley_llm_ratelimited_total", "Calls refused by a caller's own limit.", "caller", "limit"
        )
        self.rate_limit_wait = histogram(
            "parley_llm_ratelimit_wait_seconds",
            "Time that calls over a caller's limit waited, whether they were let in then or not.",
            ("caller",),
            SECONDS,
        )
        self.queue_depth = Gauge(
            "parley_llm_queue_depth", "Calls that wait for their caller's limit.", registry=registry
        )
        self.cost = counter(
            "parley_llm_cost_total", f"Cost by the configured prices, in {currency}.", "caller", "model"
        )
        self.app_requests = counter(
            "parley_llm_app_requests_total",
            "Calls that ended, by the app of the caller.",
            "caller",
            "app",
            "outcome",
        )
        self.app_tokens = counter(
            "parley_llm_app_tokens_total", "Tokens, by the app of the caller.", "caller", "app", "type"
        )
        self._circuit_shown: dict[str, int] = {}
        self.active_streams = Gauge("parley_llm_active_streams", "Streams being served.", registry=registry)
        self.aborted = counter("parley_llm_stream_aborted_total", "Streams that ended early.", "reason")

    def show_circuit(self, upstream: str, state: int) -> None:
        """Show the circuit of the target of an upstream that was used last."""
        if self._circuit_shown.get(upstream) != state:
            self._circuit_shown[upstream] = state
            self._circuit.labels(upstream).set(state)
