"""Starts the processes that a benchmark needs, and reads what they cost from the kernel.

Figures are of a process with all its children: some servers work in one.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
START_LIMIT_S = 60.0
_RUN = "import sys, runpy; sys.modules['rich'] = None; runpy.run_module('parley_llm', run_name='__main__')"


@dataclass(frozen=True, slots=True)
class Service:
    """A running `parley-llm`."""

    pid: int
    http_port: int
    ops_port: int


@contextmanager
def process(
    port: int, arguments: Sequence[str], env: Mapping[str, str] | None = None, *, quiet: bool = False
) -> Iterator[int]:
    """Run a command that listens on a port; yield its process id once it does. `quiet` drops what it says of errors."""
    errors = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen(arguments, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not listens(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(arguments)} did not start")
            time.sleep(0.005)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def python(*arguments: str) -> list[str]:
    """Return the command for a Python of this kind."""
    return [sys.executable, *arguments]


def service(
    stack: ExitStack, base_url: str, *, interpreter: str = sys.executable, config: str = "", **env: str
) -> Service:
    """Start `parley-llm` with a caller's key, limits and metrics on, in front of one upstream or by a settings file.

    It runs without `rich`, which only comes with the development tools, and which structlog would import.
    """
    http, grpc, ops = free_ports(3)
    variables = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_PATH": base_url,
        "OPENAI_CHATBOT_MODEL_ID": "m",
        "PARLEY_GATEWAY_KEY": "k",
        "PARLEY_LLM_HTTP_PORT": str(http),
        "PARLEY_LLM_GRPC_PORT": str(grpc),
        "PARLEY_LLM_OPS_PORT": str(ops),
        "PARLEY_CONFIG": config,
        **same_packages(interpreter),
        **env,
    }
    pid = stack.enter_context(process(ops, [interpreter, "-c", _RUN], variables))
    return Service(pid, http, ops)


def same_packages(interpreter: str) -> dict[str, str]:
    """Return the variable that lets another interpreter of the same version use this one's packages."""
    if interpreter == sys.executable:
        return {}
    return {"PYTHONPATH": ":".join(path for path in sys.path if "packages" in path or "/src" in path or "gen" in path)}


def version_of(interpreter: str) -> str:
    """Return an interpreter's version, and whether it is the system's: distributions optimise their builds."""
    code = "import platform, sys; print(platform.python_version(), '(of the system)' if sys.prefix == '/usr' else '')"
    return subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def free_ports(count: int) -> list[int]:
    """Return ports that were free just now."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def listens(port: int) -> bool:
    """Tell whether something accepts connections on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process tree, seconds, as exactly as the scheduler knows it."""
    tasks = [task for each in tree(pid) for task in Path(f"/proc/{each}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process tree, MiB; pages that its processes share count for each of them."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid)) * PAGE / 2**20
