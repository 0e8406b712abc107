"""Every metric of the formatter. Label values are the platforms of registered dialects, features, prompt names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BYTES = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)
_PARTS = (1, 2, 3, 5, 10, 20, 50, 100)
# Building a prompt belongs to no platform.
NO_PLATFORM = "none"


class FormatterMetrics:
    """The formatter's metrics on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "parley_formatter_duration_seconds",
            "Time of one operation: build_prompt, format_reply, or a step of stream_reply.",
            ("operation", "platform"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.input_bytes = Histogram(
            "parley_formatter_input_bytes", "Size of answers to format.", buckets=_BYTES, registry=registry
        )
        self.output_parts = Histogram(
            "parley_formatter_output_parts",
            "Messages one answer became.",
            ("platform",),
            buckets=_PARTS,
            registry=registry,
        )
        self.degraded = Counter(
            "parley_formatter_degraded_total",
            "What a platform could not show and was replaced.",
            ("platform", "feature"),
            registry=registry,
        )
        self.template_errors = Counter(
            "parley_formatter_template_errors_total",
            "Prompt files that could not be loaded or failed in use.",
            ("template",),
            registry=registry,
        )
