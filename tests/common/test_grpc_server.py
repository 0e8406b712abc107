"""Limits of server and channel, health, reflection, and the orderly stop."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.trace import SpanKind
from parley_common.calls_in_work import CallsInWork
from parley_common.errors import DrainingError, error_from_rpc
from parley_common.grpc_client import cancelling, create_channel
from parley_common.grpc_server import MAX_MESSAGE_BYTES, bind_port
from parley_common.http_server import BindError

from tests.common.echo import SERVICE, World, eventually, responses_of, serving, stub, until_stuck

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROMPT_S = 10.0
"""Far below the grace that a stop is given in these tests, far above what a stop with nothing to wait for takes."""


@asynccontextmanager
async def _plain_channel(world: World) -> AsyncGenerator[grpc.aio.Channel, None]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


async def _check(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


@pytest.mark.parametrize("service", ["", "liveness", SERVICE])
async def test_health_can_be_checked(world: World, service: str) -> None:
    async with _plain_channel(world) as channel:
        assert await _check(channel, service) == SERVING


async def test_health_of_an_unknown_service_is_not_found(world: World) -> None:
    async with _plain_channel(world) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _check(channel, "nobody")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_watch_sees_the_drain(world: World, service: str) -> None:
    async with _plain_channel(world) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with cancelling(stub.Watch(health_pb2.HealthCheckRequest(service=service))) as watch:
            assert (await watch.read()).status == SERVING
            await world.health.drain()
            assert (await watch.read()).status == NOT_SERVING


async def test_draining_is_not_ready_but_alive_and_still_serves(world: World) -> None:
    await world.health.drain()

    async with _plain_channel(world) as channel:
        assert await _check(channel, "") == NOT_SERVING
        assert await _check(channel, SERVICE) == NOT_SERVING
        assert await _check(channel, "liveness") == SERVING
    assert await world.call("unary_unary", b"hello") == b"hello"
    assert world.counted(world.server_metrics, "parley_draining") == {"": 1}


async def test_reflection_lists_the_services(world: World) -> None:
    async def ask() -> AsyncGenerator[Any, None]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with _plain_channel(world) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = [answer async for answer in stub.ServerReflectionInfo(ask())]

    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_health_and_reflection_are_not_traced(world: World) -> None:
    async with _plain_channel(world) as channel:
        await _check(channel, "")
    await world.call("unary_unary", b"hello")

    assert [span.name for span in world.spans(SpanKind.SERVER)] == [f"{SERVICE}/Unary"]
    assert world.counted(world.server_metrics, "grpc_server_started_total") == {"": 1}


async def test_messages_of_many_megabytes_pass_both_ways(world: World) -> None:
    big = bytes(MAX_MESSAGE_BYTES - 1024)

    assert len(await world.call("unary_unary", big)) == len(big)


async def test_larger_messages_are_refused(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call("unary_unary", bytes(MAX_MESSAGE_BYTES + 1))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_proxy_variable_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: connecting is refused.
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("no_grpc_proxy", raising=False)
        async with serving() as world:
            assert await world.call("unary_unary", b"hello", timeout=10) == b"hello"
            # The variables do reach a channel that asks for them: without our option this call would have failed.
            async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as proxied:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub(proxied, "unary_unary")(b"hello", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_full_server_refuses_calls_and_still_answers_probes() -> None:
    async with serving(max_concurrent=1) as world:
        waiting = world.call("unary_stream", b"wait")
        async with cancelling(waiting):
            assert await waiting.read() == b"first"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await world.call("unary_unary", b"hello")
            async with _plain_channel(world) as channel:
                assert await _check(channel, "liveness") == SERVING

        remote = error_from_rpc(caught.value)
        assert (remote.code, remote.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert (remote.retryable, remote.retry_after_s) == (True, 1.0)
        await eventually(lambda: world.counted(world.server_metrics, "parley_inflight_requests") == {"": 0})
        assert await world.call("unary_unary", b"hello") == b"hello"


async def test_a_stop_lets_calls_finish_within_the_grace(world: World) -> None:
    async def slowly() -> AsyncGenerator[bytes, None]:
        yield b"one"
        await release.wait()
        yield b"two"

    release = asyncio.Event()
    call = stub(world.channel, "stream_unary")(slowly())
    answer = asyncio.create_task(_awaited(call))
    await world.echo.began.wait()
    stopping = asyncio.create_task(world.server.stop(30))
    await asyncio.sleep(0.05)

    assert not stopping.done()
    release.set()
    assert await answer == b"one+two"
    await asyncio.wait_for(stopping, PROMPT_S)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_calls_that_outlast_the_grace_end_with_a_hint(world: World, kind: str) -> None:
    answer = asyncio.create_task(responses_of(world.call(kind, b"wait"), kind))
    await world.echo.began.wait()

    await world.server.stop(0.1)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    remote = error_from_rpc(caught.value)
    # Not DRAINING: the call had begun, so that repeating it may not be free.
    assert (remote.code, remote.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPED")
    assert remote.retryable
    assert world.echo.ended.is_set()
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {"UNAVAILABLE": 1}


async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(world: World) -> None:
    call = world.call("unary_stream", b"flood")
    async with cancelling(call):
        assert await call.read() == b"first"
        await until_stuck(world.echo)

        await asyncio.wait_for(world.server.stop(0.1), PROMPT_S)

        await eventually(world.echo.ended.is_set)


async def test_a_second_stop_takes_the_grace_away(world: World) -> None:
    answer = asyncio.create_task(responses_of(world.call("unary_stream", b"wait"), "unary_stream"))
    await world.echo.began.wait()
    began = time.monotonic()
    first = asyncio.create_task(world.server.stop(50))
    await asyncio.sleep(0.05)

    await world.server.stop(0)
    await first

    assert time.monotonic() - began < PROMPT_S
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    assert error_from_rpc(caught.value).reason == "SERVER_STOPPED"


async def test_a_health_watch_does_not_hold_up_the_stop(world: World) -> None:
    async with _plain_channel(world) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == SERVING

        await asyncio.wait_for(world.server.stop(50), PROMPT_S)

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_arrives_while_stopping_is_refused_untried() -> None:
    calls = CallsInWork(10)
    calls.refuse()

    with pytest.raises(DrainingError) as caught, calls.call():
        pytest.fail("the call began")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    with pytest.raises(DrainingError), calls.watch():
        pytest.fail("the watch began")


async def test_a_retried_method_outlives_a_replica(world: World) -> None:
    async with serving() as other:
        # Two replicas behind one name; the calls go round.
        target = f"ipv4:127.0.0.1:{world.port},127.0.0.1:{other.port}"
        channel = create_channel(target, world.client_metrics, world.tracer, retried=[(SERVICE, "Unary")])
        async with channel:
            for _ in range(4):
                await stub(channel, "unary_unary")(b"hello")
            served = [_started(replica) for replica in (world, other)]
            await world.server.stop(0)
            for _ in range(20):
                assert await stub(channel, "unary_unary")(b"hello", timeout=10) == b"hello"

    assert all(served)


def _started(world: World) -> float:
    return sum(world.counted(world.server_metrics, "grpc_server_started_total").values())


async def _awaited(call: Any) -> Any:
    return await call


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


async def test_a_taken_port_is_named(world: World, taken_port: int) -> None:
    with pytest.raises(BindError, match=f"127.0.0.1:{taken_port}"):
        bind_port(world.server, "127.0.0.1", taken_port)


async def test_a_foreign_address_is_named(world: World) -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:4"):
        bind_port(world.server, "192.0.2.1", 4)
