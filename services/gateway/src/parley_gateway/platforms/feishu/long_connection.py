"""The long connection of one bot: a WebSocket to Feishu over which events come instead of webhooks.

Feishu documentation, "Receive events through long connection": an app may have 50 connections, each event goes to one
of them, and what isn't answered within 3 s is delivered again as a webhook would be. lark-oapi's own client isn't used:
it answers an event before an asynchronous handler could store it, takes the process's event loop for itself, can't be
stopped, connects past any proxy, and logs the ticket.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from lark_oapi.ws.const import HEADER_HANDSHAKE_AUTH_ERRCODE, HEADER_HANDSHAKE_STATUS
from lark_oapi.ws.enum import MessageType
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from parley_gateway.errors import DeliveryError, MalformedRequestError, TransientDeliveryError
from parley_gateway.platforms.base import EventSink, Handled, PlatformServices, RawResponse
from parley_gateway.platforms.feishu.api import HTTPCalls
from parley_gateway.platforms.feishu.long_connection_endpoint import ADVICE, Endpoint, Pace, fetch_endpoint, next_try_s
from parley_gateway.platforms.feishu.long_connection_frames import (
    MAX_EVENT_BYTES,
    EventPart,
    Joining,
    Pong,
    answer_frame,
    ping_frame,
    read_frame,
)
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.feishu.untrusted_json import parse_json
from parley_gateway.platforms.outgoing import choose_proxy, create_tls_context

ACK_S = 2.8
"""Feishu waits 3 s for the answer to an event."""
MAX_IN_HAND = 64
"""Events being stored at the same time. While there are so many no frame is read, and Feishu uses other connections."""
ALIVE_EVERY_S = 20.0
"""How often the WebSocket's own ping proves that the other side is there; as long may its answer take."""
OPEN_S = 10.0
CLOSE_S = 2.0

T = TypeVar("T")
log = structlog.get_logger("parley.feishu")

ReadEvent = Callable[[dict[str, Any]], Awaitable[Handled]]


@dataclass(frozen=True, slots=True)
class _Session:
    """One connection while it lasts."""

    socket: ClientConnection
    endpoint: Endpoint
    sink: EventSink
    joining: Joining = field(default_factory=Joining)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_IN_HAND))
    in_hand: set[asyncio.Task[None]] = field(default_factory=set)


