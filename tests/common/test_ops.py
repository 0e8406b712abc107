"""The ops port and what health says, with checks that refuse, fail and hang."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import httpx2
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from parley_common.http_server import HTTPServer
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health, create_ops_app
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.common.echo import eventually

SERVICE = "parley.test.v1.EchoService"


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("test", "1.2.3", revision="abc1234")


@pytest.fixture
def health(metrics: ServiceMetrics) -> Health:
    return Health(metrics, (SERVICE,), heartbeat_s=0.01, dead_after_s=0.4, check_limit_s=1.0)


@pytest_asyncio.fixture
async def client(health: Health, metrics: ServiceMetrics) -> AsyncGenerator[httpx2.AsyncClient, None]:
    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    server = HTTPServer(create_ops_app(health, metrics.registry, (Route("/own", hello),)), "127.0.0.1", 0, grace_s=1)
    await server.start()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client
    await server.stop()


@pytest_asyncio.fixture
async def beating(health: Health) -> AsyncGenerator[None, None]:
    beat = asyncio.create_task(health.run())
    yield
    beat.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beat


async def _grpc_status(health: Health, service: str = "") -> int:
    return int((await health.servicer.Check(health_pb2.HealthCheckRequest(service=service), None)).status)


async def test_ready_only_between_start_and_drain(client: httpx2.AsyncClient, health: Health, beating: None) -> None:
    before = await client.get("/readyz")
    await health.started()
    between = await client.get("/readyz")
    await health.drain()
    after = await client.get("/readyz")

    assert (before.status_code, before.json()) == (503, {"ready": False, "reasons": ["starting"]})
    assert (between.status_code, between.json()) == (200, {"ready": True, "reasons": []})
    assert (after.status_code, after.json()) == (503, {"ready": False, "reasons": ["draining"]})
    assert (await client.get("/livez")).status_code == 200


async def test_a_check_makes_unready_and_grpc_health_follows(
    client: httpx2.AsyncClient, health: Health, beating: None
) -> None:
    trouble: str | None = "the store is away"

    async def check() -> str | None:
        return trouble

    health.add_check(check)
    await health.started()

    assert (await client.get("/readyz")).json()["reasons"] == ["the store is away"]
    assert await _grpc_status(health) == health_pb2.HealthCheckResponse.NOT_SERVING

    trouble = None
    async with asyncio.timeout(5):
        while await _grpc_status(health) != health_pb2.HealthCheckResponse.SERVING:
            await asyncio.sleep(0.01)
    assert await _grpc_status(health, SERVICE) == health_pb2.HealthCheckResponse.SERVING
    assert (await client.get("/readyz")).status_code == 200


async def test_notes_are_told_and_leave_the_service_ready(client: httpx2.AsyncClient, health: Health) -> None:
    notes = ["team: not connected"]
    health.add_notes(lambda: list(notes))
    await health.started()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": [], "notes": notes})
    notes.clear()
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}


async def test_a_check_that_fails_is_a_reason_without_its_text(
    client: httpx2.AsyncClient, health: Health, capsys: pytest.CaptureFixture[str]
) -> None:
    async def check() -> str | None:
        raise ConnectionError("redis://:hunter2@store")

    health.add_check(check)
    await health.started()
    answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["a check failed: ConnectionError"]
    assert "check_failed" in capsys.readouterr().out


async def test_a_check_that_hangs_makes_unready_but_not_dead(
    client: httpx2.AsyncClient, health: Health, beating: None
) -> None:
    async def check() -> str | None:
        await asyncio.sleep(60)
        return None

    health.add_check(check)
    await health.started()
    await asyncio.sleep(0.6)  # Longer than a silent beat may last, shorter than the check's limit.

    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).json()["reasons"] == ["a check did not answer in time"]


async def test_a_loop_that_does_not_turn_is_dead(client: httpx2.AsyncClient, health: Health) -> None:
    # Without the heartbeat's task nothing shows that the loop turns.
    await asyncio.sleep(0.5)

    answer = await client.get("/livez")

    assert (answer.status_code, answer.text) == (503, "stuck\n")


async def test_before_the_start_grpc_health_refuses(health: Health, beating: None) -> None:
    await asyncio.sleep(0.01)

    assert await _grpc_status(health) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_check_in_work_when_the_drain_begins_changes_nothing(health: Health) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def check() -> str | None:
        asked.set()
        await answer.wait()
        return None

    health.add_check(check)
    starting = asyncio.create_task(health.started())
    await asked.wait()
    await health.drain()
    answer.set()
    await starting

    assert await _grpc_status(health) == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_actions_of_the_drain_run_when_it_begins(health: Health) -> None:
    seen: list[bool] = []

    async def action() -> None:
        seen.append(health.draining)

    async def broken() -> None:
        raise ConnectionError

    health.on_drain(broken)  # Must not keep the others from running, nor the process from stopping.
    health.on_drain(action)
    await health.started()
    assert seen == []
    await health.drain()

    assert seen == [True]


async def test_the_loops_lag_is_measured(health: Health, metrics: ServiceMetrics, beating: None) -> None:
    count = "parley_event_loop_lag_seconds_count"
    await eventually(lambda: metrics.registry.get_sample_value(count))


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=0.0.4", "\n"),
        ("text/plain", "text/plain; version=0.0.4", "\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0", "# EOF\n"),
    ],
)
async def test_metrics_come_in_the_format_asked_for(
    client: httpx2.AsyncClient, accept: str, content_type: str, end: str
) -> None:
    answer = await client.get("/metrics", headers={"accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.text.endswith(end)
    assert "parley_build_info" in answer.text


async def test_the_common_metrics_are_there_from_the_start(client: httpx2.AsyncClient) -> None:
    families = {family.name: family for family in text_string_to_metric_families((await client.get("/metrics")).text)}

    assert {
        "parley_build_info",
        "grpc_server_started",
        "grpc_server_handled",
        "grpc_server_handling_seconds",
        "grpc_client_handled",
        "grpc_client_handling_seconds",
        "parley_inflight_requests",
        "parley_draining",
        "parley_event_loop_lag_seconds",
        "parley_dependency_up",
        "process_cpu_seconds",
    } <= families.keys()
    (build,) = families["parley_build_info"].samples
    assert build.labels.keys() == {"service", "version", "revision", "python"}
    assert (build.labels["service"], build.labels["version"], build.labels["revision"]) == ("test", "1.2.3", "abc1234")


async def test_a_service_adds_its_own_routes(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/own")).text == "hello"
