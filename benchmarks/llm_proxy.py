"""Measures the LLM service's HTTP path against a naive proxy (FastAPI and OpenAI's SDK) and against lower bounds.

Everything runs on this machine over loopback, at the same time, the load going round: so only ratios within one run
count. The figure to trust is CPU time of the proxy's process (all threads, from the kernel's scheduler) per request or
chunk; the load generator and the upstream are other processes. Plain requests: 64 connections, 0.3 kB in, 1.1 kB out.
Streams: 64 at a time, 50 chunks a second each, so that hardly any two chunks arrive together.

    python benchmarks/llm_proxy.py            # about 45 s; writes benchmarks/results/llm_proxy-<date>.json

The peers: `direct`, no proxy; `bare`, uvicorn answering plain requests with a constant (what no ASGI application
gets below); `relay`, a bare ASGI application that passes bytes on over the service's own connection pool,
checking and counting nothing; the service with callers' keys, limits, metrics, once without tracing and once
with 1 % of traces exported; the naive proxy.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.transport import HTTPTransport, Outgoing, after

from benchmarks.peers.llm_proxy import CHUNK_PAUSE_S, CHUNKS

CONNECTIONS = 64
STREAMS = 64
MESSAGES = [{"role": "user", "content": "Say something of about a kilobyte. " * 6}]
HERE = Path(__file__).parent
PEERS = str(HERE / "peers" / "llm_proxy.py")


@dataclass
class Result:
    """What one proxy did: medians over the rounds."""

    name: str
    cpu_us_per_request: float = 0.0
    cpu_us_per_chunk: float | None = None
    requests_per_core_s: float = 0.0
    p50_ms_alone: float = 0.0
    p99_ms_loaded: float = 0.0
    first_chunk_ms: float | None = None
    rss_mib: float = 0.0


@dataclass
class Peer:
    """A proxy under measurement, and what was seen of it in each round."""

    name: str
    transport: HTTPTransport
    pid: int
    streams: bool = True
    request_us: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    loaded_s: list[float] = field(default_factory=list)
    firsts_s: list[float] = field(default_factory=list)

    def result(self) -> Result:
        """Sum up."""
        request_us = statistics.median(self.request_us)
        return Result(
            self.name,
            request_us,
            statistics.median(self.chunk_us) if self.streams else None,
            1e6 / request_us,
            statistics.median(self.alone_s) * 1000,
            statistics.quantiles(self.loaded_s, n=100)[98] * 1000,
            statistics.median(self.firsts_s) * 1000 if self.streams else None,
            rss_mib(self.pid),
        )


# The load.


def request(*, stream: bool) -> Outgoing:
    body = json.dumps({"model": "m", "messages": MESSAGES, **({"stream": True} if stream else {})}).encode()
    headers = b"host: localhost\r\nauthorization: Bearer k\r\ncontent-type: application/json\r\n"
    return Outgoing("POST", "/v1/chat/completions", headers, body)


async def ask(transport: HTTPTransport, outgoing: Outgoing) -> float:
    begun = time.perf_counter()
    response = await transport.send(outgoing, after(10), after(30))
    body = await response.read(after(30), 1 << 24, 30)
    response.close()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {body[:200]!r}")
    return time.perf_counter() - begun


async def flood(transport: HTTPTransport, connections: int, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    times: list[float] = []

    async def worker() -> None:
        while time.perf_counter() < until:
            times.append(await ask(transport, request(stream=False)))

    await asyncio.gather(*(worker() for _ in range(connections)))
    return times


async def stream_once(transport: HTTPTransport) -> float:
    begun = time.perf_counter()
    response = await transport.send(request(stream=True), after(10), after(30))
    first = 0.0
    while data := await response.next(after(30)):
        if not first and b"word0" in data:
            first = time.perf_counter() - begun
    response.close()
    return first


def cpu_s(pid: int) -> float:
    """Return the CPU time that all threads of a process have had, as exactly as the scheduler knows it."""
    times = [(task / "schedstat").read_text().split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(map(int, times)) / 1e9


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(ports: dict[str, tuple[int, int]], seconds: float, rounds: int) -> list[Result]:
    """Put load on one proxy after the other, round after round; the first round, a short one, only warms them up."""
    peers = [
        Peer(name, HTTPTransport(Pool(Address("127.0.0.1", port), 1000)), pid, streams=name != "bare")
        for name, (port, pid) in ports.items()
    ]
    for number in range(rounds + 1):
        for peer in peers:
            if number == 0:
                await flood(peer.transport, CONNECTIONS, 0.2)
                continue
            peer.alone_s += await flood(peer.transport, 1, seconds / 4)
            before = cpu_s(peer.pid)
            loaded = await flood(peer.transport, CONNECTIONS, seconds)
            peer.request_us.append((cpu_s(peer.pid) - before) / len(loaded) * 1e6)
            peer.loaded_s += loaded
            if peer.streams:
                before = cpu_s(peer.pid)
                peer.firsts_s += await asyncio.gather(*(stream_once(peer.transport) for _ in range(STREAMS)))
                peer.chunk_us.append((cpu_s(peer.pid) - before) / (STREAMS * CHUNKS) * 1e6)
    for peer in peers:
        peer.transport.close()
    return [peer.result() for peer in peers]


@contextmanager
def process(port: int, *arguments: str, env: dict[str, str] | None = None) -> Any:
    child = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments} did not start")
            time.sleep(0.05)
        yield child.pid
    finally:
        child.terminate()
        child.wait(20)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def service(stack: ExitStack, base_url: str, **more: str) -> tuple[int, int]:
    """Start the service with callers' keys, limits and metrics, as in production; return its port and process."""
    http, grpc, ops = free_ports(3)
    env = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_PATH": base_url,
        "OPENAI_CHATBOT_MODEL_ID": "m",
        "PARLEY_GATEWAY_KEY": "k",
        "PARLEY_LLM_HTTP_PORT": str(http),
        "PARLEY_LLM_GRPC_PORT": str(grpc),
        "PARLEY_LLM_OPS_PORT": str(ops),
        "PARLEY_CONFIG": "",
        **more,
    }
    return http, stack.enter_context(process(http, "-m", "parley_llm", env=env))


