"""The formatter as a service: loads the prompts, binds the gRPC server, stops it in order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog
from parley.formatter.v1 import formatter_service_pb2, formatter_service_pb2_grpc
from parley_common.boot import Runtime
from parley_common.grpc_server import bind_port, create_server
from parley_common.reload import ReloadError
from starlette.routing import BaseRoute

from parley_formatter.config import FormatterSettings
from parley_formatter.metrics import FormatterMetrics
from parley_formatter.prompts.library import BUILT_IN, Library, load_library
from parley_formatter.servicer import FormatterServicer

APPLIES = frozenset({"prompts_dir", "max_prompt_tokens"})
"""Options that change while the service runs."""

SERVICE = formatter_service_pb2.DESCRIPTOR.services_by_name["FormatterService"].full_name
DOMAIN = "formatter.parley"
_log = structlog.get_logger("parley.formatter")


class FormatterService:
    """The running formatter."""

    routes: tuple[BaseRoute, ...] = ()

    def __init__(self, settings: FormatterSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._metrics = FormatterMetrics(runtime.metrics.registry)
        library = load_library(_directories(settings.prompts_dir))
        _report(library, self._metrics)
        self._server = create_server(
            runtime.metrics, runtime.telemetry.tracer, runtime.health, services=(SERVICE,), domain=DOMAIN
        )
        self._servicer = FormatterServicer(library, self._metrics, max_prompt_tokens=settings.max_prompt_tokens)
        formatter_service_pb2_grpc.add_FormatterServiceServicer_to_server(self._servicer, self._server)
        self.port = 0

    async def start(self) -> None:
        """Bind the gRPC port and serve."""
        self.port = bind_port(self._server, self._settings.host, self._settings.grpc_port)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Stop taking calls and give those in work some time."""
        await self._server.stop(grace_s)

    async def reload(self, settings: FormatterSettings) -> None:
        """Load the prompts again; a call in work keeps the prompt it has. Raises ReloadError without the directory."""
        directory = settings.prompts_dir
        if directory is not None and not await asyncio.to_thread(directory.is_dir):
            raise ReloadError(f"formatter.prompts_dir: there is no directory {directory}; the prompts in use stay")
        library = await asyncio.to_thread(load_library, _directories(directory), self._servicer.library)
        _report(library, self._metrics)
        self._servicer.library = library
        self._servicer.max_prompt_tokens = settings.max_prompt_tokens

    def addresses(self) -> Mapping[str, str]:
        """Return where the service listens."""
        return {"grpc": f"{self._settings.host}:{self.port}"}


def _directories(prompts_dir: Path | None) -> list[Path]:
    return [BUILT_IN] if prompts_dir is None else [BUILT_IN, prompts_dir]


def _report(library: Library, metrics: FormatterMetrics) -> None:
    """Log and count the prompt files that can't be used."""
    for problem in library.problems:
        # The label is a file name of the operator's own directory, and so are there few.
        metrics.template_errors.labels(problem.path.name).inc()
        _log.error("prompt_unusable", file=str(problem.path), line=problem.line, problem=problem.problem)
