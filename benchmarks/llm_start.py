"""Measures how fast the LLM service starts and how much memory it holds at rest.

Start: from creating the process until `/readyz` answers 200, again and again. Memory: resident after ten seconds
without a call. Once with nothing but environment variables, once with a settings file that has ten HTTPS upstreams.

    python benchmarks/llm_start.py            # about 40 s; writes benchmarks/results/<date>-llm-start.{json,md}
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from benchmarks.measuring.processes import Service, rss_mib, service, version_of
from benchmarks.measuring.results import named, table, write

UPSTREAMS = 10
REST_S = 10.0
GOAL_START_S = 1.0
GOAL_RSS_MIB = 70.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way to configure the service costs."""

    settings: str
    start_s_median: float
    start_s_worst: float
    rss_mib_at_rest: float


def settings_file(folder: Path) -> str:
    """Write a settings file with many upstreams, models and callers; return its path."""
    upstreams = {
        f"u{number}": {"base_url": f"https://u{number}.example/v1", "api_keys": [f"key-{number}-of-this-upstream"]}
        for number in range(UPSTREAMS)
    }
    models = {f"m{number}": {"targets": [{"upstream": f"u{number}", "model": "m"}]} for number in range(UPSTREAMS)}
    callers = [{"name": f"c{number}", "keys": [f"key-{number}-of-this-caller"]} for number in range(UPSTREAMS)]
    file = folder / "parley.yaml"
    file.write_text(yaml.safe_dump({"llm": {"upstreams": upstreams, "models": models, "callers": callers}}))
    return str(file)


def start(stack: ExitStack, interpreter: str, config: str) -> tuple[Service, float]:
    """Start the service; return it with the seconds until it was ready."""
    begun = time.perf_counter()
    running = service(stack, "http://127.0.0.1:9/v1", interpreter=interpreter, config=config)
    while not ready(running.ops_port):
        time.sleep(0.002)
    return running, time.perf_counter() - begun


def ready(port: int) -> bool:
    """Ask the readiness probe."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def measure(name: str, interpreter: str, config: str, times: int, rest_s: float) -> Figures:
    """Start the service several times, and let the last one rest."""
    seconds = []
    for number in range(times):
        with ExitStack() as stack:
            running, took = start(stack, interpreter, config)
            seconds.append(took)
            if number == times - 1:
                time.sleep(rest_s)
                rss = rss_mib(running.pid)
    return Figures(name, statistics.median(seconds), max(seconds), rss)


def run(interpreter: str, times: int, rest_s: float) -> list[Figures]:
    """Measure both ways to configure the service."""
    with tempfile.TemporaryDirectory() as folder:
        file = settings_file(Path(folder))
        return [
            measure("environment only", interpreter, "", times, rest_s),
            measure(f"file with {UPSTREAMS} upstreams", interpreter, file, times, rest_s),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the service")
    parser.add_argument("--no-file", action="store_true", help="print only")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = [asdict(one) for one in run(arguments.python, arguments.times, REST_S)]
    version = version_of(arguments.python)
    goals = f"Goals: ready in less than {GOAL_START_S:g} s, at most {GOAL_RSS_MIB:g} MiB at rest."
    text = f"Python {version}, {arguments.times} starts, memory after {REST_S:g} s.\n\n{table(rows)}\n\n{goals}"
    print(text)
    if not arguments.no_file:
        print(
            write(
                named("llm-start", arguments.python),
                "Start and rest of the LLM service",
                {"python": version, "results": rows},
                text,
            )
        )
    if any(row["start_s_median"] >= GOAL_START_S or row["rss_mib_at_rest"] > GOAL_RSS_MIB for row in rows):
        raise SystemExit("A goal was missed.")


if __name__ == "__main__":
    main()
