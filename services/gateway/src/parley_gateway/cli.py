"""The command line: run the gateway; operate a running one; play a platform against it (`simulate`, `simulator`)."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from parley_common import __version__
from parley_common.boot import StartError, add_settings_arguments, answer_questions, load_or_exit, run
from parley_common.http_server import BindError
from parley_common.reload import Reloading
from parley_common.settings import DEFAULT_FILE, Loaded

from parley_gateway.config import GatewaySettings, load_settings, settings_from_environment
from parley_gateway.operate.commands import add_commands
from parley_gateway.operate.commands import run as operate

DEVELOPMENT_FILE = "data/development.yaml"
"""Written by `make run` when no platform is set up; `simulate` and `simulator` find their bots there then."""

SIMULATOR_PORT = 9100

Load = Callable[[], Loaded[GatewaySettings]]
"""Loads the settings again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (2 for wrong settings or arguments)."""
    parsed = _parser().parse_args(arguments)
    config = parsed.config or _development_file(parsed.command)

    def load() -> Loaded[GatewaySettings]:
        return load_settings(os.environ, config)

    if answer_questions(parsed, GatewaySettings, load):
        return 0
    if parsed.command == "operate":
        return operate(parsed, lambda: load_or_exit(load))
    loaded: Loaded[GatewaySettings] = load_or_exit(load)
    command: Callable[[argparse.Namespace, Loaded[GatewaySettings], Load], int] = parsed.run
    return command(parsed, loaded, load)


def _development_file(command: str) -> str | None:
    """Return the development settings when the simulating commands have nothing else to go by."""
    if command == "serve" or os.environ.get("PARLEY_CONFIG") or Path(DEFAULT_FILE).exists():
        return None
    if settings_from_environment(os.environ)["bots"] or not Path(DEVELOPMENT_FILE).exists():
        return None
    return DEVELOPMENT_FILE


def _serve(_arguments: argparse.Namespace, loaded: Loaded[GatewaySettings], load: Load) -> int:
    # Imported here: the other commands need neither gRPC nor the store.
    from parley_gateway.service import APPLIES, GatewayService

    settings = loaded.settings
    build = partial(GatewayService, settings)
    reloading = Reloading(loaded, load, APPLIES)
    try:
        return run("gateway", __version__, settings, settings.ops_port, build, reloading=reloading)
    except StartError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code


def _simulate(arguments: argparse.Namespace, loaded: Loaded[GatewaySettings], _load: Load) -> int:
    from parley_gateway.simulate import SimulateOptions
    from parley_gateway.simulate import run as simulate

    settings = loaded.settings
    options = SimulateOptions(
        platform=arguments.platform,
        text=arguments.text,
        bot=arguments.bot,
        user=arguments.user,
        gateway=arguments.gateway or f"http://127.0.0.1:{settings.http_port}",
        simulator=arguments.simulator,
        group=arguments.group,
        timeout_s=arguments.timeout,
    )
    return asyncio.run(simulate(options, settings.bots))


def _simulator(arguments: argparse.Namespace, loaded: Loaded[GatewaySettings], _load: Load) -> int:
    from parley_gateway.simulators.serve import serve_simulators

    try:
        asyncio.run(
            serve_simulators(
                loaded.settings.bots, port=arguments.port, verified=not arguments.unverified, log_level="info"
            )
        )
    except BindError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parley-gateway", description=__doc__)
    add_settings_arguments(parser, __version__)
    parser.set_defaults(run=_serve, command="serve")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    simulate = commands.add_parser("simulate", help="send a message as a platform does and show what a user would see")
    simulate.set_defaults(run=_simulate, command="simulate")
    simulate.add_argument("platform", choices=("wechat", "feishu"))
    simulate.add_argument("text", help="what the user writes")
    simulate.add_argument("--bot", default="", help="name of the bot, when several are on the platform")
    simulate.add_argument("--user", default="simulated-user", help="id of the user")
    simulate.add_argument("--gateway", default="", help="URL of the gateway (default: http://127.0.0.1:<http_port>)")
    simulate.add_argument("--simulator", default="", help="URL of the simulator (default: the bot's base_url)")
    simulate.add_argument("--group", action="store_true", help="write in a group and mention the bot (feishu)")
    simulate.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait in all")

    simulator = commands.add_parser("simulator", help="serve the WeChat and Feishu APIs for the bots of the settings")
    simulator.set_defaults(run=_simulator, command="simulator")
    simulator.add_argument("--port", type=int, default=SIMULATOR_PORT, help="port on loopback (default: %(default)s)")
    simulator.add_argument(
        "--unverified", action="store_true", help="let the WeChat account be one that may not push (error 48001)"
    )
    add_commands(commands)
    return parser
