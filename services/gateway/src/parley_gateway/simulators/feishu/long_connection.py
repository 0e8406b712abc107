"""Feishu's side of the long connection: hands out addresses, accepts WebSockets, delivers events over one of them.

Feishu documentation, "Receive events through long connection": an app has at most 50 connections; an event goes to one
of them at random; without the answer `{"code": 200}` within 3 s it is delivered again after 15 s, 5 min, 1 h and 6 h. A
client that does what lark-oapi's would never do is cut off and its mistake noted in `violations`.
"""

import asyncio
import base64
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.simulators.feishu.frames import CONTROL, DATA, FrameError, WireFrame, read_frame, write_frame
from parley_gateway.simulators.feishu.pusher import Delivery, Step, Timings

ENDPOINT = "/callback/ws/endpoint"
SOCKET = "/ws/v2"

AUTH_FAILED = 514
TOO_MANY = 1000040350
BAD_REQUEST = 1000040344

PROTOCOL_ERROR = 1002
MISSED_PINGS = 3
"""How many pings may fail to come before a connection is ended."""
KEPT_DELIVERIES = 100
"""How many of the deliveries begun with `begin_delivery` are remembered."""


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """What Feishu tells its clients, and what it holds them to. Times in seconds."""

    ping_interval: float = 120
    reconnect_interval: float = 120
    reconnect_nonce: float = 30
    reconnect_count: int = -1
    max_connections: int = 50
    part_bytes: int = 64 * 1024
    """A longer event is split into several frames."""

    @property
    def client_config(self) -> dict[str, float]:
        """The settings as a client gets them."""
        return {
            "ReconnectCount": self.reconnect_count,
            "ReconnectInterval": self.reconnect_interval,
            "ReconnectNonce": self.reconnect_nonce,
            "PingInterval": self.ping_interval,
        }


class ProtocolError(Exception):
    """A client does what it must not."""


@dataclass(eq=False)
class Connection:
    """One client that is connected."""

    socket: WebSocket
    service_id: int
    answers: dict[str, asyncio.Future[Mapping[str, Any]]] = field(default_factory=dict)
    """The answers still waited for, by message id."""
    pings: int = 0
    delivered: int = 0


