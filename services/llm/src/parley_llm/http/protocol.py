"""A caller's connection: HTTP/1.1 parsed by httptools, in place of uvicorn's protocol, under uvicorn's server.

Uvicorn's makes for every request what a proxy has no use for, and ASGI wants an answer's head and body as two
messages, each checked and written on its own; together they cost a good part of what a request costs here. The
application gets a scope with what it reads and, among the extensions, a `Reply`. Requests that are sent ahead of the
answers before them wait; reading stops when many do, and while nobody takes a body's bytes.

An offer to switch protocols is declined instead of losing the body. A request that offers `Upgrade: h2c`, as Java's
HttpClient does by default, stops the parser behind its head: the rest might be in another protocol. We never switch,
which RFC 9110 (7.8) allows; so the rest is the body. The head is given to a fresh parser without the offer, followed
by what came behind it. Uvicorn loses such a body (its issue 2722).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from parley_llm.http.reply import EXTENSION, Reply

MAX_HEAD = 64 * 1024
MAX_AHEAD = 16
"""Requests that may wait. Only from a connection that is read can it be seen that the caller leaves."""
_OFFER = frozenset({b"upgrade", b"http2-settings"})


class CallerProtocol(asyncio.Protocol):
    """Answers every request as HTTP/1.1, or as HTTP/1.0 to a caller that speaks no better."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = cast(Any, config.loaded_app)
        self._state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = _new_parser(self)
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._in_head = False
        self._head_bytes = 0
        self._newest: Reply | None = None
        self._current: Reply | None = None
        self._queue: deque[tuple[Reply, dict[str, Any]]] = deque()
        self._reading_paused = False
        self._defaults: tuple[object, bytes] = (None, b"")
        self._used_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.idle_s = float(config.timeout_keep_alive)
        self.transport = cast(asyncio.Transport, None)
        self.lost = False
        self.blocked: asyncio.Future[None] | None = None
        self.on_caller_lost: Callable[[], None] | None = None

    # What a `Reply` uses.

    @property
    def default_headers(self) -> bytes:
        """The header lines that the server puts on every answer; it renews them every second."""
        made_of, lines = self._defaults
        if made_of is not self._state.default_headers:
            made_of = self._state.default_headers
            lines = b"".join([b"%b: %b\r\n" % header for header in self._state.default_headers])
            self._defaults = made_of, lines
        return lines

    async def drain(self) -> None:
        """Wait until the caller has read enough of what was written, or is gone."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    def pause_reading(self) -> None:
        """Take nothing more from the caller for now."""
        if not self._reading_paused and not self.lost:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what the caller sends again, unless many requests wait already."""
        if self._reading_paused and not self.lost and len(self._queue) < MAX_AHEAD:
            self._reading_paused = False
            self.transport.resume_reading()

    def answered(self, *, keep_alive: bool) -> None:
        """Go on with what the caller sent meanwhile, or wait for it."""
        self._state.total_requests += 1
        self._current = None
        self._used_at = self._loop.time()
        if not keep_alive:
            self.transport.close()
        elif not self.transport.is_closing():
            if self._queue:
                self._start(*self._queue.popleft())
            self.resume_reading()

    # What uvicorn's server uses.

    def shutdown(self) -> None:
        """Close the connection, behind the answer to the request in work if there is one."""
        if self._current is None:
            self.transport.close()
        else:
            self._current.close_after()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports offer the same without being subclasses.
        self.transport = cast(asyncio.Transport, transport)
        self._state.connections.add(cast(Any, self))
        self._used_at = self._loop.time()
        self._timer = self._loop.call_later(self.idle_s, self._look_at_clock)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._state.connections.discard(cast(Any, self))
        self._queue.clear()
        self.resume_writing()
        for reply in (self._newest, self._current):
            if reply is not None:
                reply.caller_lost()
        if self.on_caller_lost is not None:
            self.on_caller_lost()

    def pause_writing(self) -> None:
        self.blocked = self._loop.create_future()

    def resume_writing(self) -> None:
        blocked, self.blocked = self.blocked, None
        if blocked is not None:
            blocked.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Parse; on an offer, parse the head again without it, then the rest."""
        self._used_at = self._loop.time()
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._parser.get_method() == b"CONNECT":
                    self._refuse(b"400 Bad Request", b"CONNECT is not supported.")
                    return
                data = self._head_without_offer() + data[offer.args[0] :]
                self._parser = _new_parser(self)
                continue
            except httptools.HttpParserError:
                self._refuse(b"400 Bad Request", b"Invalid HTTP request received.")
                return
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD:
                    self._refuse(b"431 Request Header Fields Too Large", b"The request's head is too long.")
            return

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._headers = {}
        self._url = b""
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take the target, which may come in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; several with one name are one list (RFC 9110, 5.2)."""
        name = name.lower()
        headers = self._headers
        headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value

    def on_headers_complete(self) -> None:
        """Hand the request over; with an offer, not before the second parsing."""
        parser, headers = self._parser, self._headers
        if parser.should_upgrade():
            return
        self._in_head = False
        method = parser.get_method()
        persistent = parser.get_http_version() != "1.0"
        reply = self._newest = Reply(
            self,
            bodiless=method == b"HEAD",
            keep_alive=persistent and parser.should_keep_alive(),
            chunked=persistent,
            continues=headers.get(b"expect", b"").lower() == b"100-continue",
        )
        scope = {
            "type": "http",
            "method": method.decode("ascii"),
            "path": _path(self._url),
            "headers": headers,
            "extensions": {EXTENSION: reply},
        }
        if self._current is None:
            self._start(reply, scope)
        else:
            self._queue.append((reply, scope))
            if len(self._queue) >= MAX_AHEAD:
                self.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        if self._newest is not None:
            self._newest.body_arrived(body)

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        if self._newest is not None and not self._parser.should_upgrade():
            self._newest.body_complete()

    # Inside

    def _start(self, reply: Reply, scope: dict[str, Any]) -> None:
        self._current = reply
        task = self._loop.create_task(self._serve(reply, scope))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _serve(self, reply: Reply, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, reply.receive, None)
        finally:
            if not reply.complete:
                # The application has given up on this caller; there is no way to say so but this.
                self.transport.close()

    def _look_at_clock(self) -> None:
        """Close the connection if it was idle for so long. Looked at seldom instead of set anew for each request."""
        left = self.idle_s if self._current else self._used_at + self.idle_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_clock)
        else:
            self.transport.close()

    def _refuse(self, status: bytes, text: bytes) -> None:
        head = b"HTTP/1.1 %b\r\n%bcontent-type: text/plain; charset=utf-8\r\n" % (status, self.default_headers)
        self.transport.write(b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (head, len(text), text))
        self.transport.close()

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, self._parser.get_http_version().encode())]
        for name, value in self._headers.items():
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)
            if name not in _OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _new_parser(protocol: CallerProtocol) -> Any:
    parser = httptools.HttpRequestParser(protocol)
    # Without it what follows a request with `Connection: close` would spoil the answer to it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _path(url: bytes) -> str:
    """Return the path of a request's target, which is a path with a query or a whole URL (RFC 9112, 3.2)."""
    if not url.startswith(b"/"):
        url = httptools.parse_url(url).path or b"/"
    path = url.partition(b"?")[0].partition(b"#")[0].decode("latin-1")
    return unquote(path) if "%" in path else path
