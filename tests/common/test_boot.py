"""The life of a service's process, seen from outside: exit codes, ports, signals, the order of its stop."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from parley_common.errors import error_from_rpc

from tests.common.echo import SERVICE, begin_call, responses_of
from tests.fakes.mounted_files import MountedFiles
from tests.fakes.otlp_receiver import dead_port, otlp_receiver

SECRET = "hunter2-hunter2"
ROOT = Path(__file__).parents[2]
PROMPT_S = 15.0
"""Far below the drain and the grace in these tests; a process needs a second or two to end."""


class Process:
    """The tiny service as a running process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self, event: str) -> dict[str, Any]:
        """Read the log up to this event. Fails when it never comes."""
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self.lines.append(json.loads(raw))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        pytest.fail(f"no {event} in {self.events}")

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Wait for the process; return its exit code and what it said on standard error."""
        out, err = await self._process.communicate()
        self.lines += [json.loads(raw) for raw in out.splitlines()]
        assert SECRET not in out.decode() + err.decode()
        assert self._process.returncode is not None
        return self._process.returncode, err.decode()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


async def _spawn(*arguments: str, **env: str) -> asyncio.subprocess.Process:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PARLEY_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.common.tiny_service",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**quiet, **env},
    )


async def _ended(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the program to its end; return its exit code and what it wrote."""
    process = await _spawn(*arguments, **env)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def _running(section: str, directory: Path, **env: str) -> AsyncGenerator[Process, None]:
    process = Process(await _spawn("--config", str(_config(section, directory)), **env))
    try:
        yield process
    finally:
        await process.kill()


def _config(section: str, directory: Path) -> Path:
    file = directory / "parley.yaml"
    file.write_text(f"formatter: {section}")
    return file


def _channel(started: dict[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(started["grpc"], [("grpc.enable_http_proxy", 0)])


async def _ops(started: dict[str, Any], path: str, accept: str = "") -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{started['ops']}{path}", headers={"accept": accept}, timeout=10)


async def test_a_service_starts_and_is_there(tmp_path: Path) -> None:
    with dead_port() as proxy:
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), f"http://127.0.0.1:{proxy}")
        async with _running(f"{{key: {SECRET}}}", tmp_path, PARLEY_REVISION="abc1234", **proxies) as process:
            started = await process.line("started")
            async with _channel(started) as channel:
                assert await begin_call(channel, "unary_unary", b"hello", timeout=10) == b"hello"
                health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            assert (await _ops(started, "/livez")).status_code == 200
            assert (await _ops(started, "/readyz")).status_code == 200
            metrics = (await _ops(started, "/metrics")).text
            openmetrics = (await _ops(started, "/metrics", "application/openmetrics-text; version=1.0.0")).text
            process.signal()
            assert await process.end() == (0, "")

    assert 'parley_build_info{python="' in metrics
    assert 'revision="abc1234"' in metrics
    assert f'grpc_method="Unary",grpc_service="{SERVICE}",grpc_type="unary_unary"}} 1.0' in metrics
    assert openmetrics.endswith("# EOF\n")
    assert "_created" not in openmetrics
    (line,) = [line for line in process.lines if line["event"] == "service_started"]
    assert (line["key"], line["service"], line["version"]) == ("[secret]", "tiny", "1.2.3")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_in_order(tmp_path: Path, number: int) -> None:
    async with (
        otlp_receiver() as receiver,
        _running(
            "{shutdown: {drain: 1s, grace: 30s}}", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint
        ) as process,
    ):
        started = await process.line("started")
        async with _channel(started) as channel:
            release = asyncio.Event()

            async def requests() -> AsyncGenerator[bytes, None]:
                yield b"one"
                await release.wait()
                yield b"two"

            slow: Any = channel.stream_stream(f"/{SERVICE}/Converse")(requests())  # type: ignore[arg-type]
            assert [await slow.read(), await slow.read()] == [b"first", b"one"]
            process.signal(number)

            # 1. Not ready, yet every call is still served.
            await process.line("service_drains")
            ready = await _ops(started, "/readyz")
            assert (ready.status_code, ready.json()["reasons"]) == (503, ["draining"])
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await begin_call(channel, "unary_unary", b"hello") == b"hello"
            assert "parley_draining{" in (await _ops(started, "/metrics")).text

            # 2. Listeners closed; the call in work goes on, and so does the ops port.
            await process.line("service_stops")
            await asyncio.sleep(0.1)
            assert (await _ops(started, "/livez")).status_code == 200
            release.set()
            assert [await slow.read(), await slow.read()] == [b"two", grpc.aio.EOF]

        # 3. Gone, with everything told to the collector.
        assert await process.end() == (0, "")
        names = sorted(span.name for span in receiver.spans)
        assert names == [f"{SERVICE}/Converse", f"{SERVICE}/Unary"]
        assert {span.service for span in receiver.spans} == {"parley-tiny"}
    assert process.events == [
        "service_started",
        "started",
        "stopping",
        "service_drains",
        "service_stops",
        "service_stopped",
        "stopped",
    ]


@pytest.mark.parametrize("when", ["drain", "grace"])
async def test_a_second_signal_cuts_the_wait(tmp_path: Path, when: str) -> None:
    drain = "50s" if when == "drain" else "0s"
    async with _running(f"{{shutdown: {{drain: {drain}, grace: 50s}}}}", tmp_path) as process:
        started = await process.line("started")
        async with _channel(started) as channel:
            answer = asyncio.create_task(responses_of(begin_call(channel, "unary_stream", b"wait"), "unary_stream"))
            await asyncio.sleep(0.1)
            process.signal()
            await process.line("service_drains" if when == "drain" else "service_stops")
            cut = time.monotonic()
            process.signal()

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer
            assert error_from_rpc(caught.value).reason == "SERVER_STOPPED"
            assert await process.end() == (0, "")
            assert time.monotonic() - cut < PROMPT_S
    assert "stopping_at_once" in process.events
    assert process.events[-1] == "stopped"


