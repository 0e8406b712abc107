"""The life of a service's process: command line, settings, start, signals, orderly stop.

Exit codes: 0 after an orderly stop, 1 when the service couldn't start, 2 when the settings are wrong.
Stopping: not ready → wait `shutdown.drain` → the service ends its work within `shutdown.grace` → ops port → telemetry.
A second signal ends the wait at once. Until the stop, settings that change are handed to the service (`reload`).
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from prometheus_client import disable_created_metrics
from pydantic import BaseModel, SecretStr

from parley_common.http_server import BindError, HTTPServer
from parley_common.logs import Logs, configure_logs
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health, create_ops_app
from parley_common.reload import Reloader, Reloading
from parley_common.settings import Loaded, ServiceSection, SettingsError
from parley_common.settings_schema import settings_schema
from parley_common.telemetry import Telemetry, create_telemetry

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

log = structlog.get_logger("parley.boot")


class StartError(Exception):
    """A service can't start; the message says what to change."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        """`exit_code` is the process's: 2 where a setting must change, 1 where the surroundings must."""
        super().__init__(message)
        self.exit_code = exit_code


class Service(Protocol):
    """What a service gives to be run."""

    routes: "tuple[BaseRoute, ...]"
    """Own routes of the ops port."""

    async def start(self) -> None:
        """Bind and begin. Raises BindError, StartError."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new work, finish what is in work within the time, then give up on it and close everything.

        Called again, with 0, while it runs when a second signal arrives.
        """

    async def reload(self, settings: Any) -> None:
        """Use other settings from now on; what is in work goes on as it began.

        Called only where `run` is given a `Reloading`. Raises ReloadError when nothing was changed.
        """

    def addresses(self) -> Mapping[str, str]:
        """Return what to log as the addresses in use."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What `run` gives a service to build itself with."""

    metrics: ServiceMetrics
    health: Health
    telemetry: Telemetry


def add_settings_arguments(parser: argparse.ArgumentParser, version: str) -> None:
    """Add the arguments that every service has."""
    parser.add_argument("--config", metavar="FILE", help="settings file (default: $PARLEY_CONFIG, else ./parley.yaml)")
    parser.add_argument("--check", action="store_true", help="validate the settings and exit")
    parser.add_argument("--schema", action="store_true", help="print the settings' JSON Schema and exit")
    parser.add_argument("--version", action="version", version=version)


def load_or_exit(load: Callable[[], Loaded[Any]]) -> Loaded[Any]:
    """Load settings; on mistakes print all of them on standard error and exit with code 2."""
    try:
        return load()
    except SettingsError as exc:
        count = len(exc.problems)
        sys.stderr.write(f"{count} mistake{'s' if count > 1 else ''} in the settings:\n")
        sys.stderr.write("".join(f"  {problem}\n" for problem in exc.problems))
        raise SystemExit(2) from exc


def answer_questions(arguments: argparse.Namespace, model: type[BaseModel], load: Callable[[], Loaded[Any]]) -> bool:
    """Serve `--schema` and `--check`; return whether one of them was asked for."""
    if arguments.schema:
        sys.stdout.write(json.dumps(settings_schema(model), indent=2, ensure_ascii=False) + "\n")
        return True
    if arguments.check:
        loaded = load_or_exit(load)
        sys.stdout.write(f"The settings are valid (read from {loaded.source}).\n")
        return True
    return False


def secrets_in(settings: BaseModel) -> Iterable[str]:
    """Return every secret value in the settings, for the log's filter."""
    stack: list[Any] = [settings]
    while stack:
        value = stack.pop()
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            stack.extend(getattr(value, name) for name in type(value).model_fields)
        elif isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)


def run(
    name: str,
    version: str,
    settings: ServiceSection,
    ops_port: int,
    build: Callable[[Runtime], Service],
    *,
    grpc_services: tuple[str, ...] = (),
    reloading: Reloading[Any] | None = None,
) -> int:
    """Run a service until a signal; return the process's exit code. With `reloading` its settings may change."""
    logs = configure_logs(name, version, settings.log_level, secrets=secrets_in(settings))
    # The exposition would double with the time of creation of every series.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = ServiceMetrics(name, version, revision=os.environ.get("PARLEY_REVISION", ""))
    runtime = Runtime(metrics, Health(metrics, grpc_services), create_telemetry(name, version, os.environ))
    return _run_loop(_live(runtime, settings, ops_port, build, logs, reloading))


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def _live(
    runtime: Runtime,
    settings: ServiceSection,
    ops_port: int,
    build: Callable[[Runtime], Service],
    logs: Logs,
    reloading: Reloading[Any] | None,
) -> int:
    signals = _Signals()
    reloader = Reloader(reloading, runtime.metrics) if reloading else None
    beat = asyncio.create_task(runtime.health.run(), name="heartbeat")
    try:
        async with AsyncExitStack() as stack:
            service = build(runtime)
            ops_app = create_ops_app(runtime.health, runtime.metrics.registry, service.routes)
            ops = HTTPServer(ops_app, settings.host, ops_port, grace_s=1.0)
            stack.push_async_callback(ops.stop)
            await service.start()
            await ops.start()
            await runtime.health.started()
            _settle_memory()
            log.info("started", **service.addresses(), ops=f"{settings.host}:{ops.port}")
            async with _reloading(reloader, service, logs):
                await signals.first.wait()
            settings = reloader.settings if reloader else settings
            log.info("stopping", drain_s=settings.shutdown.drain, grace_s=settings.shutdown.grace)
            await runtime.health.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(signals.second.wait(), settings.shutdown.drain)
            await _stop(service, settings.shutdown.grace, signals)
        log.info("stopped")
        return 0
    except (BindError, StartError) as exc:
        log.error("start_failed", error=str(exc))
        return exc.exit_code if isinstance(exc, StartError) else 1
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await asyncio.to_thread(runtime.telemetry.close)


def _settle_memory() -> None:
    """Give back what start-up took and no longer needs, and spare the collector the rest, which stays."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Only glibc has it; others keep less.
    if trim is not None:
        trim(0)


def _reloading(reloader: Reloader[Any] | None, service: Service, logs: Logs) -> AbstractAsyncContextManager[None]:
    """Return a block within which changed settings reach the logs and the service."""
    if reloader is None:
        return contextlib.nullcontext()

    async def apply(settings: ServiceSection) -> None:
        logs.hide(secrets_in(settings))
        await service.reload(settings)
        logs.set_level(settings.log_level)

    return reloader.running(apply)


async def _stop(service: Service, grace_s: float, signals: "_Signals") -> None:
    """Stop the service; a second signal takes the grace away."""
    stopping = asyncio.create_task(service.stop(grace_s))
    hurry = asyncio.create_task(signals.second.wait())
    await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not stopping.done():
        log.warning("stopping_at_once")
        await service.stop(0.0)
    await stopping


class _Signals:
    """Turns SIGTERM and SIGINT into two events: the first and the second."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived)

    def _arrived(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
