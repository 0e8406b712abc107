"""A real `redis-server` on a free loopback port with a directory of its own, to be paused, killed and started again."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

PROGRAM = "redis-server"
START_S = 20.0
SLOTS = 16384


class RedisServer:
    """One server process; it keeps its port and directory when it is started again."""

    def __init__(self, directory: Path, *options: str, password: str = "", sentinel: bool = False) -> None:
        """Prepare a server; `options` are lines of its configuration."""
        self.port, self.bus_port = _free_port(), _free_port()
        self._directory = directory
        self._password = password
        self._sentinel = sentinel
        lines = [f"port {self.port}", "bind 127.0.0.1", f'dir "{directory}"', *options]
        if "cluster-enabled yes" in options:
            # By itself the bus takes a port 10,000 higher, which may not exist.
            lines.append(f"cluster-port {self.bus_port}")
        if not sentinel:
            lines += ['save ""', f"requirepass {password}" if password else ""]
        self._config = directory / "redis.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where the server is, without its password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """Return a client of its own, to look what the server holds."""
        return Redis(port=self.port, password=self._password or None, decode_responses=True)

    async def run(self, *command: str | int) -> Any:
        """Carry out one command."""
        client: Any = self.client()
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        program = shutil.which(PROGRAM)
        assert program, f"{PROGRAM} is missing (Debian: apt-get install redis-server); scripts/setup.sh installs it"
        with (self._directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, str(self._config), *(["--sentinel"] if self._sentinel else []),
                stdout=log, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        async with asyncio.timeout(START_S):
            while not await self._answers():
                assert self._process.returncode is None, (self._directory / "log").read_text()
                await asyncio.sleep(0.02)

    def pause(self) -> None:
        """Let the server hang: it accepts connections and bytes, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill the server; everything it held is lost."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def _answers(self) -> bool:
        client = self.client()
        try:
            await client.ping()
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True


@asynccontextmanager
async def run_redis(
    directory: Path, *options: str, password: str = "", sentinel: bool = False
) -> AsyncIterator[RedisServer]:
    """Run a server while the block runs."""
    directory.mkdir(parents=True, exist_ok=True)
    server = RedisServer(directory, *options, password=password, sentinel=sentinel)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def run_cluster(directory: Path, *options: str, count: int = 3) -> AsyncIterator[list[RedisServer]]:
    """Run a cluster of masters that share the slots while the block runs."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(run_redis(directory / f"node{n}", "cluster-enabled yes", *options))
            for n in range(count)
        ]
        edges = [SLOTS * n // count for n in range(count + 1)]
        for server, first, beyond in zip(servers, edges, edges[1:], strict=False):
            await server.run("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
        for server in servers[1:]:
            await servers[0].run("CLUSTER", "MEET", "127.0.0.1", server.port, server.bus_port)
        await until_clustered(servers, count)
        yield servers


async def until_clustered(servers: list[RedisServer], count: int) -> None:
    """Wait until every server knows all of them and serves."""
    async with asyncio.timeout(START_S):
        for server in servers:
            while f"cluster_known_nodes:{count}" not in await _info(server) or "state:ok" not in await _info(server):
                await asyncio.sleep(0.05)


async def _info(server: RedisServer) -> str:
    return str(await server.run("CLUSTER", "INFO"))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