async def test_settings_change_while_the_process_runs(tmp_path: Path) -> None:
    secrets = MountedFiles(tmp_path / "secrets", key=SECRET)
    option = f"key: '${{file:{secrets.path('key')}}}'"
    async with _running(f"{{{option}}}", tmp_path) as process:
        started = await process.line("started")
        other = f"{SECRET}-other"
        secrets.update(key=other)
        reloaded = await process.line("service_reloaded")
        assert (reloaded["key"], reloaded["was"]) == ("[secret]", "[secret]")
        await process.line("settings_reloaded")

        _config(f"{{{option}, refuses: out of order}}", tmp_path)
        assert (await process.line("settings_refused"))["problems"] == ["out of order"]
        _config(f"{{{option}, log_level: debug, ops_port: 1, shutdown: {{drain: 0s, grace: 7s}}}}", tmp_path)
        assert (await process.line("settings_need_restart"))["options"] == ["formatter.ops_port"]
        await process.line("settings_reloaded")
        secrets.update(key=SECRET)
        await process.line("service_reloaded_in_detail")
        process.signal(signal.SIGHUP)
        await process.line("settings_unchanged")

        metrics = (await _ops(started, "/metrics")).text
        process.signal()
        assert await process.end() == (0, "")
    assert 'parley_config_reload_total{outcome="ok"} 4.0' in metrics
    assert 'parley_config_reload_total{outcome="error"} 1.0' in metrics
    assert "parley_config_last_reload_success_timestamp_seconds 1." in metrics
    (stopping,) = [line for line in process.lines if line["event"] == "stopping"]
    assert stopping["grace_s"] == 7.0


async def test_a_dead_collector_does_not_change_the_end(tmp_path: Path) -> None:
    with dead_port() as port:
        endpoint = f"http://127.0.0.1:{port}"
        async with _running("{}", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
            started = await process.line("started")
            async with _channel(started) as channel:
                await begin_call(channel, "unary_unary", b"hello")
            process.signal()
            stopped = time.monotonic()
            code, _err = await process.end()

    assert code == 0
    assert time.monotonic() - stopped < PROMPT_S


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("option", ["grpc_port", "ops_port"])
async def test_a_taken_port_ends_with_code_1_and_the_address(tmp_path: Path, option: str, taken_port: int) -> None:
    async with _running(f"{{{option}: {taken_port}}}", tmp_path) as process:
        code, _err = await process.end()

    assert code == 1
    (line,) = [line for line in process.lines if line["event"] == "start_failed"]
    assert line["level"] == "error"
    assert f"127.0.0.1:{taken_port}" in line["error"]
    assert "started" not in process.events


@pytest.mark.parametrize("exit_code", [1, 2])
async def test_a_service_that_refuses_to_start_ends_with_its_code_and_reason(tmp_path: Path, exit_code: int) -> None:
    async with _running(f"{{refuses: the store is locked, exit_code: {exit_code}}}", tmp_path) as process:
        assert await process.end() == (exit_code, "")

    assert [(line["event"], line["error"]) for line in process.lines] == [("start_failed", "the store is locked")]


async def test_wrong_settings_end_with_code_2_and_all_mistakes(tmp_path: Path) -> None:
    config = _config(f"{{grpc_prt: {SECRET}, log_level: {SECRET}, key: '${{UNSET}}'}}\nfromatter: {{}}", tmp_path)

    code, out, err = await _ended("--config", str(config), PARLEY_TINY_OPS_PORT="tcp://10.0.0.1:9082")

    assert (code, out) == (2, "")
    assert err == (
        "5 mistakes in the settings:\n"
        "  formatter.grpc_prt: unknown option; did you mean grpc_port?\n"
        "  formatter.key: the environment variable UNSET is not set; set it or write ${UNSET:-default}\n"
        "  formatter.log_level: must match the pattern ^(debug|info|warning|error)$\n"
        "  formatter.ops_port: must be a valid integer, unable to parse string as an integer"
        " (set by PARLEY_TINY_OPS_PORT)\n"
        "  fromatter: unknown section; did you mean formatter?\n"
    )


async def test_check_says_whether_the_settings_are_valid(tmp_path: Path) -> None:
    right = _config("{grpc_port: 1}", tmp_path)
    assert await _ended("--check", PARLEY_CONFIG=str(right)) == (
        0,
        f"The settings are valid (read from {right}).\n",
        "",
    )

    code, out, err = await _ended("--check", "--config", str(_config("{grpc_port: -1}", tmp_path)))
    assert (code, out) == (2, "")
    assert err.startswith("1 mistake in the settings:\n  formatter.grpc_port: must be greater than or equal to 0")


async def test_schema_prints_the_schema_whatever_the_settings(tmp_path: Path) -> None:
    code, out, err = await _ended("--schema", "--config", str(_config("{nonsense: 1}", tmp_path)))

    assert (code, err) == (0, "")
    schema = json.loads(out)
    assert schema["additionalProperties"] is False
    assert {"host", "log_level", "shutdown", "grpc_port"} <= schema["properties"].keys()


async def test_version() -> None:
    assert await _ended("--version") == (0, "tiny 1.2.3\n", "")