class LongConnection:
    """Keeps one connection up and hands its events over."""

    def __init__(self, settings: FeishuSettings, calls: HTTPCalls, read: ReadEvent, services: PlatformServices) -> None:
        """`read` parses an event. Raises OSError when `ca_file` can't be read as certificates."""
        self._settings = settings
        self._calls = calls
        self._read = read
        self._on_call = services.on_call
        self._environ = services.environ
        self._tls = create_tls_context(settings.ca_file)
        self._names = {"platform": "feishu", "bot": services.context.bot}
        self._pace: Pace | None = None

    async def run(self, stop: asyncio.Event, sink: EventSink) -> None:
        """Stay connected until `stop` is set; then read no more, answer what is in hand, and close."""
        sink.connected(False)
        failures = 0
        while not stop.is_set():
            try:
                connected = await _unless(stop, self._connect())
            except DeliveryError as exc:
                failures += 1
                log.warning("not_connected", **self._names, failures=failures, error=str(exc))
            else:
                if connected is None:
                    return
                await self._serve(*connected, stop, sink)
                failures = 0
            await _unless(stop, asyncio.sleep(next_try_s(self._pace, failures)))

    async def _connect(self) -> tuple[ClientConnection, Endpoint]:
        """Open a connection. Raises DeliveryError, in which no part of the address stands."""
        endpoint = await fetch_endpoint(self._settings, self._calls)
        self._pace = (self._pace or Pace()).updated(endpoint.config)
        try:
            socket = await self._open(endpoint.url)
        except InvalidStatus as exc:
            self._on_call("connect", "error", "refused")
            raise _refusal(exc) from None
        except TimeoutError:
            self._on_call("connect", "error", "timeout")
            raise TransientDeliveryError("connect: no WebSocket in time", "timeout") from None
        except (WebSocketException, OSError, ValueError) as exc:
            # The error itself may name the address; its type says enough.
            self._on_call("connect", "error", "connection")
            raise TransientDeliveryError(f"connect: {type(exc).__name__} on the way to Feishu", "connection") from None
        self._on_call("connect", "ok", "")
        return socket, endpoint

    async def _open(self, url: str) -> ClientConnection:
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        # Proxies are chosen by the web's schemes, which is how the variables are called.
        proxy = choose_proxy(f"{'https' if secure else 'http'}://{parts.netloc}", self._settings.proxy, self._environ)
        options: dict[str, Any] = {"proxy_ssl": self._tls} if (proxy or "").startswith("https:") else {}
        return await connect(
            url,
            ssl=self._tls if secure else None,
            proxy=proxy,
            user_agent_header="parley-gateway",
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            ping_interval=ALIVE_EVERY_S,
            ping_timeout=ALIVE_EVERY_S,
            max_size=MAX_EVENT_BYTES,
            **options,
        )

    async def _serve(self, socket: ClientConnection, endpoint: Endpoint, stop: asyncio.Event, sink: EventSink) -> None:
        """Use a connection until it breaks or `stop` is set."""
        session = _Session(socket, endpoint, sink)
        log.info("connected", **self._names, connection=endpoint.connection_id)
        sink.connected(True)
        try:
            async with asyncio.TaskGroup() as tasks:
                pinging = tasks.create_task(self._keep_pinging(session))
                try:
                    await _unless(stop, self._receive(session))
                finally:
                    pinging.cancel()
        except* ConnectionClosed:
            log.warning("connection_lost", **self._names, connection=endpoint.connection_id, code=socket.close_code)
        finally:
            sink.connected(False)
            await _finish(session)
        if stop.is_set():
            log.info("disconnected", **self._names, connection=endpoint.connection_id)

    async def _keep_pinging(self, session: _Session) -> None:
        while True:
            await session.socket.send(ping_frame(session.endpoint.service_id))
            await asyncio.sleep((self._pace or Pace()).ping_every_s)

    async def _receive(self, session: _Session) -> None:
        """Read frames and begin to work on events. Ends by ConnectionClosed or cancellation."""
        while True:
            data = await session.socket.recv()
            try:
                found = read_frame(data) if isinstance(data, bytes) else None
                if isinstance(found, Pong):
                    self._reconfigure(found)
                elif isinstance(found, EventPart) and found.kind == MessageType.EVENT.value:
                    event = session.joining.add(found, now=monotonic())
                    if event is not None:
                        await session.room.acquire()
                        task = asyncio.create_task(self._answer(session, found, event), name="feishu-event")
                        session.in_hand.add(task)
                        task.add_done_callback(session.in_hand.discard)
            except MalformedRequestError as exc:
                log.warning("frame_unreadable", **self._names, error=str(exc))

    def _reconfigure(self, pong: Pong) -> None:
        if not pong.payload:
            return
        try:
            config = parse_json(pong.payload)
        except ValueError as exc:
            raise MalformedRequestError("the answer to a ping isn't JSON") from exc
        self._pace = (self._pace or Pace()).updated(config)

    async def _answer(self, session: _Session, part: EventPart, payload: bytes) -> None:
        """Hand one event over and tell Feishu whether it was taken."""
        began = monotonic()
        try:
            async with asyncio.timeout(ACK_S):
                response = await session.sink.take(lambda: self._parse(payload))
        except TimeoutError:
            log.warning("event_not_taken_in_time", **self._names)
            response = RawResponse(504)
        except Exception:
            # One event that nobody foresaw must not end the connection: Feishu delivers it again.
            log.exception("event_failed", **self._names)
            response = RawResponse(500)
        finally:
            session.room.release()
        # When the connection is gone, Feishu delivers the event again over another, and it is known then.
        with contextlib.suppress(ConnectionClosed):
            await session.socket.send(answer_frame(part, response, took_s=monotonic() - began))

    async def _parse(self, payload: bytes) -> Handled:
        try:
            event = parse_json(payload)
        except ValueError as exc:
            raise MalformedRequestError("the event isn't JSON") from exc
        if not isinstance(event, dict):
            raise MalformedRequestError("the event isn't a JSON object")
        return await self._read(event)


async def _finish(session: _Session) -> None:
    """Wait for the events in hand to be answered, as long as Feishu waits, and close."""
    if session.in_hand:
        _, late = await asyncio.wait(session.in_hand, timeout=ACK_S + CLOSE_S)
        for task in late:
            task.cancel()
    await session.socket.close()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns; None when `stop` is set before that, and `work` is cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _refusal(refused: InvalidStatus) -> DeliveryError:
    """Return the error of a refused handshake: Feishu's headers say why."""
    headers = refused.response.headers
    code = headers.get(HEADER_HANDSHAKE_AUTH_ERRCODE) or headers.get(HEADER_HANDSHAKE_STATUS) or ""
    code = code if code.isascii() and code.isdigit() else f"http_{refused.response.status_code}"
    advice = f"; {ADVICE[code]}" if code in ADVICE else ""
    return TransientDeliveryError(f"connect: Feishu refuses the connection{advice}", code[:20])
