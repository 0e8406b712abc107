"""Tracing: one provider per process, exported by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

The standard `OTEL_*` variables choose endpoint, headers, sampler. The provider is passed around, never global.
Ending is bounded: a collector that doesn't answer must not eat the time a process has to stop.
"""

import random
import threading
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision
from opentelemetry.trace import SpanKind, Tracer

FLUSH_LIMIT_S = 3.0


class Telemetry:
    """The tracer provider of a process."""

    def __init__(self, provider: TracerProvider, recording: TracerProvider | None = None) -> None:
        """Keep the provider; `recording` is one with the same destination whose sampler takes every span."""
        self.provider = provider
        self.tracer = provider.get_tracer("parley")
        """The tracer that the service's code uses."""
        self._recording = recording.get_tracer("parley") if recording else self.tracer

    @property
    def records(self) -> bool:
        """Whether any span can be recorded."""
        return self.provider.sampler is not ALWAYS_OFF

    def tracer_for(self, name: str, context: Context | None, kind: SpanKind) -> Tracer | None:
        """Return the tracer to start a span with, None when the sampler would not have it recorded.

        Asking the sampler costs a fraction of starting a span that isn't recorded: for a path on which most calls
        aren't, and on which nobody needs the ids of those.
        """
        decision = self.provider.sampler.should_sample(context, random.getrandbits(128), name, kind).decision
        return self._recording if decision is Decision.RECORD_AND_SAMPLE else None

    def close(self) -> None:
        """Export what is left, in at most FLUSH_LIMIT_S seconds."""
        thread = threading.Thread(target=self.provider.shutdown, name="telemetry-flush", daemon=True)
        thread.start()
        thread.join(FLUSH_LIMIT_S)


def create_telemetry(service: str, version: str, env: Mapping[str, str]) -> Telemetry:
    """Build the provider; spans go nowhere unless an OTLP endpoint is set."""
    name = env.get("OTEL_SERVICE_NAME") or f"parley-{service}"
    resource = Resource.create({"service.name": name, "service.version": version})
    if not (env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        # Without an exporter nothing is recorded, which costs a fraction; ids are still made for logs and for the
        # services behind this one.
        return Telemetry(TracerProvider(resource=resource, sampler=ALWAYS_OFF, shutdown_on_exit=False))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    recording = TracerProvider(resource=resource, sampler=ALWAYS_ON, shutdown_on_exit=False)
    processor = _exporting_processor()
    provider.add_span_processor(processor)
    recording.add_span_processor(processor)
    return Telemetry(provider, recording)


def _exporting_processor() -> SpanProcessor:
    # The exporter's modules take four megabytes and a tenth of the start, for nothing where nothing is exported.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # The annotation wants strings; gRPC reads this option only as an integer.
    exporter = OTLPSpanExporter(channel_options=(("grpc.enable_http_proxy", 0),))  # type: ignore[arg-type]
    return BatchSpanProcessor(exporter)
