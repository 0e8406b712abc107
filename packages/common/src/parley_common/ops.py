"""Readiness, and the ops port: `/metrics`, `/livez`, `/readyz`.

Live means that the event loop turns; it never asks a dependency. Ready means that the service can take work now. The
exposition is made in a thread: with many series it takes long enough to delay requests.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from parley_common.metrics import ServiceMetrics

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Page = tuple[int, str, bytes]
"""Status, media type and body of an answer."""
TEXT = "text/plain; charset=utf-8"

Check = Callable[[], Awaitable[str | None]]
"""Returns why the service isn't ready, None when this check is content."""

Notes = Callable[[], list[str]]
"""Returns what `/readyz` tells besides: what isn't as it should be although the service can take work."""

log = structlog.get_logger("parley.health")


class Health:
    """Whether the process is alive and ready, told to the ops port and to gRPC health alike."""

    def __init__(
        self,
        metrics: ServiceMetrics,
        services: tuple[str, ...] = (),
        *,
        heartbeat_s: float = 1.0,
        dead_after_s: float = 10.0,
        check_limit_s: float = 2.0,
    ) -> None:
        """`services` are the full names of the gRPC services that this process offers.

        Without a beat for `dead_after_s` the process counts as dead; a check that takes longer than `check_limit_s`
        counts as failed.
        """
        self._metrics = metrics
        self._heartbeat_s = heartbeat_s
        self._dead_after_s = dead_after_s
        self._check_limit_s = check_limit_s
        self._services = ("", *services)
        self._checks: list[Check] = []
        self._notes: list[Notes] = []
        self._on_drain: list[Callable[[], Awaitable[None]]] = []
        self._beat = time.monotonic()
        self._started = False
        self._published: bool | None = None
        self.draining = False
        self.servicer = health_aio.HealthServicer()

    def add_check(self, check: Check) -> None:
        """Ask this check whenever readiness is asked for."""
        self._checks.append(check)

    def add_notes(self, notes: Notes) -> None:
        """Tell these notes whenever readiness is asked for; they don't make the service unready."""
        self._notes.append(notes)

    def notes(self) -> list[str]:
        """Return the notes of now."""
        return [note for notes in self._notes for note in notes()]

    def on_drain(self, action: Callable[[], Awaitable[None]]) -> None:
        """Do this when the drain begins, while the listeners are still up: the place to stop taking from a queue."""
        self._on_drain.append(action)

    async def started(self) -> None:
        """Say that listeners are bound and the settings are loaded."""
        self._started = True
        await self.servicer.set("liveness", health_pb2.HealthCheckResponse.SERVING)
        await self._publish(not await self.reasons())

    async def drain(self) -> None:
        """Say that no new work should come."""
        self.draining = True
        self._metrics.draining.set(1)
        await self._publish(False)
        for action in self._on_drain:
            try:
                await action()
            except Exception:
                # Whatever went wrong, the process has to stop in order.
                log.exception("drain_action_failed")

    async def reasons(self) -> list[str]:
        """Return why the process isn't ready; empty means it is."""
        if self.draining:
            return ["draining"]
        if not self._started:
            return ["starting"]
        found = await asyncio.gather(*(self._asked(check) for check in self._checks))
        return [reason for reason in found if reason is not None]

    def alive(self) -> bool:
        """Tell whether the event loop ran the heartbeat lately."""
        return time.monotonic() - self._beat < self._dead_after_s

    async def run(self) -> None:
        """Beat, measure the loop's lag, and keep gRPC health in step with readiness. Ends by cancellation.

        The beat waits for nothing but the loop, so that a check that hangs can't make the process look dead.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_beating())
            tasks.create_task(self._keep_published())

    async def _keep_beating(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(self._heartbeat_s)
            self._beat = time.monotonic()
            self._metrics.loop_lag.observe(max(0.0, self._beat - before - self._heartbeat_s))

    async def _keep_published(self) -> None:
        while True:
            reasons = await self.reasons()
            if self._started and bool(reasons) is self._published:
                log.info("readiness_changed", ready=not reasons, reasons=reasons)
            await self._publish(not reasons)
            await asyncio.sleep(self._heartbeat_s)

    async def _publish(self, ready: bool) -> None:
        # A stop may have begun while the checks were asked.
        ready = ready and not self.draining
        if ready == self._published:
            return
        self._published = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self.servicer.set(service, status)

    async def _asked(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._check_limit_s):
                return await check()
        except TimeoutError:
            return "a check did not answer in time"
        except Exception as exc:
            if self._published is not False:
                # Said once: while it goes on the reason alone is enough.
                log.exception("check_failed")
            return f"a check failed: {type(exc).__name__}"


class OpsApp:
    """The ASGI app of the ops port. A framework would take more memory for these pages than all their code."""

    def __init__(self, health: Health, registry: CollectorRegistry, more: ASGIApp | None) -> None:
        """`more` serves every other path."""
        self._health = health
        self._registry = registry
        self._more = more
        self._pages = {"/livez": self._live, "/readyz": self._ready, "/metrics": self._metrics}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        page = self._pages.get(scope.get("path", ""))
        if page is None and self._more is not None:
            await self._more(scope, receive, send)
        elif page is None:
            await _answer(send, 404, TEXT, b"There is nothing here.\n")
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, TEXT, b"Only GET is allowed.\n", (b"allow", b"GET, HEAD"))
        else:
            await _answer(send, *await page(scope))

    async def _live(self, _scope: Scope) -> Page:
        return (200, TEXT, b"ok\n") if self._health.alive() else (503, TEXT, b"stuck\n")

    async def _ready(self, _scope: Scope) -> Page:
        reasons = await self._health.reasons()
        told: dict[str, object] = {"ready": not reasons, "reasons": reasons}
        if notes := self._health.notes():
            told["notes"] = notes
        body = json.dumps(told, separators=(",", ":")).encode()
        return 503 if reasons else 200, "application/json", body

    async def _metrics(self, scope: Scope) -> Page:
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        encode, content_type = choose_encoder(accept)
        return 200, content_type, await asyncio.to_thread(encode, self._registry)


async def _answer(send: Send, status: int, content_type: str, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    own = [(b"content-type", content_type.encode("latin-1")), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def create_ops_app(health: Health, registry: CollectorRegistry, routes: "tuple[BaseRoute, ...]" = ()) -> OpsApp:
    """Build the app of the ops port; `routes` are a service's own additions."""
    if not routes:
        return OpsApp(health, registry, None)
    from starlette.applications import Starlette

    return OpsApp(health, registry, Starlette(routes=list(routes)))
