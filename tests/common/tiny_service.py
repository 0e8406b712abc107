"""The smallest service there can be, as a program: the echo service behind everything that `boot.run` adds."""

import argparse
import os
import sys
from collections.abc import Mapping

import structlog
from parley_common.boot import Runtime, StartError, add_settings_arguments, answer_questions, load_or_exit, run
from parley_common.grpc_server import bind_port, create_server
from parley_common.reload import ReloadError, Reloading
from parley_common.settings import Loaded, Port, ServiceSection, load
from pydantic import SecretStr
from starlette.routing import BaseRoute

from tests.common.echo import DOMAIN, SERVICE, Echo

log = structlog.get_logger("tiny")


class TinySettings(ServiceSection):
    """The section `formatter`, whose name is borrowed."""

    grpc_port: Port = 0
    ops_port: Port = 0
    key: SecretStr = SecretStr("")
    refuses: str = ""
    exit_code: int = 1


class Tiny:
    """A service that tells the log what is asked of it."""

    routes: tuple[BaseRoute, ...] = ()

    def __init__(self, settings: TinySettings, runtime: Runtime) -> None:
        self._settings = settings
        self._server = create_server(
            runtime.metrics, runtime.telemetry.tracer, runtime.health, services=(SERVICE,), domain=DOMAIN
        )
        self._server.add_generic_rpc_handlers((Echo().handlers(),))
        self._port = 0
        runtime.health.on_drain(self._draining)

    async def start(self) -> None:
        if self._settings.refuses:
            raise StartError(self._settings.refuses, exit_code=self._settings.exit_code)
        self._port = bind_port(self._server, self._settings.host, self._settings.grpc_port)
        await self._server.start()
        log.info("service_started", key=self._settings.key.get_secret_value())

    async def reload(self, settings: TinySettings) -> None:
        if settings.refuses:
            raise ReloadError(settings.refuses)
        log.info("service_reloaded", key=settings.key.get_secret_value(), was=self._settings.key.get_secret_value())
        log.debug("service_reloaded_in_detail")
        self._settings = settings

    async def stop(self, grace_s: float) -> None:
        log.info("service_stops", grace_s=grace_s)
        await self._server.stop(grace_s)
        log.info("service_stopped", grace_s=grace_s)

    def addresses(self) -> Mapping[str, str]:
        return {"grpc": f"127.0.0.1:{self._port}"}

    async def _draining(self) -> None:
        log.info("service_drains")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tiny")
    add_settings_arguments(parser, "tiny 1.2.3")
    arguments = parser.parse_args()

    def load_settings() -> Loaded[TinySettings]:
        return load(
            TinySettings,
            section="formatter",
            env=os.environ,
            from_env=lambda _env: {},
            overrides={"PARLEY_TINY_GRPC_PORT": "grpc_port", "PARLEY_TINY_OPS_PORT": "ops_port"},
            config=arguments.config,
        )

    if answer_questions(arguments, TinySettings, load_settings):
        return 0
    loaded: Loaded[TinySettings] = load_or_exit(load_settings)
    settings = loaded.settings
    return run(
        "tiny",
        "1.2.3",
        settings,
        settings.ops_port,
        lambda runtime: Tiny(settings, runtime),
        grpc_services=(SERVICE,),
        reloading=Reloading(loaded, load_settings, frozenset({"key", "refuses"}), interval_s=0.1, settle_s=0.05),
    )


if __name__ == "__main__":
    sys.exit(main())
