"""Tracing: one provider per process, exported by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

The standard `OTEL_*` variables choose endpoint, headers, sampler. The provider is passed around, never global.
Ending is bounded: a collector that doesn't answer must not eat the time a process has to stop.
"""

import threading
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer

FLUSH_LIMIT_S = 3.0


class Telemetry:
    """The tracer provider of a process."""

    def __init__(self, provider: TracerProvider) -> None:
        """Keep the provider."""
        self.provider = provider

    @property
    def tracer(self) -> Tracer:
        """The tracer that the service's code uses."""
        return self.provider.get_tracer("parley")

    def close(self) -> None:
        """Export what is left, in at most FLUSH_LIMIT_S seconds."""
        thread = threading.Thread(target=self.provider.shutdown, name="telemetry-flush", daemon=True)
        thread.start()
        thread.join(FLUSH_LIMIT_S)


def create_telemetry(service: str, version: str, env: Mapping[str, str]) -> Telemetry:
    """Build the provider; spans go nowhere unless an OTLP endpoint is set."""
    name = env.get("OTEL_SERVICE_NAME") or f"parley-{service}"
    resource = Resource.create({"service.name": name, "service.version": version})
    exports = bool(env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    # Without an exporter nothing is recorded, which costs a fraction; ids are still made for logs and for the services
    # behind this one.
    provider = TracerProvider(resource=resource, sampler=None if exports else ALWAYS_OFF, shutdown_on_exit=False)
    if exports:
        # The annotation wants strings; gRPC reads this option only as an integer.
        exporter = OTLPSpanExporter(channel_options=(("grpc.enable_http_proxy", 0),))  # type: ignore[arg-type]
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(provider)