class LongConnections:
    """All connections of the simulated app."""

    def __init__(
        self,
        cloud: FeishuCloud,
        *,
        rules: ConnectionRules | None = None,
        timings: Timings | None = None,
        address: str = "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`address` is what clients are told to connect to, empty for where they asked; `sleep` waits between tries."""
        self.address = address
        self.rules = rules or ConnectionRules()
        self.connections: list[Connection] = []
        self.tickets: dict[str, int] = {}
        """Tickets that weren't used yet, with their service id."""
        self.violations: list[str] = []
        self.closed_with: list[int] = []
        """How clients ended their connections, by WebSocket code."""
        self._cloud = cloud
        self.timings = timings or Timings()
        self._sleep = sleep
        self._services = 33554000
        self._begun: dict[str, tuple[list[Step], asyncio.Task[Delivery]]] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the API."""
        return [Route(ENDPOINT, self._endpoint, methods=["POST"]), WebSocketRoute(SOCKET, self._accept)]

    async def deliver(self, event: Mapping[str, Any], *, on_step: Callable[[Step], None] | None = None) -> Delivery:
        """Deliver an event until it is answered with code 200, five times at most, each over any connection.

        A step's status is the code of the answer, its body the answer's data.
        """
        payload = json.dumps(event, ensure_ascii=False).encode()
        began = time.monotonic()
        steps: list[Step] = []
        for number, wait in enumerate((0.0, *self.timings.retry_after_s), start=1):
            if number > 1:
                await self._sleep(wait)
            step = await self._try(f"delivery {number}", payload, began)
            steps.append(step)
            if on_step:
                on_step(step)
            if step.acknowledged:
                break
        return Delivery(tuple(steps))

    def begin_delivery(self, event: Mapping[str, Any]) -> str:
        """Begin to deliver an event; return a name for `steps_of`."""
        name = uuid.uuid4().hex
        steps: list[Step] = []
        while len(self._begun) >= KEPT_DELIVERIES:
            _, delivering = self._begun.pop(next(iter(self._begun)))
            delivering.cancel()
        self._begun[name] = steps, asyncio.create_task(self.deliver(event, on_step=steps.append))
        return name

    def steps_of(self, name: str) -> tuple[list[Step], bool]:
        """Return the tries of a delivery so far, and whether there will be no more. Raises KeyError."""
        steps, delivering = self._begun[name]
        return steps, delivering.done()

    async def cut(self) -> None:
        """End all connections from Feishu's side."""
        for connection in list(self.connections):
            await self._close(connection, 1001)

    async def _endpoint(self, request: Request) -> Response:
        try:
            self._cloud.begin("endpoint")
            body = json.loads(await request.body())
            if not isinstance(body, dict) or not body.get("AppID") or not body.get("AppSecret"):
                raise APIError(BAD_REQUEST, "app_id or app_secret is missing", 200)
            app = self._cloud.app
            if (body["AppID"], body["AppSecret"]) != (app.app_id, app.app_secret):
                raise APIError(AUTH_FAILED, "auth failed", 200)
        except APIError as exc:
            return JSONResponse({"code": exc.code, "msg": exc.msg}, status_code=exc.status)
        except ValueError:
            return JSONResponse({"code": BAD_REQUEST, "msg": "the body is not JSON"}, status_code=400)
        ticket, self._services = uuid.uuid4().hex, self._services + 1
        self.tickets[ticket] = self._services
        address = self.address or f"{'wss' if request.url.scheme == 'https' else 'ws'}://{request.url.netloc}"
        url = f"{address}{SOCKET}?device_id={self._services}&service_id={self._services}&ticket={ticket}"
        return JSONResponse({
            "code": 0, "msg": "success", "data": {"URL": url, "ClientConfig": self.rules.client_config}
        })  # fmt: skip

    async def _accept(self, socket: WebSocket) -> None:
        """Serve one WebSocket until it ends."""
        service_id = self.tickets.pop(socket.query_params.get("ticket", ""), None)
        if service_id is None or str(service_id) != socket.query_params.get("service_id"):
            await self._refuse(socket, AUTH_FAILED, "invalid ticket", "")
            return
        if len(self.connections) >= self.rules.max_connections:
            await self._refuse(socket, AUTH_FAILED, "exceed connection limit", str(TOO_MANY))
            return
        await socket.accept()
        connection = Connection(socket, service_id)
        self.connections.append(connection)
        try:
            async with asyncio.timeout(self.rules.ping_interval * MISSED_PINGS) as silence:
                while (data := await self._next(connection)) is not None:
                    if await self._handle(connection, data):
                        patience_s = self.rules.ping_interval * MISSED_PINGS
                        silence.reschedule(asyncio.get_running_loop().time() + patience_s)
        except TimeoutError:
            self.violations.append("no ping in time")
            await self._close(connection, PROTOCOL_ERROR)
        except (ProtocolError, FrameError) as exc:
            self.violations.append(str(exc))
            await self._close(connection, PROTOCOL_ERROR)
        finally:
            if connection in self.connections:
                self.connections.remove(connection)
            for waiting in connection.answers.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError())

    async def _next(self, connection: Connection) -> bytes | None:
        """Return the next message, None at the end of the connection. Raises ProtocolError."""
        message = await connection.socket.receive()
        if message["type"] == "websocket.disconnect":
            self.closed_with.append(message.get("code") or 1005)
            return None
        data = message.get("bytes")
        if not isinstance(data, bytes):
            raise ProtocolError("frames are binary messages")
        return data

    async def _handle(self, connection: Connection, data: bytes) -> bool:
        """Take one frame; tell whether it was a ping. Raises ProtocolError, FrameError."""
        frame = read_frame(data)
        if frame.service != connection.service_id:
            raise ProtocolError(f"the frame is of service {frame.service}, not {connection.service_id}")
        if frame.method == CONTROL:
            if frame.headers.get("type") != "ping":
                raise ProtocolError(f"a client sends no control frame of type {frame.headers.get('type')!r}")
            connection.pings += 1
            config = json.dumps(self.rules.client_config).encode()
            await connection.socket.send_bytes(
                write_frame(WireFrame(connection.service_id, CONTROL, {"type": "pong"}, config))
            )
            return True
        if frame.method != DATA or frame.headers.get("type") != "event" or "message_id" not in frame.headers:
            raise ProtocolError("a client answers events, with their own headers, and sends nothing else")
        waiting = connection.answers.pop(frame.headers["message_id"], None)
        answer = _answer(frame.payload)
        # An answer that comes too late is no mistake, and no help.
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        return False

    async def _try(self, name: str, payload: bytes, began: float) -> Step:
        started = time.monotonic()

        def step(status: int | None, body: bytes = b"", problem: str = "") -> Step:
            return Step(name, started - began, time.monotonic() - started, status, body, problem)

        if not self.connections:
            return step(None, problem="no connection: is the gateway running?")
        connection = random.choice(self.connections)
        message_id = uuid.uuid4().hex
        answered = connection.answers[message_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.timings.ack_s):
                await self._send(connection, message_id, payload)
                answer = await answered
        except TimeoutError:
            return step(None, problem=f"no answer within {self.timings.ack_s:g} s")
        except (WebSocketDisconnect, ConnectionError, RuntimeError):
            return step(None, problem="the connection broke")
        finally:
            connection.answers.pop(message_id, None)
        return step(answer["code"], base64.b64decode(answer.get("data", "")))

    async def _send(self, connection: Connection, message_id: str, payload: bytes) -> None:
        size = self.rules.part_bytes
        parts = [payload[at : at + size] for at in range(0, len(payload), size)]
        connection.delivered += 1
        for number, part in enumerate(parts):
            headers = {
                "type": "event", "message_id": message_id, "trace_id": uuid.uuid4().hex, "sum": str(len(parts)),
                "seq": str(number), "timestamp": str(int(time.time() * 1000)),
            }  # fmt: skip
            frame = WireFrame(connection.service_id, DATA, headers, part, seq_id=number + 1, log_id=1 << 40)
            await connection.socket.send_bytes(write_frame(frame))

    async def _close(self, connection: Connection, code: int) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
        if connection.socket.application_state is WebSocketState.CONNECTED:
            await connection.socket.close(code)

    @staticmethod
    async def _refuse(socket: WebSocket, status: int, reason: str, auth_code: str) -> None:
        headers = {"handshake-status": str(status), "handshake-msg": reason, "handshake-autherrcode": auth_code}
        await socket.send_denial_response(Response(reason, status_code=403, headers=headers))


def _answer(payload: bytes) -> Mapping[str, Any]:
    """Return the answer to an event. Raises ProtocolError when it is none."""
    try:
        answer = json.loads(payload)
        if isinstance(answer, dict) and isinstance(answer.get("code"), int):
            base64.b64decode(answer.get("data", ""), validate=True)
            return answer
    except (TypeError, ValueError) as exc:
        raise ProtocolError("an answer's payload or data can't be read") from exc
    raise ProtocolError("an answer has no code")
