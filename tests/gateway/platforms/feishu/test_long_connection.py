"""The long connection against the simulator's: real WebSockets on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from parley_gateway.errors import WebhookError
from parley_gateway.platforms.base import Ignored, Messages, RawRequest, RawResponse
from parley_gateway.platforms.feishu import long_connection, long_connection_endpoint
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.simulators.feishu.frames import CONTROL, DATA, WireFrame, write_frame
from parley_gateway.simulators.feishu.long_connection import ConnectionRules
from parley_gateway.simulators.feishu.pusher import Timings
from structlog.testing import capture_logs

from tests.e2e.waiting import eventually
from tests.gateway.platforms.feishu.conftest import Calls, Clock, fixture_event
from tests.gateway.platforms.feishu.connected_bots import EVENT, Sink, World, open_world


@pytest.fixture
async def world(
    cloud: FeishuCloud, clock: Clock, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(long_connection_endpoint, "SHORTEST_WAIT_S", 0.02)
    async with open_world(cloud, clock, calls) as world:
        yield world


async def test_event_is_read_as_a_webhooks_and_answered_with_200(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        delivery = await world.feishu.deliver(EVENT)
        assert [step.status for step in delivery.steps] == [200]
        assert delivery.steps[0].body == b""
        (handled,) = bot.sink.handled
        assert isinstance(handled, Messages)
        assert handled.messages[0].message_id == EVENT["event"]["message"]["message_id"]
    assert bot.sink.up == [False, True, False]
    assert {("endpoint", "ok", ""), ("connect", "ok", "")} <= set(world.calls.seen)


async def test_what_is_not_stored_is_delivered_again(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        bot.sink.answer = RawResponse(503, b"busy")

        def back(_step: object) -> None:
            if bot.sink.begun == 2:
                bot.sink.answer = RawResponse(200, b"{}")

        delivery = await world.feishu.deliver(EVENT, on_step=back)
    assert [step.status for step in delivery.steps] == [500, 500, 200]


async def test_answer_waits_until_the_event_is_taken(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        bot.sink.hold = asyncio.Event()
        delivering = asyncio.create_task(world.feishu.deliver(EVENT))
        await eventually(lambda: bot.sink.begun)
        assert not delivering.done()
        bot.sink.hold.set()
        assert [step.status for step in (await delivering).steps] == [200]


async def test_card_action_gets_its_answer_back(world: World) -> None:
    toast = json.dumps({"toast": {"type": "info", "content": "已停止"}}).encode()
    action = fixture_event("message__text_single")
    action["header"]["event_type"] = "card.action.trigger"
    async with world.bot() as bot:
        await world.connected()
        bot.sink.answer = RawResponse(200, toast)
        (step,) = (await world.feishu.deliver(action)).steps
    assert (step.status, step.body) == (200, toast)
    assert step.duration_s < 3


async def test_event_that_takes_too_long_is_not_acknowledged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_connection, "ACK_S", 0.05)
    async with world.bot() as bot:
        await world.connected()
        bot.sink.hold = asyncio.Event()
        delivery = await world.feishu.deliver(EVENT)
    assert [step.status for step in delivery.steps] == [500] * 5


async def test_event_nobody_foresaw_ends_neither_the_connection_nor_the_next_event(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        bot.sink.error = RuntimeError("a bug")
        with capture_logs() as logs:
            assert not (await world.feishu.deliver(EVENT)).acknowledged
        bot.sink.error = None
        assert (await world.feishu.deliver(EVENT)).acknowledged
        assert bot.sink.up == [False, True]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["event_failed"] * 5


@pytest.mark.parametrize("payload", [b"no json", b"[1]", b'{"header": 1}', b"\xff"])
async def test_malformed_event_is_refused(world: World, payload: bytes) -> None:
    async with world.bot() as bot:
        await world.connected()
        connection = world.feishu.connections[0]
        headers = {"type": "event", "message_id": "m", "sum": "1", "seq": "0"}
        answered = connection.answers["m"] = asyncio.get_running_loop().create_future()
        await connection.socket.send_bytes(write_frame(WireFrame(connection.service_id, DATA, headers, payload)))
        async with asyncio.timeout(10):
            assert (await answered)["code"] == 500
        assert len(bot.sink.refused) == 1


async def test_unreadable_frames_are_passed_over(world: World) -> None:
    async with world.bot():
        await world.connected()
        socket = world.feishu.connections[0].socket
        with capture_logs() as logs:
            await socket.send_bytes(b"\xff\xff")
            await socket.send_text("text")
            await socket.send_bytes(write_frame(WireFrame(1, CONTROL, {"type": "pong"}, b"no json")))
            assert (await world.feishu.deliver(EVENT)).acknowledged
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["frame_unreadable"] * 2


async def test_event_in_several_frames_is_joined(world: World) -> None:
    world.feishu.rules = ConnectionRules(reconnect_nonce=0, part_bytes=100)
    async with world.bot() as bot:
        await world.connected()
        assert (await world.feishu.deliver(EVENT)).acknowledged
        (handled,) = bot.sink.handled
        assert isinstance(handled, Messages)
        assert len(json.dumps(EVENT)) > 300


async def test_pings_come_as_often_as_the_last_answer_to_one_says(world: World) -> None:
    world.feishu.rules = ConnectionRules(ping_interval=0.05)
    async with world.bot():
        await world.connected()
        connection = world.feishu.connections[0]
        await eventually(lambda: connection.pings >= 4)
        world.feishu.rules = ConnectionRules(ping_interval=30)
        # One more ping gets the new interval as its answer; one that is on its way already may be sent besides.
        before = connection.pings
        await eventually(lambda: connection.pings > before)
        await asyncio.sleep(0.5)
        assert connection.pings <= before + 2


async def test_no_more_events_are_begun_than_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_connection, "MAX_IN_HAND", 2)
    async with world.bot() as bot:
        await world.connected()
        bot.sink.hold = asyncio.Event()
        delivering = [asyncio.create_task(world.feishu.deliver(EVENT)) for _ in range(5)]
        await eventually(lambda: bot.sink.begun == 2)
        await asyncio.sleep(0.1)
        assert bot.sink.begun == 2
        bot.sink.hold.set()
        assert all([(await each).acknowledged for each in delivering])
        assert bot.sink.begun == 5


async def test_bot_connects_again_after_a_cut(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        await world.feishu.cut()
        await eventually(lambda: bot.sink.up == [False, True, False, True])
        await world.connected()
        assert (await world.feishu.deliver(EVENT)).acknowledged
        assert world.cloud.calls["endpoint"] == 2


async def test_event_cut_off_before_its_answer_comes_again_over_the_next_connection(world: World) -> None:
    world.feishu.timings = Timings(retry_after_s=(0.3,) * 4)
    async with world.bot() as bot:
        await world.connected()
        bot.sink.hold = asyncio.Event()
        delivering = asyncio.create_task(world.feishu.deliver(EVENT))
        await eventually(lambda: bot.sink.begun)
        await world.feishu.cut()
        bot.sink.hold.set()
        delivery = await delivering
        assert bot.sink.begun == 2
    assert [step.problem for step in delivery.steps] == ["the connection broke", ""]
    assert delivery.acknowledged


async def test_refused_endpoint_is_tried_again_and_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_connection_endpoint, "LONGEST_WAIT_S", 0.05)
    world.cloud.fail_next("endpoint", APIError(1, "system busy", 200))
    world.cloud.fail_next("endpoint", APIError(2200, "internal error", 500))
    with capture_logs() as logs:
        async with world.bot():
            await world.connected()
    failures = [entry for entry in logs if entry["event"] == "not_connected"]
    assert [entry["failures"] for entry in failures] == [1, 2]
    assert all((entry["platform"], entry["bot"]) == ("feishu", "team") for entry in failures)


async def test_connection_too_many_says_so(world: World) -> None:
    world.feishu.rules = ConnectionRules(reconnect_nonce=0, reconnect_interval=0.02, max_connections=1)
    with capture_logs() as logs:
        async with world.bot(), world.bot():
            await eventually(lambda: world.cloud.calls["endpoint"] >= 3)
            assert len(world.feishu.connections) == 1
    error = next(entry["error"] for entry in logs if entry["event"] == "not_connected")
    assert "run fewer replicas" in error
    assert ("connect", "error", "refused") in world.calls.seen


async def test_events_are_shared_among_connections(world: World) -> None:
    async with world.bot() as one, world.bot() as other:
        await world.connected(2)
        await asyncio.gather(*(world.feishu.deliver(EVENT) for _ in range(40)))
        assert one.sink.begun + other.sink.begun == 40
        assert one.sink.begun
        assert other.sink.begun


async def test_stop_answers_what_is_in_hand_and_takes_no_more(world: World) -> None:
    async with world.bot() as bot:
        await world.connected()
        bot.sink.hold = asyncio.Event()
        first = asyncio.create_task(world.feishu.deliver(EVENT))
        await eventually(lambda: bot.sink.begun == 1)
        bot.stop.set()
        await asyncio.sleep(0.05)
        world.feishu.timings = Timings(ack_s=0.2, retry_after_s=())
        second = await world.feishu.deliver(EVENT)
        bot.sink.hold.set()
        assert (await first).acknowledged
        assert second.steps[0].problem == "no answer within 0.2 s"
        await bot.end()
        assert bot.sink.begun == 1
        assert bot.sink.up[-1] is False
    await eventually(lambda: world.feishu.closed_with == [1000])


async def test_stop_ends_even_a_try_to_connect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with world.bot(base_url=f"http://127.0.0.1:{port}") as bot:
        await eventually(lambda: held)
        began = asyncio.get_running_loop().time()
        await bot.end()
        assert asyncio.get_running_loop().time() - began < 5
    for writer in held:
        writer.close()
    server.close()
    await server.wait_closed()


async def test_bot_with_a_long_connection_takes_no_webhooks(world: World) -> None:
    async with world.bot() as bot:
        with pytest.raises(WebhookError, match="takes no webhooks"):
            await bot.platform.handle(RawRequest("POST", {}, {}, b'{"type": "url_verification", "challenge": "c"}'))


async def test_bot_with_a_webhook_runs_no_connection(platform: FeishuPlatform) -> None:
    sink = Sink()
    async with asyncio.timeout(5):
        await platform.run(asyncio.Event(), sink)
    assert sink.up == []


async def test_other_events_are_acknowledged_and_ignored(world: World) -> None:
    event = fixture_event("message__text_single")
    event["header"]["event_type"] = "im.chat.updated_v1"
    async with world.bot() as bot:
        await world.connected()
        assert (await world.feishu.deliver(event)).acknowledged
        assert isinstance(bot.sink.handled[0], Ignored)
