"""What client and server record of a call, for every kind of call and every way to end it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import grpc
import grpc.aio
import pytest
from opentelemetry.trace import SpanKind, StatusCode
from parley_common.errors import error_from_rpc
from parley_common.grpc_client import cancelling

from tests.common.echo import METHODS, SECRET_PLAN, SERVICE, World, eventually, responses_of, stub, until_stuck

KINDS = list(METHODS)
STREAMED = [kind for kind in KINDS if kind.endswith("stream")]
PROMPT_S = 1.0
"""Ten times what a cancellation may take from the client to the handler."""


async def _refused(world: World, kind: str, what: bytes, code: grpc.StatusCode, **options: float) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await responses_of(world.call(kind, what, **options), kind)
    assert caught.value.code() is code


async def _ok(world: World, kind: str) -> None:
    expected = [b"first", b"hello"] if kind.endswith("stream") else [b"hello"]
    assert await responses_of(world.call(kind, b"hello"), kind) == expected


async def _error(world: World, kind: str) -> None:
    await _refused(world, kind, b"error", grpc.StatusCode.RESOURCE_EXHAUSTED)


async def _abort(world: World, kind: str) -> None:
    await _refused(world, kind, b"abort", grpc.StatusCode.NOT_FOUND)


async def _bug(world: World, kind: str) -> None:
    await _refused(world, kind, b"bug", grpc.StatusCode.INTERNAL)


async def _own_cancel(world: World, kind: str) -> None:
    await _refused(world, kind, b"own cancel", grpc.StatusCode.INTERNAL)


async def _deadline(world: World, kind: str) -> None:
    await _refused(world, kind, b"wait", grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.2)


async def _task_cancelled(world: World, kind: str) -> None:
    task = asyncio.create_task(responses_of(world.call(kind, b"wait"), kind))
    await world.echo.waiting.wait()
    left_at = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _handler_ended(world, left_at)


async def _call_cancelled(world: World, kind: str) -> None:
    call = world.call(kind, b"wait")
    task = asyncio.create_task(responses_of(call, kind))
    await world.echo.waiting.wait()
    left_at = time.monotonic()
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _handler_ended(world, left_at)


async def _left(world: World, kind: str) -> None:
    async with cancelling(world.call(kind, b"wait")) as call:
        if kind.endswith("stream"):
            async for response in call:
                assert response == b"first"
                break
        await world.echo.waiting.wait()
        left_at = time.monotonic()
    await _handler_ended(world, left_at)


async def _handler_ended(world: World, left_at: float) -> None:
    async with asyncio.timeout(5):
        await world.echo.ended.wait()
    assert world.echo.ended_at - left_at < PROMPT_S


ENDINGS: dict[str, tuple[Callable[[World, str], Awaitable[None]], str, bool]] = {
    # How the call ends: its code on both sides, and whether that is the server's fault.
    "ok": (_ok, "OK", False),
    "error": (_error, "RESOURCE_EXHAUSTED", False),
    "abort": (_abort, "NOT_FOUND", False),
    "bug": (_bug, "INTERNAL", True),
    "own_cancel": (_own_cancel, "INTERNAL", True),
    "deadline": (_deadline, "DEADLINE_EXCEEDED", True),
    "task_cancelled": (_task_cancelled, "CANCELLED", False),
    "call_cancelled": (_call_cancelled, "CANCELLED", False),
    "left": (_left, "CANCELLED", False),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("kind", KINDS)
async def test_every_call_is_recorded_once_on_both_sides(world: World, kind: str, ending: str) -> None:
    end, code, fault = ENDINGS[ending]

    await end(world, kind)
    await eventually(lambda: world.spans(SpanKind.SERVER) and world.spans(SpanKind.CLIENT))

    (client,), (server,) = world.spans(SpanKind.CLIENT), world.spans(SpanKind.SERVER)
    for span in (client, server):
        assert span.name == f"{SERVICE}/{METHODS[kind]}"
        assert span.attributes is not None
        assert span.attributes["rpc.status_code"] == code
        assert span.attributes["rpc.method"] == f"{SERVICE}/{METHODS[kind]}"
    assert client.status.status_code is (StatusCode.UNSET if code == "OK" else StatusCode.ERROR)
    assert server.status.status_code is (StatusCode.ERROR if fault else StatusCode.UNSET)
    assert client.context is not None
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert server.parent.trace_id == client.context.trace_id == world.echo.trace_id

    assert world.counted(world.server_metrics, "grpc_server_started_total") == {"": 1}
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {code: 1}
    assert world.counted(world.server_metrics, "grpc_server_handling_seconds_count") == {"": 1}
    assert world.counted(world.client_metrics, "grpc_client_handled_total") == {code: 1}
    assert world.counted(world.client_metrics, "grpc_client_handling_seconds_count") == {"": 1}
    labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": METHODS[kind], "grpc_code": code}
    assert world.server_metrics.registry.get_sample_value("grpc_server_handled_total", labels) == 1
    assert world.client_metrics.registry.get_sample_value("grpc_client_handled_total", labels) == 1
    assert world.counted(world.server_metrics, "parley_inflight_requests") == {"": 0}
    assert world.echo.ended.is_set()


@pytest.mark.parametrize("ending", ["task_cancelled", "call_cancelled", "left"])
async def test_a_handler_stuck_in_a_write_ends_with_the_call(world: World, ending: str) -> None:
    call = world.call("unary_stream", b"flood")
    iterator = call.__aiter__()
    assert await anext(iterator) == b"first"
    await until_stuck(world.echo)

    left_at = time.monotonic()
    if ending == "task_cancelled":
        reader = asyncio.create_task(_drain(iterator))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    elif ending == "call_cancelled":
        call.cancel()
    else:
        async with cancelling(call):
            pass
    await _handler_ended(world, left_at)

    await eventually(lambda: world.spans(SpanKind.SERVER))
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {"CANCELLED": 1}
    assert world.counted(world.server_metrics, "parley_inflight_requests") == {"": 0}


async def _drain(iterator: AsyncGenerator[bytes, None]) -> None:
    async for _response in iterator:
        pass


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_cancelled_upload_does_not_look_complete(world: World, kind: str) -> None:
    async def half() -> AsyncGenerator[bytes, None]:
        yield b"half"
        sent.set()
        await asyncio.sleep(30)

    sent = asyncio.Event()
    call = stub(world.channel, kind)(half())
    await sent.wait()
    await world.echo.began.wait()
    await asyncio.sleep(0.05)  # Until the handler waits for the other half.

    left_at = time.monotonic()
    call.cancel()
    await _handler_ended(world, left_at)

    assert not world.echo.completed.is_set()
    await eventually(lambda: world.spans(SpanKind.SERVER))
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {"CANCELLED": 1}


async def test_many_calls_at_a_time_end_each_in_its_own_way(world: World) -> None:
    kinds_and_endings = [(kind, what) for kind in KINDS for what in (b"hello", b"error", b"bug")] * 5
    calls = [responses_of(world.call(kind, what), kind) for kind, what in kinds_and_endings]

    results = await asyncio.gather(*calls, return_exceptions=True)

    for (_, what), result in zip(kinds_and_endings, results, strict=True):
        assert isinstance(result, list) == (what == b"hello"), (what, result)
    await eventually(lambda: len(world.spans(SpanKind.SERVER)) == len(calls) == len(world.spans(SpanKind.CLIENT)))
    parents = {span.parent.span_id for span in world.spans(SpanKind.SERVER) if span.parent}
    assert parents == {span.context.span_id for span in world.spans(SpanKind.CLIENT) if span.context}
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {
        "OK": 20,
        "RESOURCE_EXHAUSTED": 20,
        "INTERNAL": 20,
    }
    assert world.counted(world.server_metrics, "parley_inflight_requests") == {"": 0}


async def test_a_handler_may_write_for_itself(world: World) -> None:
    call = stub(world.channel, "unary_stream", "Write")(b"hello")

    assert [response async for response in call] == [b"first", b"hello"]
    await eventually(lambda: world.spans(SpanKind.SERVER))
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {"OK": 1}


async def test_a_code_that_the_handler_sets_is_recorded(world: World) -> None:
    await _refused(world, "unary_unary", b"code", grpc.StatusCode.ALREADY_EXISTS)

    await eventually(lambda: world.spans(SpanKind.SERVER))
    assert world.counted(world.server_metrics, "grpc_server_handled_total") == {"ALREADY_EXISTS": 1}


async def test_an_unreachable_server_is_recorded_by_the_client(world: World) -> None:
    await world.server.stop(0)

    await _refused(world, "unary_unary", b"hello", grpc.StatusCode.UNAVAILABLE)

    assert world.counted(world.client_metrics, "grpc_client_handled_total") == {"UNAVAILABLE": 1}
    assert len(world.spans(SpanKind.CLIENT)) == 1


async def test_a_closed_channel_is_no_cancellation(world: World) -> None:
    await world.channel.close()

    with pytest.raises(grpc.aio.UsageError):
        await responses_of(world.call("unary_unary", b"hello"), "unary_unary")

    assert world.counted(world.client_metrics, "grpc_client_handled_total") == {"UNKNOWN": 1}
    assert len(world.spans(SpanKind.CLIENT)) == 1


async def test_methods_nobody_has_are_not_counted(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(world.channel, "unary_unary", "Nothing")(b"hello")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert world.counted(world.server_metrics, "grpc_server_started_total") == {}


async def test_the_request_id_of_the_caller_is_bound_to_the_logs(world: World) -> None:
    await world.call("unary_unary", b"hello", metadata=(("x-request-id", "order-17"),))

    assert world.echo.request_id == "order-17"
    (span,) = world.spans(SpanKind.SERVER)
    assert span.attributes is not None
    assert span.attributes["parley.request_id"] == "order-17"


async def test_a_call_without_a_request_id_gets_one_of_its_own(world: World) -> None:
    await world.call("unary_unary", b"hello")
    first = world.echo.request_id
    await world.call("unary_unary", b"hello")

    assert first
    assert world.echo.request_id
    assert first != world.echo.request_id


async def test_a_hostile_request_id_is_cut(world: World) -> None:
    await world.call("unary_unary", b"hello", metadata=(("x-request-id", "x" * 4000),))

    assert world.echo.request_id == "x" * 64


async def test_a_trace_from_outside_is_continued_with_its_state(world: World) -> None:
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    metadata = (("traceparent", f"00-{trace_id}-{parent_id}-01"), ("tracestate", "vendor=abc"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}", [("grpc.enable_http_proxy", 0)]) as plain:
        await stub(plain, "unary_unary")(b"hello", metadata=metadata)

    (span,) = world.spans(SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == trace_id
    assert f"{span.parent.span_id:016x}" == parent_id
    assert span.context is not None
    assert span.context.trace_state.get("vendor") == "abc"


async def test_a_broken_traceparent_begins_a_new_trace(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}", [("grpc.enable_http_proxy", 0)]) as plain:
        await stub(plain, "unary_unary")(b"hello", metadata=(("traceparent", "00-zz-zz-01"),))

    (span,) = world.spans(SpanKind.SERVER)
    assert span.parent is None


@pytest.mark.parametrize("kind", KINDS)
async def test_the_text_of_a_bug_reaches_neither_the_client_nor_the_span(
    world: World, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await responses_of(world.call(kind, b"bug", metadata=(("x-request-id", "order-18"),)), kind)

    remote = error_from_rpc(caught.value)
    assert remote.message == "internal error, request order-18"
    assert (remote.reason, remote.retryable) == ("INTERNAL", False)
    everything = f"{caught.value!r} {caught.value.trailing_metadata()}"
    assert SECRET_PLAN not in everything
    await eventually(lambda: world.spans(SpanKind.SERVER))
    (span,) = world.spans(SpanKind.SERVER)
    assert [event.name for event in span.events] == ["exception"]
    assert SECRET_PLAN not in span.to_json()
    # The log is where the operator finds it.
    assert SECRET_PLAN in capsys.readouterr().out
