"""The formatter as a service: loads the prompts, binds the gRPC server, stops it in order."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from parley.formatter.v1 import formatter_service_pb2, formatter_service_pb2_grpc
from parley_common.boot import Runtime
from parley_common.grpc_server import bind_port, create_server
from starlette.routing import BaseRoute

from parley_formatter.config import FormatterSettings
from parley_formatter.metrics import FormatterMetrics
from parley_formatter.prompts.library import BUILT_IN, Library, load_library
from parley_formatter.servicer import FormatterServicer

SERVICE = formatter_service_pb2.DESCRIPTOR.services_by_name["FormatterService"].full_name
DOMAIN = "formatter.parley"
_log = structlog.get_logger("parley.formatter")


class FormatterService:
    """The running formatter."""

    routes: tuple[BaseRoute, ...] = ()

    def __init__(self, settings: FormatterSettings, runtime: Runtime) -> None:
        self._settings = settings
        metrics = FormatterMetrics(runtime.metrics.registry)
        directories = [BUILT_IN, *([settings.prompts_dir] if settings.prompts_dir else [])]
        library = load_library(directories)
        _report(library, metrics)
        self._server = create_server(
            runtime.metrics, runtime.telemetry.tracer, runtime.health, services=(SERVICE,), domain=DOMAIN
        )
        servicer = FormatterServicer(library, metrics, max_prompt_tokens=settings.max_prompt_tokens)
        formatter_service_pb2_grpc.add_FormatterServiceServicer_to_server(servicer, self._server)
        self.port = 0

    async def start(self) -> None:
        """Bind the gRPC port and serve."""
        self.port = bind_port(self._server, self._settings.host, self._settings.grpc_port)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Stop taking calls and give those in work some time."""
        await self._server.stop(grace_s)

    def addresses(self) -> Mapping[str, str]:
        """Return where the service listens."""
        return {"grpc": f"{self._settings.host}:{self.port}"}


def _report(library: Library, metrics: FormatterMetrics) -> None:
    """Log and count the prompt files that can't be used."""
    for problem in library.problems:
        # The label is a file name of the operator's own directory, and so are there few.
        metrics.template_errors.labels(problem.path.name).inc()
        _log.error("prompt_unusable", file=str(problem.path), line=problem.line, problem=problem.problem)