def run(seconds: float, rounds: int) -> list[Result]:
    upstream, bare, relay, naive, collector = free_ports(5)
    base_url = f"http://127.0.0.1:{upstream}/v1"
    tracing = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    with ExitStack() as stack:
        start = stack.enter_context
        ports = {"direct": (upstream, start(process(upstream, PEERS, "upstream", str(upstream))))}
        start(process(collector, PEERS, "collector", str(collector)))
        for name, port in (("bare", bare), ("relay", relay)):
            ports[name] = (port, start(process(port, PEERS, name, str(port), str(upstream))))
        ports["parley-llm"] = service(stack, base_url)
        ports["parley-llm, 1 % traced"] = service(stack, base_url, **tracing)
        ports["naive"] = (naive, start(process(naive, PEERS, "naive", str(naive), str(upstream))))
        return uvloop.run(measure(ports, seconds, rounds))


def report(results: list[Result]) -> str:
    columns = [name for name in asdict(results[0]) if name != "name"]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for result in results:
        values = asdict(result)
        cells = ["–" if values[column] is None else f"{values[column]:.4g}" for column in columns]
        lines.append(f"| {result.name} | " + " | ".join(cells) + " |")
    by_name = {result.name: result for result in results}
    naive = by_name["naive"]
    for name in ("parley-llm", "parley-llm, 1 % traced"):
        ours = by_name[name]
        lines += [
            "",
            f"{name}: {naive.cpu_us_per_request / ours.cpu_us_per_request:.1f} times the requests and"
            f" {(naive.cpu_us_per_chunk or 0) / (ours.cpu_us_per_chunk or 1):.1f} times the chunks of the naive proxy"
            " for its CPU time.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each load in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all the proxies")
    parser.add_argument("--no-file", action="store_true", help="print only")
    arguments = parser.parse_args()
    results = run(arguments.seconds, arguments.rounds)
    now = datetime.now(UTC)
    print(report(results))
    if not arguments.no_file:
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        record = {
            "date": now.isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "connections": CONNECTIONS,
            "streams": STREAMS,
            "chunks_per_s_and_stream": round(1 / CHUNK_PAUSE_S),
            "rounds": arguments.rounds,
            "results": [asdict(result) for result in results],
        }
        path = folder / f"llm_proxy-{now:%Y-%m-%d}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(f"\nwritten to {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
