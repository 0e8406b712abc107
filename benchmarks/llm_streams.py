"""Soaks the LLM service in streams, as real processes over loopback, in three phases.

1. Many slow streams at once: every chunk of each has to arrive, in order, with its finish and `[DONE]`.
2. As many streams, and all callers leave in one instant: when is the upstream rid of its connections?
3. Callers that read nothing for a while although the upstream has much to say: memory must stay bounded, the upstream
   must be held back; afterwards they read all of it.

Reported of the service's process: resident memory before, during and after each phase, and CPU time.

    python benchmarks/llm_streams.py          # about 2 min; writes benchmarks/results/<date>-llm-streams.{json,md}
"""

import argparse
import asyncio
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from benchmarks.measuring.callers import Caller, Wanted, upstream_state
from benchmarks.measuring.processes import cpu_s, free_ports, process, python, rss_mib, service, version_of
from benchmarks.measuring.results import named, table, write

UPSTREAM = str(Path(__file__).parent / "peers" / "paced_upstream.py")
REST_S = 1.0
SLOW_READ_CHUNKS = 4096
SLOW_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """How much load there is."""

    streams: int = 1000
    seconds: float = 60.0
    pause_ms: int = 250
    slow_readers: int = 50
    stall_s: float = 10.0


@dataclass(slots=True)
class Report:
    """What was seen; memory in MiB of the service's process."""

    streams: int
    chunks: int
    lost_streams: int
    rss_before: float
    rss_during: float
    rss_after: float
    kib_per_stream: float
    cpu_us_per_chunk: float
    cpu_share: float
    leave_s: float = 0.0
    left_behind: int = 0
    rss_after_leaving: float = 0.0
    stall_rss_before: float = 0.0
    stall_rss_during: float = 0.0
    stall_rss_reading: float = 0.0
    stall_rss_after: float = 0.0
    stall_upstreams_paused: int = 0
    stall_sent_share: float = 0.0
    stall_lost_streams: int = 0


class Soak:
    """The phases on one running service."""

    def __init__(self, load: Load, pid: int, port: int, upstream: int) -> None:
        self._load = load
        self._pid = pid
        self._port = port
        self._upstream = upstream

    async def run(self) -> Report:
        """Go through all phases."""
        await self._warm_up()
        report = await self._many()
        await self._leave(report)
        await self._stall(report)
        return report

    def _callers(self, count: int) -> list[Caller]:
        return [Caller(self._port) for _ in range(count)]

    async def _warm_up(self) -> None:
        """What the first calls make the process allocate belongs to no phase."""
        await asyncio.gather(*(caller.follow(Wanted(3, 10)) for caller in self._callers(20)))
        await asyncio.sleep(REST_S)

    async def _many(self) -> Report:
        load = self._load
        wanted = Wanted(round(load.seconds * 1000 / load.pause_ms), load.pause_ms)
        before, cpu_before = rss_mib(self._pid), cpu_s(self._pid)
        callers = self._callers(load.streams)
        following = asyncio.gather(*(self._begin(caller, wanted, at) for at, caller in enumerate(callers)))
        # The last moment at which all of them run.
        await asyncio.sleep(max(load.seconds - 1.0, load.seconds / 2))
        during = rss_mib(self._pid)
        complete = await following
        spent = cpu_s(self._pid) - cpu_before
        await asyncio.sleep(REST_S)
        chunks = load.streams * wanted.chunks
        return Report(
            load.streams,
            chunks,
            complete.count(False),
            before,
            during,
            rss_mib(self._pid),
            (during - before) * 1024 / load.streams,
            spent / chunks * 1e6,
            spent / load.seconds,
        )

    async def _begin(self, caller: Caller, wanted: Wanted, number: int) -> bool:
        # Spread over one pause, so that hardly any two chunks of different streams arrive together.
        await asyncio.sleep(number / self._load.streams * self._load.pause_ms / 1000)
        return await caller.follow(wanted)

    async def _leave(self, report: Report) -> None:
        load = self._load
        callers = self._callers(load.streams)
        following = [
            asyncio.create_task(self._begin(caller, Wanted(10_000, load.pause_ms), at))
            for at, caller in enumerate(callers)
        ]
        while (await upstream_state(self._upstream))["streams"] < load.streams:
            await asyncio.sleep(0.1)
        await asyncio.sleep(REST_S)
        left_at = asyncio.get_running_loop().time()
        for caller in callers:
            caller.leave()
        await asyncio.gather(*following)
        while (state := await upstream_state(self._upstream))["streams"]:
            if asyncio.get_running_loop().time() > left_at + 10:
                break
            await asyncio.sleep(0.05)
        report.leave_s = state["last_lost"] - left_at
        report.left_behind = int(state["streams"])
        await asyncio.sleep(REST_S)
        report.rss_after_leaving = rss_mib(self._pid)

    async def _stall(self, report: Report) -> None:
        load = self._load
        before = await upstream_state(self._upstream)
        report.stall_rss_before = rss_mib(self._pid)
        callers = self._callers(load.slow_readers)
        wanted = Wanted(SLOW_READ_CHUNKS, 0, SLOW_READ_BYTES)
        following = [asyncio.create_task(caller.follow(wanted, stall_s=load.stall_s)) for caller in callers]
        report.stall_rss_during = await self._peak(following, load.stall_s * 0.9)
        state = await upstream_state(self._upstream)
        report.stall_upstreams_paused = int(state["paused"])
        all_bytes = load.slow_readers * SLOW_READ_CHUNKS * SLOW_READ_BYTES
        report.stall_sent_share = (state["sent_bytes"] - before["sent_bytes"]) / all_bytes
        report.stall_rss_reading = await self._peak(following, 60.0)
        report.stall_lost_streams = (await asyncio.gather(*following)).count(False)
        await asyncio.sleep(REST_S)
        report.stall_rss_after = rss_mib(self._pid)

    async def _peak(self, following: list[asyncio.Task[bool]], within_s: float) -> float:
        """Return the most memory seen until all callers are done, or for so long."""
        until = asyncio.get_running_loop().time() + within_s
        peak = 0.0
        while asyncio.get_running_loop().time() < until and not all(task.done() for task in following):
            peak = max(peak, rss_mib(self._pid))
            await asyncio.sleep(0.1)
        return peak


