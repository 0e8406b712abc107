"""A gRPC channel to another Parley service: balanced over its replicas, traced, counted, never through a proxy."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from opentelemetry.trace import Tracer

from parley_common.client_interceptor import client_interceptors
from parley_common.grpc_server import MAX_MESSAGE_BYTES
from parley_common.metrics import ServiceMetrics


def create_channel(
    target: str, metrics: ServiceMetrics, tracer: Tracer, *, retried: Sequence[tuple[str, str]] = ()
) -> grpc.aio.Channel:
    """Open a channel to `host:port` or `dns:///host:port`.

    `retried` lists (service, method) pairs that the channel itself may repeat on UNAVAILABLE and CANCELLED: calls
    without effects only. A call that meets a stopping server may come back as either.
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retried:
        config["methodConfig"] = [
            {
                "name": [{"service": service, "method": method} for service, method in retried],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.dns_min_time_between_resolutions_ms", 5000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ],
        interceptors=client_interceptors(metrics, tracer),
    )


@asynccontextmanager
async def cancelling(call: Any) -> AsyncIterator[Any]:
    """Cancel a streaming call when the block is left.

    Leaving the loop alone lets the server go on; and even cancelling the task that reads the stream does when it meets
    the moment between the request's sending and the first answer (seen with grpcio 1.85).
    """
    try:
        yield call
    finally:
        call.cancel()
