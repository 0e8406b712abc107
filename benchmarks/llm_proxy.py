"""Measures the LLM service's HTTP path against a naive proxy (FastAPI and OpenAI's SDK) and no proxy at all.

Everything runs on this machine over loopback, in one run, so the ratios are what counts. The figure to trust is CPU
time of the proxy's process per request or chunk: it depends least on how the cores are shared with the load generator.

    python benchmarks/llm_proxy.py            # about 40 s; writes benchmarks/results/llm_proxy-<date>.json
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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.transport import HTTPTransport, Outgoing, after

CONNECTIONS = 32
STREAMS = 32
CHUNKS = 50
CHUNK_PAUSE_S = 0.01
TICKS = os.sysconf("SC_CLK_TCK")
MESSAGES = [{"role": "user", "content": "Say something of about a kilobyte. " * 6}]
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp"}
HERE = Path(__file__).parent


@dataclass
class Result:
    """What one proxy did."""

    name: str
    requests_per_s: float = 0.0
    cpu_us_per_request: float = 0.0
    requests_per_core_s: float = 0.0
    p50_ms_alone: float = 0.0
    p99_ms_loaded: float = 0.0
    cpu_us_per_chunk: float = 0.0
    first_chunk_ms: float = 0.0
    rss_mib: float = 0.0


# The upstream: answers from memory as fast as Python can.


class Upstream(asyncio.Protocol):
    """Answers each request with a prepared completion, or with a paced stream."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0) if end else 0
        if not end or len(body) < length:
            return
        self.data = b""
        if b'"stream":true' in body.replace(b" ", b""):
            asyncio.get_running_loop().create_task(self.stream())
        else:
            self.transport.write(self.answer)

    async def stream(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.transport.write(head)
        for number in range(CHUNKS):
            finish = "stop" if number == CHUNKS - 1 else None
            choice = {"index": 0, "delta": {"content": f"word{number} "}, "logprobs": None, "finish_reason": finish}
            self.event(json.dumps({**CHUNK, "choices": [choice]}).encode())
            await asyncio.sleep(CHUNK_PAUSE_S)
        self.event(b"[DONE]")
        self.transport.write(b"0\r\n\r\n")

    def event(self, data: bytes) -> None:
        event = b"data: %b\n\n" % data
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))


async def serve_upstream(port: int) -> None:
    message = {"role": "assistant", "content": "word " * 160}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 160, "total_tokens": 210}
    completion = {**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage}
    body = json.dumps(completion).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    Upstream.answer = head + body
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


# The naive proxy: what one writes in ten minutes.


def serve_naive(port: int, base_url: str) -> None:
    import openai
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from pydantic import BaseModel

    app = FastAPI()
    client = openai.AsyncOpenAI(api_key="k", base_url=base_url)

    class ChatRequest(BaseModel):
        model: str
        messages: list[dict[str, Any]]
        stream: bool = False

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        answer: Any = await client.chat.completions.create(**request.model_dump())
        if not request.stream:
            return answer

        async def events() -> Any:
            async for chunk in answer:
                yield f"data: {chunk.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    uvicorn.run(app, port=port, log_level="error", loop="uvloop", http="httptools")


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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(name: str, port: int, pid: int, seconds: float) -> Result:
    transport = HTTPTransport(Pool(Address("127.0.0.1", port), 1000))
    result = Result(name)
    await flood(transport, CONNECTIONS, min(0.5, seconds))
    alone = await flood(transport, 1, seconds / 2)
    before = cpu_s(pid)
    begun = time.perf_counter()
    loaded = await flood(transport, CONNECTIONS, seconds)
    elapsed, used = time.perf_counter() - begun, cpu_s(pid) - before
    result.requests_per_s = len(loaded) / elapsed
    result.cpu_us_per_request = used / len(loaded) * 1e6
    result.requests_per_core_s = len(loaded) / used
    result.p50_ms_alone = statistics.median(alone) * 1000
    result.p99_ms_loaded = statistics.quantiles(loaded, n=100)[98] * 1000
    before = cpu_s(pid)
    firsts = []
    for _ in range(2):
        firsts += await asyncio.gather(*(stream_once(transport) for _ in range(STREAMS)))
    result.cpu_us_per_chunk = (cpu_s(pid) - before) / (2 * STREAMS * CHUNKS) * 1e6
    result.first_chunk_ms = statistics.median(firsts) * 1000
    result.rss_mib = rss_mib(pid)
    transport.close()
    return result


@contextmanager
def process(port: int, *arguments: str, env: dict[str, str] | None = None) -> Any:
    child = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **(env or {})})
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


def run(seconds: float) -> list[Result]:
    upstream, naive, http, grpc, ops = free_ports(5)
    base_url = f"http://127.0.0.1:{upstream}/v1"
    env = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_PATH": base_url,
        "OPENAI_CHATBOT_MODEL_ID": "m",
        "PARLEY_GATEWAY_KEY": "k",  # So that callers' keys are checked, as in production.
        "PARLEY_LLM_HTTP_PORT": str(http),
        "PARLEY_LLM_GRPC_PORT": str(grpc),
        "PARLEY_LLM_OPS_PORT": str(ops),
        "PARLEY_CONFIG": "",
    }
    results = []
    with process(upstream, __file__, "--serve-upstream", str(upstream)) as upstream_pid:
        results.append(uvloop.run(measure("no proxy", upstream, upstream_pid, seconds)))
        with process(http, "-m", "parley_llm", env=env) as pid:
            results.append(uvloop.run(measure("parley-llm", http, pid, seconds)))
        with process(naive, __file__, "--serve-naive", str(naive), base_url) as pid:
            results.append(uvloop.run(measure("FastAPI + openai SDK", naive, pid, seconds)))
    return results


def report(results: list[Result]) -> str:
    columns = [name for name in asdict(results[0]) if name != "name"]
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for result in results:
        values = asdict(result)
        lines.append(f"| {result.name} | " + " | ".join(f"{values[column]:.4g}" for column in columns) + " |")
    ours, naive = results[1], results[2]
    lines += [
        "",
        f"parley-llm does {naive.cpu_us_per_request / ours.cpu_us_per_request:.1f} times the requests, and"
        f" {naive.cpu_us_per_chunk / ours.cpu_us_per_chunk:.1f} times the chunks, of the naive proxy for its CPU time.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--no-file", action="store_true", help="print only")
    parser.add_argument("--serve-upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve-naive", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_upstream:
        uvloop.run(serve_upstream(arguments.serve_upstream))
        return
    if arguments.serve_naive:
        serve_naive(int(arguments.serve_naive[0]), arguments.serve_naive[1])
        return
    results = run(arguments.seconds)
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
            "results": [asdict(result) for result in results],
        }
        path = folder / f"llm_proxy-{now:%Y-%m-%d}.json"
        path.write_text(json.dumps(record, indent=2) + "\n")
        print(f"\nwritten to {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