def run(load: Load, interpreter: str = sys.executable) -> Report:
    """Start upstream and service and put the load on them."""
    (upstream,) = free_ports(1)
    with ExitStack() as stack:
        stack.enter_context(process(upstream, python(UPSTREAM, str(upstream))))
        running = service(stack, f"http://127.0.0.1:{upstream}/v1", interpreter=interpreter)
        return uvloop.run(Soak(load, running.pid, running.http_port, upstream).run())


def text_of(load: Load, report: Report) -> str:
    """Return the report for people."""
    rows: list[dict[str, Any]] = [
        {
            "phase": f"{report.streams} streams, a chunk each {load.pause_ms} ms, {load.seconds:g} s",
            "lost": report.lost_streams,
            "MiB before": report.rss_before,
            "during": report.rss_during,
            "after": report.rss_after,
        },
        {
            "phase": f"{report.streams} callers leave at once",
            "lost": None,
            "MiB before": report.rss_after,
            "during": None,
            "after": report.rss_after_leaving,
        },
        {
            "phase": f"{load.slow_readers} callers read nothing for {load.stall_s:g} s",
            "lost": None,
            "MiB before": report.stall_rss_before,
            "during": report.stall_rss_during,
            "after": None,
        },
        {
            "phase": "… and then everything at full speed",
            "lost": report.stall_lost_streams,
            "MiB before": report.stall_rss_during,
            "during": report.stall_rss_reading,
            "after": report.stall_rss_after,
        },
    ]
    return (
        f"{table(rows)}\n\n"
        f"- {report.chunks} chunks, {report.cpu_us_per_chunk:.1f} µs of CPU each, {report.cpu_share:.0%} of a core;"
        f" {report.kib_per_stream:.0f} KiB a running stream.\n"
        f"- After all callers had left, the upstream's last connection ended within {report.leave_s * 1000:.0f} ms;"
        f" {report.left_behind} were left.\n"
        f"- While callers read nothing, {report.stall_upstreams_paused} of {load.slow_readers} upstream connections"
        f" were held back, having sent {report.stall_sent_share:.0%} of what they had to say, most of it into the"
        " kernel's socket buffers."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=Load().streams)
    parser.add_argument("--seconds", type=float, default=Load().seconds, help="length of the first phase")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the service")
    parser.add_argument("--no-file", action="store_true", help="print only")
    arguments = parser.parse_args()
    load = Load(arguments.streams, arguments.seconds)
    report = run(load, arguments.python)
    version = version_of(arguments.python)
    text = f"Python {version}.\n\n{text_of(load, report)}"
    print(text)
    if not arguments.no_file:
        figures = {"python": version, "load": asdict(load), "report": asdict(report)}
        print(
            write(named("llm-streams", arguments.python), "Many streams at once through the LLM service", figures, text)
        )
    if report.lost_streams or report.stall_lost_streams or report.left_behind or report.leave_s > 1.0:
        raise SystemExit("Streams were lost or left behind.")


if __name__ == "__main__":
    main()
