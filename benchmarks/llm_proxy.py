"""Measures the LLM service's HTTP path beside other proxies, a naive one and lower bounds.

Everything runs on this machine over loopback, at the same time, the load going round: so only ratios within one run
count. The figure to trust is CPU time of the proxy's process tree (all threads, from the kernel's scheduler) per
request or chunk; the load generator and the upstream are other processes. Plain requests: 64 connections, 0.3 kB in,
1.1 kB out. Streams: 64 at a time, 50 chunks a second each, so that hardly any two chunks arrive together.

    python benchmarks/llm_proxy.py --install-peers   # once: Envoy, LiteLLM, Portkey into .state/peers
    python benchmarks/llm_proxy.py                   # 2 to 3 min; writes benchmarks/results/<date>-llm-proxy.{json,md}

The peers: `direct`, no proxy; `bare`, uvicorn answering plain requests with a constant (what no ASGI application on it
gets below); `relay`, a bare ASGI application that passes bytes on over the service's own connection pool, checking and
counting nothing; the service with callers' keys, limits, metrics, once without tracing and once with 1 % of traces
exported; `naive`, FastAPI around OpenAI's package; the other proxies that are installed (`peers/others.py`).
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.transport import HTTPTransport, Outgoing, after

from benchmarks.measuring.processes import (
    cpu_s,
    free_ports,
    process,
    python,
    rss_mib,
    same_packages,
    service,
    version_of,
)
from benchmarks.measuring.results import named, table, write
from benchmarks.peers.llm_proxy import CHUNK_PAUSE_S, CHUNKS
from benchmarks.peers.others import MAKERS, install, others

CONNECTIONS = 64
STREAMS = 64
MESSAGES = [{"role": "user", "content": "Say something of about a kilobyte. " * 6}]
PEERS = str(Path(__file__).parent / "peers" / "llm_proxy.py")
OURS = "parley-llm"
TRACED = "parley-llm, 1 % traced"


@dataclass(frozen=True, slots=True)
class Result:
    """What one proxy did: medians over the rounds."""

    name: str
    cpu_us_per_request: float
    cpu_us_per_chunk: float | None
    requests_per_core_s: float
    p50_ms_alone: float
    p99_ms_loaded: float
    first_chunk_ms: float | None
    rss_mib: float


@dataclass(slots=True)
class Peer:
    """A proxy under measurement, and what was seen of it in each round."""

    name: str
    pid: int
    transport: HTTPTransport
    headers: bytes = b""
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

    async def round(self, seconds: float) -> None:
        """Put each kind of load on it once."""
        self.alone_s += await self.flood(1, seconds / 4)
        before = cpu_s(self.pid)
        loaded = await self.flood(CONNECTIONS, seconds)
        self.request_us.append((cpu_s(self.pid) - before) / len(loaded) * 1e6)
        self.loaded_s += loaded
        if self.streams:
            before = cpu_s(self.pid)
            self.firsts_s += await asyncio.gather(*(self._stream() for _ in range(STREAMS)))
            self.chunk_us.append((cpu_s(self.pid) - before) / (STREAMS * CHUNKS) * 1e6)

    async def flood(self, connections: int, seconds: float) -> list[float]:
        """Ask for so long over so many connections; return the seconds that each answer took."""
        until = time.perf_counter() + seconds
        times: list[float] = []

        async def worker() -> None:
            while time.perf_counter() < until:
                times.append(await self._ask())

        await asyncio.gather(*(worker() for _ in range(connections)))
        return times

    async def _ask(self) -> float:
        begun = time.perf_counter()
        response = await self.transport.send(self._request(stream=False), after(10), after(30))
        body = await response.read(after(30), 1 << 24, 30)
        response.close()
        if response.status != 200:
            raise RuntimeError(f"{self.name}: status {response.status}: {body[:200]!r}")
        return time.perf_counter() - begun

    async def _stream(self) -> float:
        """Read a stream; return the seconds to its first content."""
        begun = time.perf_counter()
        response = await self.transport.send(self._request(stream=True), after(10), after(30))
        first = 0.0
        while data := await response.next(after(30)):
            if not first and b"word0" in data:
                first = time.perf_counter() - begun
        response.close()
        if not first:
            raise RuntimeError(f"{self.name}: status {response.status} and no content in a stream")
        return first

    def _request(self, *, stream: bool) -> Outgoing:
        body = json.dumps({"model": "m", "messages": MESSAGES, **({"stream": True} if stream else {})}).encode()
        common = b"host: localhost\r\nauthorization: Bearer k\r\ncontent-type: application/json\r\n"
        return Outgoing("POST", "/v1/chat/completions", common + self.headers, body)


async def measure(running: Mapping[str, tuple[int, int, bytes]], seconds: float, rounds: int) -> list[Result]:
    """Put load on one proxy after the other, round after round, once they are warm."""
    peers = [
        Peer(name, pid, HTTPTransport(Pool(Address("127.0.0.1", port), 1000)), headers, streams=name != "bare")
        for name, (port, pid, headers) in running.items()
    ]
    for peer in peers:
        await peer.flood(CONNECTIONS, 0.2)
    for number in range(rounds):
        # To and fro, since who comes after whom matters a little.
        for peer in peers if number % 2 == 0 else reversed(peers):
            await peer.round(seconds)
    for peer in peers:
        peer.transport.close()
    return [peer.result() for peer in peers]


def run(seconds: float, rounds: int, interpreter: str) -> tuple[list[Result], list[str]]:
    """Start everything and measure; return the results and the names of the peers that are not installed."""
    upstream, bare, relay, naive, collector, *more = free_ports(5 + len(MAKERS))
    base_url = f"http://127.0.0.1:{upstream}/v1"
    tracing = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(kind: str, port: int, *ports: int) -> tuple[int, int, bytes]:
            command = [interpreter, PEERS, kind, str(port), *map(str, ports)]
            return port, stack.enter_context(process(port, command, same_packages(interpreter))), b""

        stack.enter_context(process(collector, python(PEERS, "collector", str(collector))))
        running = {"direct": start("upstream", upstream)}
        running |= {"bare": start("bare", bare, upstream), "relay": start("relay", relay, upstream)}
        for name, env in ((OURS, {}), (TRACED, tracing)):
            ours = service(stack, base_url, interpreter=interpreter, **env)
            running[name] = ours.http_port, ours.pid, b""
        running["naive"] = start("naive", naive, upstream)
        found, missing = others(upstream, more, folder)
        for port, other in found.items():
            pid = stack.enter_context(process(port, other.command, other.env, quiet=True))
            running[other.name] = port, pid, other.headers
        return uvloop.run(measure(running, seconds, rounds)), missing


def text_of(results: list[Result], missing: list[str]) -> str:
    """Return the results for people, with the ratios to the service."""
    ours = next(result for result in results if result.name == OURS)
    rows: list[dict[str, Any]] = []
    for result in results:
        chunk = result.cpu_us_per_chunk
        rows.append(
            {
                "": result.name,
                "CPU µs/request": result.cpu_us_per_request,
                f"÷ {OURS}": result.cpu_us_per_request / ours.cpu_us_per_request,
                "CPU µs/chunk": chunk,
                f"÷ {OURS} ": chunk / ours.cpu_us_per_chunk if chunk and ours.cpu_us_per_chunk else None,
                "requests/core-s": round(result.requests_per_core_s),
                "p50 ms alone": result.p50_ms_alone,
                f"p99 ms at {CONNECTIONS}": result.p99_ms_loaded,
                "first chunk ms": result.first_chunk_ms,
                "RSS MiB": result.rss_mib,
            }
        )
    absent = f"\n\nNot installed, so not measured: {', '.join(missing)}." if missing else ""
    return table(rows) + absent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each load in a round")
    parser.add_argument("--rounds", type=int, default=7, help="rounds over all the proxies")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs all proxies written in Python")
    parser.add_argument("--install-peers", action="store_true", help="install the other proxies and stop")
    parser.add_argument("--no-file", action="store_true", help="print only")
    arguments = parser.parse_args()
    if arguments.install_peers:
        install()
        return
    results, missing = run(arguments.seconds, arguments.rounds, arguments.python)
    version = version_of(arguments.python)
    text = f"Python {version}, {arguments.rounds} rounds.\n\n{text_of(results, missing)}"
    print(text)
    if not arguments.no_file:
        figures = {
            "python": version,
            "connections": CONNECTIONS,
            "streams": STREAMS,
            "chunks_per_s_and_stream": round(1 / CHUNK_PAUSE_S),
            "rounds": arguments.rounds,
            "not_installed": missing,
            "results": [asdict(result) for result in results],
        }
        print(write(named("llm-proxy", arguments.python), "The LLM service beside other proxies", figures, text))


if __name__ == "__main__":
    main()
