"""Wiring: makes the running service from the settings, starts and stops both fronts."""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc.aio
import structlog
from parley.llm.v1 import llm_service_pb2_grpc
from parley_common.boot import Runtime, StartError
from parley_common.grpc_server import bind_port, create_server
from parley_common.http_server import HTTPServer
from parley_common.reload import ReloadError

from parley_llm.calls.core import Core
from parley_llm.calls.routing import Routing, build_routing
from parley_llm.catalog import Catalog
from parley_llm.config import LLMSettings
from parley_llm.forms.form import FormLimits
from parley_llm.http.app import HTTPApp
from parley_llm.http.protocol import CallerProtocol
from parley_llm.limits.account import open_accounts
from parley_llm.limits.base import Observer
from parley_llm.metrics import LLMMetrics
from parley_llm.rpc.servicer import SERVICE, LLMServicer
from parley_llm.upstream.upstream import OptionError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

LAST_WORDS_S = 0.5
APPLIES = frozenset({"upstreams", "models", "callers"})
"""Options that change while the service runs."""

_log = structlog.get_logger("parley_llm.server")


class LLMService:
    """The service as a process runs it: `start`, serve, `stop`."""

    routes: "tuple[BaseRoute, ...]" = ()

    def __init__(self, settings: LLMSettings, runtime: Runtime, env: Mapping[str, str] = os.environ) -> None:
        """Build everything; nothing listens yet. Raises StartError when a proxy or CA file is unusable."""
        self._settings = settings
        self._runtime = runtime
        self._env = env
        self._longest_s = 0.0
        metrics = LLMMetrics(runtime.metrics.registry, settings.currency)
        self._accounts = accounts = open_accounts(
            settings.store.get_secret_value(), settings.currency, _observer(metrics, runtime)
        )
        try:
            routing = build_routing(settings, env, accounts=accounts)
        except OptionError as exc:
            raise StartError(str(exc), exit_code=2) from exc
        except (ValueError, OSError) as exc:
            raise StartError(f"an upstream's proxy or ca_file can't be used: {exc}") from exc
        self.core = Core(routing, metrics, runtime.telemetry, linger_s=settings.idempotency.linger)
        catalog = Catalog(self.core)
        forms = FormLimits(settings.max_upload, directory=settings.upload_dir)
        self._app = HTTPApp(
            self.core,
            catalog,
            runtime.metrics.inflight,
            prefix=settings.http_prefix,
            keep_alive_s=settings.keep_alive,
            max_body=settings.max_body,
            forms=forms,
        )
        self._servicer = LLMServicer(self.core, catalog, forms)
        self._grpc: grpc.aio.Server | None = None
        self._http: HTTPServer | None = None
        self.grpc_port = 0

    @property
    def http_port(self) -> int:
        """The port of the HTTP front in use."""
        return self._http.port if self._http else 0

    @property
    def _routing(self) -> Routing:
        return self.core.routing

    async def start(self) -> None:
        """Bind both ports and begin to serve. Raises BindError."""
        settings = self._settings
        self._longest_s = _longest(settings)
        self._http = HTTPServer(self._app, settings.host, settings.http_port, http=CallerProtocol, grace_s=LAST_WORDS_S)
        self._grpc = create_server(
            self._runtime.metrics,
            self._runtime.telemetry.tracer,
            self._runtime.health,
            services=(SERVICE,),
            domain="parley.llm",
            longest_call_s=self._longest_s,
        )
        llm_service_pb2_grpc.add_LLMServiceServicer_to_server(self._servicer, self._grpc)
        self.grpc_port = bind_port(self._grpc, settings.host, settings.grpc_port)
        await self._accounts.start()
        await self._grpc.start()
        await self._http.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in work end within the grace time, then cut what is left and close."""
        self.core.draining = True
        await self.core.inflight.wait_idle(grace_s)
        await asyncio.gather(self._stop_grpc(), self._stop_http())
        await self._accounts.stop()
        self._routing.close()

    async def reload(self, settings: LLMSettings) -> None:
        """Route calls that begin from now on by other settings; those in flight finish as they began.

        Raises
            ReloadError: a proxy or CA file is unusable; nothing has changed.
        """
        before = self._routing
        try:
            routing = await asyncio.to_thread(build_routing, settings, self._env, before)
        except OptionError as exc:
            raise ReloadError(str(exc)) from exc
        except (ValueError, OSError) as exc:
            raise ReloadError(f"an upstream's proxy or ca_file can't be used: {exc}") from exc
        self.core.routing = routing
        before.close(successor=routing)
        if (longest := _longest(settings)) > self._longest_s:
            # How long calls may go on over a connection that has reached its age was fixed with the listener.
            _log.warning("longest_call_needs_restart", seconds=longest, now_s=self._longest_s)

    def addresses(self) -> Mapping[str, str]:
        """Return the addresses in use, and what stands behind them, for the log."""
        return {
            "grpc": f"{self._settings.host}:{self.grpc_port}",
            "http": f"{self._settings.host}:{self.http_port}{self._settings.http_prefix}/v1",
            "upstreams": ", ".join(
                f"{name} (demo answers, no model)" if upstream.preset.provider == "parley_demo" else name
                for name, upstream in self._routing.upstreams.items()
            ),
        }

    async def _stop_grpc(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop(LAST_WORDS_S)

    async def _stop_http(self) -> None:
        if self._http is not None:
            await self._http.stop()


def _observer(metrics: LLMMetrics, runtime: Runtime) -> Observer:
    """Return what shows the limits' doings in the metrics."""
    return Observer(
        waited=lambda caller, seconds: metrics.rate_limit_wait(caller).observe(seconds),
        waiting=metrics.queue_depth.inc,
        # Without a store there must be no series, which would read as a dependency that is down.
        store_up=lambda up: runtime.metrics.dependency_up.labels("redis").set(up),
    )


def _longest(settings: LLMSettings) -> float:
    return max(model.timeouts.total for model in settings.models.values())
