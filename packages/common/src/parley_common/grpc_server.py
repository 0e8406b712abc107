"""A gRPC server with everything that Parley's servers share: limits, interceptor, health, reflection, orderly stop."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import Tracer

from parley_common.calls_in_work import CallsInWork
from parley_common.http_server import BindError
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health
from parley_common.server_interceptor import ServerInterceptor

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
LAST_WORDS_S = 1.0
"""How long the calls that a stop ends may take to say so."""


class _Server(grpc.aio.Server):
    """A server whose stop ends calls with a status that clients can act on, not with a torn connection."""

    def __init__(self, inner: grpc.aio.Server, calls: CallsInWork) -> None:
        self._inner = inner
        self._calls = calls

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._inner.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        self._inner.add_registered_method_handlers(service, handlers)

    def add_insecure_port(self, address: str) -> int:
        return self._inner.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        return self._inner.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self, grace: float | None) -> None:
        """Accept nothing new, let calls go on for `grace` seconds, then end them with UNAVAILABLE.

        Health watches have no end of their own and get no grace. A second stop with less grace shortens the first.
        """
        self._calls.refuse()
        stopping = asyncio.create_task(self._inner.stop((grace or 0.0) + LAST_WORDS_S))
        await asyncio.wait({stopping}, timeout=grace or 0.0)
        await self._calls.end(LAST_WORDS_S)
        await stopping

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        return await self._inner.wait_for_termination(timeout)


def create_server(
    metrics: ServiceMetrics,
    tracer: Tracer,
    checks: Health,
    *,
    services: tuple[str, ...],
    domain: str,
    longest_call_s: float = 600.0,
    max_connection_age_s: float = 300.0,
    max_concurrent: int = 1000,
) -> grpc.aio.Server:
    """Build a server; the caller adds servicers, binds a port and starts it.

    `services` are full names for reflection, `domain` is the domain of `google.rpc.ErrorInfo`. Connections end after
    `max_connection_age_s`, so that clients find new replicas; calls on them may go on for `longest_call_s`. Beyond
    `max_concurrent` calls at a time further ones are refused with RESOURCE_EXHAUSTED; health checks are not counted,
    or a busy server would be taken for a dead one.
    """
    calls = CallsInWork(max_concurrent)
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(metrics, tracer, services, domain, calls)],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.max_connection_age_ms", int(max_connection_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", int((longest_call_s + 60.0) * 1000)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    health_pb2_grpc.add_HealthServicer_to_server(checks.servicer, server)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return _Server(server, calls)


def bind_port(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind an insecure port and return it.

    Raises
        BindError: the address is taken or not ours.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise BindError(f"can't listen on {address} for gRPC") from exc
    if bound == 0:
        raise BindError(f"can't listen on {address} for gRPC")
    return bound
