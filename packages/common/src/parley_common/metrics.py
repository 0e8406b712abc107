"""The metrics that every service has; a service's own stand in its own `metrics.py`.

Label values come from the program or the settings, never from callers: calls of methods that a server doesn't have
are not counted.
"""

import platform

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

RPC_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class ServiceMetrics:
    """Metrics of one process, on a registry of its own."""

    def __init__(
        self, service: str, version: str, registry: CollectorRegistry | None = None, *, revision: str = ""
    ) -> None:
        """Declare everything; `registry` is a new one when not given, `revision` names the commit it was built from."""
        self.service = service
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        info = Gauge("parley_build_info", "Always 1.", ("service", "version", "revision", "python"), registry=registry)
        info.labels(service, version, revision, platform.python_version()).set(1)
        self.server_started = Counter(
            "grpc_server_started_total", "Calls that a server began to serve.", RPC_LABELS, registry=registry
        )
        self.server_handled = Counter(
            "grpc_server_handled_total",
            "Calls that a server ended.",
            (*RPC_LABELS, "grpc_code"),
            registry=registry,
        )
        self.server_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time to serve a call.",
            RPC_LABELS,
            buckets=RPC_BUCKETS,
            registry=registry,
        )
        self.client_handled = Counter(
            "grpc_client_handled_total",
            "Calls that a client ended.",
            (*RPC_LABELS, "grpc_code"),
            registry=registry,
        )
        self.client_seconds = Histogram(
            "grpc_client_handling_seconds",
            "Time a call took.",
            RPC_LABELS,
            buckets=RPC_BUCKETS,
            registry=registry,
        )
        self.inflight = Gauge("parley_inflight_requests", "Requests in work.", ("service",), registry=registry).labels(
            service
        )
        self.draining = Gauge("parley_draining", "1 while the service stops.", ("service",), registry=registry).labels(
            service
        )
        self.config_reload = Counter(
            "parley_config_reload_total",
            "Changes of the settings' files: ok when they are in use, error when the settings before stay in use.",
            ("outcome",),
            registry=registry,
        )
        self.config_reload_success = Gauge(
            "parley_config_last_reload_success_timestamp_seconds",
            "When settings were last loaded well, at the start or later, seconds since 1970.",
            registry=registry,
        )
        self.loop_lag = Histogram(
            "parley_event_loop_lag_seconds",
            "How late the event loop ran a timer.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
            registry=registry,
        )
        self.dependency_up = Gauge(
            "parley_dependency_up",
            "1 when the last use of a dependency worked.",
            ("dependency",),
            registry=registry,
        )
        self.draining.set(0)
        for outcome in ("ok", "error"):
            self.config_reload.labels(outcome)
        self.config_reload_success.set_to_current_time()
