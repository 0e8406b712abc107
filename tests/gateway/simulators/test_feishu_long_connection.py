"""The simulated Feishu is strict: a client that gets the long connection wrong is cut off and told on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.frames import CONTROL, DATA, WireFrame, read_frame, write_frame
from parley_gateway.simulators.feishu.long_connection import ConnectionRules, LongConnections
from parley_gateway.simulators.feishu.pusher import Timings
from parley_gateway.simulators.server import create_app, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.waiting import eventually

EVENT = {"schema": "2.0", "header": {"event_type": "x"}, "event": {}}


class Client:
    """Feishu's API as a client sees it."""

    def __init__(self, feishu: LongConnections, address: str) -> None:
        self.feishu = feishu
        self._address = address

    async def endpoint(self, **credentials: Any) -> dict[str, Any]:
        body = {"AppID": "cli_simulator", "AppSecret": "simulator-app-secret", **credentials}
        async with httpx2.AsyncClient(trust_env=False) as http:
            response = await http.post(f"{self._address}/callback/ws/endpoint", json=body)
        answer: dict[str, Any] = response.json()
        return answer

    async def connect(self) -> tuple[ClientConnection, int]:
        """Return a connection and its service id."""
        url = (await self.endpoint())["data"]["URL"]
        return await connect(url, proxy=None), int(url.partition("service_id=")[2].partition("&")[0])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    cloud = FeishuCloud()
    feishu = LongConnections(cloud, timings=Timings(ack_s=3.0, retry_after_s=(0.01,) * 4))
    async with running(create_app(feishu=cloud, connections=feishu)) as address:
        yield Client(feishu, address)


async def next_frame(socket: ClientConnection) -> WireFrame:
    async with asyncio.timeout(10):
        data = await socket.recv()
    assert isinstance(data, bytes)
    return read_frame(data)


async def answer(socket: ClientConnection, frame: WireFrame, payload: bytes = b'{"code":200}') -> None:
    headers = {**frame.headers, "biz_rt": "1"}
    await socket.send(write_frame(WireFrame(frame.service, DATA, headers, payload, frame.seq_id, frame.log_id)))


async def test_endpoint_tells_the_settings_and_a_ticket_for_one_use(client: Client) -> None:
    client.feishu.rules = ConnectionRules(ping_interval=90, reconnect_count=5)
    data = (await client.endpoint())["data"]
    assert data["ClientConfig"] == {
        "ReconnectCount": 5, "ReconnectInterval": 120, "ReconnectNonce": 30, "PingInterval": 90
    }  # fmt: skip
    async with connect(data["URL"], proxy=None):
        with pytest.raises(InvalidStatus) as caught:
            await connect(data["URL"], proxy=None)
    headers = caught.value.response.headers
    assert (headers["handshake-status"], headers["handshake-msg"]) == ("514", "invalid ticket")


@pytest.mark.parametrize(
    ("credentials", "code"), [({"AppSecret": "wrong"}, 514), ({"AppID": "cli_other"}, 514), ({"AppID": ""}, 1000040344)]
)
async def test_wrong_credentials_get_no_address(client: Client, credentials: dict[str, str], code: int) -> None:
    refused = await client.endpoint(**credentials)
    assert refused["code"] == code
    assert "data" not in refused


async def test_connections_are_limited(client: Client) -> None:
    client.feishu.rules = ConnectionRules(max_connections=1)
    one, _ = await client.connect()
    with pytest.raises(InvalidStatus) as caught:
        await client.connect()
    assert caught.value.response.headers["handshake-autherrcode"] == "1000040350"
    await one.close()
    await eventually(lambda: not client.feishu.connections)
    another, _ = await client.connect()
    await another.close()


async def test_ping_is_answered_with_the_settings(client: Client) -> None:
    socket, service = await client.connect()
    await socket.send(write_frame(WireFrame(service, CONTROL, {"type": "ping"})))
    pong = await next_frame(socket)
    assert (pong.method, pong.headers["type"]) == (CONTROL, "pong")
    assert json.loads(pong.payload)["PingInterval"] == 120
    await socket.close()


async def test_event_is_delivered_until_it_is_answered_with_200(client: Client) -> None:
    client.feishu.timings = Timings(ack_s=0.2, retry_after_s=(0.01,) * 4)
    socket, _ = await client.connect()
    delivering = asyncio.create_task(client.feishu.deliver(EVENT))
    first = await next_frame(socket)
    assert json.loads(first.payload) == EVENT
    await answer(socket, first, b'{"code":500}')
    await next_frame(socket)  # Left without an answer.
    third = await next_frame(socket)
    assert third.headers["message_id"] != first.headers["message_id"]
    await answer(socket, third, b'{"code":200,"data":"eyJhIjoxfQ=="}')
    steps = (await delivering).steps
    assert [step.status for step in steps] == [500, None, 200]
    assert steps[-1].body == b'{"a":1}'
    await socket.close()


async def test_long_event_comes_in_numbered_parts(client: Client) -> None:
    client.feishu.rules = ConnectionRules(part_bytes=30)
    socket, _ = await client.connect()
    delivering = asyncio.create_task(client.feishu.deliver(EVENT))
    parts = [await next_frame(socket)]
    while len(parts) < int(parts[0].headers["sum"]):
        parts.append(await next_frame(socket))
    assert [part.headers["seq"] for part in parts] == [str(number) for number in range(len(parts))]
    assert json.loads(b"".join(part.payload for part in parts)) == EVENT
    await answer(socket, parts[-1])
    assert (await delivering).acknowledged
    await socket.close()


async def test_nobody_connected_is_a_failed_try(client: Client) -> None:
    delivery = await client.feishu.deliver(EVENT)
    assert [step.problem for step in delivery.steps] == ["no connection: is the gateway running?"] * 5


def _frame(**changes: Any) -> Callable[[int], bytes]:
    def build(service: int) -> bytes:
        fields = {"service": service, "method": CONTROL, "headers": {"type": "ping"}, **changes}
        return write_frame(WireFrame(**fields))

    return build


@pytest.mark.parametrize(
    ("build", "violation"),
    [
        (lambda _: b"\xff\xff", "not a frame"),
        (lambda _: "text", "binary"),
        (_frame(service=1), "service 1"),
        (_frame(headers={"type": "pong"}), "control frame"),
        (_frame(method=DATA, headers={"type": "event"}), "own headers"),
        (_frame(method=DATA, headers={"type": "event", "message_id": "m"}, payload=b"ok"), "payload"),
        (_frame(method=DATA, headers={"type": "event", "message_id": "m"}, payload=b"{}"), "no code"),
        (_frame(method=DATA, headers={"type": "event", "message_id": "m"}, payload=b'{"code":200,"data":"?"}'), "data"),
    ],
)
async def test_mistake_ends_the_connection(client: Client, build: Callable[[int], bytes | str], violation: str) -> None:
    socket, service = await client.connect()
    await socket.send(build(service))
    with pytest.raises(ConnectionClosed):
        await next_frame(socket)
    assert socket.close_code == 1002
    assert violation in client.feishu.violations[0]


async def test_client_that_does_not_ping_is_dropped(client: Client) -> None:
    client.feishu.rules = ConnectionRules(ping_interval=0.05)
    socket, _ = await client.connect()
    with pytest.raises(ConnectionClosed):
        await next_frame(socket)
    assert client.feishu.violations == ["no ping in time"]
