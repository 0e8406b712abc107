"""One HTTP/1.1 client connection that carries one exchange at a time, parsed by httptools.

Nothing here knows about models: bytes out, a response head and body bytes in. A consumer that does not read
makes the connection stop reading, so a slow caller slows the upstream down instead of filling our memory; and an
upstream that is slow to take an upload slows down what reads the upload.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import cast

import httptools

from parley_llm.upstream.body import PIECE, Upload

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
MAX_HEAD = 128 * 1024


class WireError(Exception):
    """The connection failed, or what came over it is not HTTP."""


class ConnectionLostError(WireError):
    """The connection ended before the response did."""


class ResponseFormatError(WireError):
    """The peer sent something that is not an HTTP/1.1 response."""


class UploadStalledError(TimeoutError):
    """The peer took nothing of an upload for too long."""


class Connection(asyncio.Protocol):
    """A connection, idle or with one exchange. All `by` arguments are points of the event loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wait_by = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._on_complete: Callable[[], None] | None = None
        self._paused = False
        self._write_paused = False
        self._uploading = False  # Still true when an upload was left: then the connection can't be used again.
        self.closed = False
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.answered = False
        self.complete = False
        self.keep_alive = False
        self._head_done = False
        self._head_bytes = 0
        self._interim = False
        self._has_length = False
        self._busy = False
        self._discarding = False
        self._error: WireError | None = None
        self._body: list[bytes] = []
        self._buffered = 0

    # What the pool and the transport use.

    @property
    def reusable(self) -> bool:
        """Tell whether a further exchange may start on this connection."""
        return self.complete and self.keep_alive and not self._uploading and not self.closed and self._error is None

    def begin(self, head: bytes, body: bytes) -> None:
        """Send a request. The previous exchange must be complete."""
        self._reset()
        self._busy = True
        if self._transport is None or self.closed:
            raise ConnectionLostError("the connection is closed")
        if len(body) < LOW_WATER:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def upload(self, head: bytes, body: Upload, by: float, idle_s: float) -> None:
        """Send a request whose body comes in pieces, no faster than the peer takes it.

        Returns early when the peer answers before it has everything and will not want the rest: then the connection
        can't be used again. Raises WireError; TimeoutError at `by`; UploadStalledError when the peer takes nothing for
        `idle_s` seconds.
        """
        self.begin(head, b"")
        self._uploading = True
        transport = cast(asyncio.Transport, self._transport)
        transport.set_write_buffer_limits(high=PIECE)
        async with aclosing(body.pieces()) as pieces:
            async for piece in pieces:
                # A look at the network before each piece: writing to a peer that has answered and closed would lose
                # the answer, which is then already here.
                await asyncio.sleep(0)
                await self._writable(transport, by, idle_s)
                if self._refused:
                    return
                if self._error is not None:
                    raise self._error
                transport.write(piece)
        self._uploading = False

    async def head(self, by: float) -> None:
        """Wait for the response head. Raises TimeoutError or WireError."""
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._wait(by)

    async def body(self, by: float) -> bytes:
        """Wait for body bytes; all that has arrived, or `b""` at the end. Raises TimeoutError or WireError."""
        while not self._body:
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait(by)
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._buffered = 0
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return data

    def discard_rest(self, within_s: float, done: Callable[[], None]) -> None:
        """Let a response that is as good as over run out, then call `done`; close when it does not end in time."""
        self._discarding = True
        self._body.clear()
        self._buffered = 0
        timer = self._loop.call_later(within_s, self.abort)

        def finished() -> None:
            timer.cancel()
            done()

        self._on_complete = finished
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports offer the same without being subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._busy or self.complete:
            # Bytes nobody asked for: what would follow can't be trusted to answer the next request.
            self.keep_alive = False
            self.abort()
            return
        self.answered = True
        self._head_bytes += 0 if self._head_done else len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(ResponseFormatError(f"not an HTTP response: {exc}"))
            return
        except httptools.HttpParserUpgrade:
            self._fail(ResponseFormatError("the upstream switched protocols"))
            return
        if not self._head_done and self._head_bytes > MAX_HEAD:
            self._fail(ResponseFormatError(f"the response head is longer than {MAX_HEAD} bytes"))
            return
        if self._buffered > HIGH_WATER and not self._paused and not self.complete and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._head_done:
            self._wake()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._uploading:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.keep_alive = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy and not self.complete:
            ended_well = exc is None and self._head_done and not self._has_length and not self._interim
            if ended_well:
                # Without a length the end of the connection is the end of the body (RFC 9112, 6.3).
                self._finish()
            else:
                self._fail(ConnectionLostError(str(exc) if exc else "the upstream closed the connection"))
        self._wake()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in ("content-length", "transfer-encoding"):
            self._has_length = True
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._interim = self.status < 200
        if self._interim:
            self.headers.clear()
            self._has_length = False
        else:
            self._head_done = True

    def on_body(self, data: bytes) -> None:
        if not self._discarding and not self.complete:
            self._body.append(data)
            self._buffered += len(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self.complete:
            self.keep_alive = self._parser.should_keep_alive() and not self.closed
            self._finish()

    # Inside

    @property
    def _refused(self) -> bool:
        """Tell whether the peer has answered in a way that makes the rest of the request pointless."""
        return self._head_done and (self.status >= 300 or self.complete)

    async def _writable(self, transport: asyncio.Transport, by: float, idle_s: float) -> None:
        """Wait until the peer has taken what was written, or there is no point in writing more."""
        if self.now() >= by:
            raise TimeoutError
        left = transport.get_write_buffer_size()
        idle_by = self.now() + idle_s
        while self._write_paused and not self._refused and self._error is None:
            try:
                await self._wait(min(by, idle_by))
            except TimeoutError:
                before, left = left, transport.get_write_buffer_size()
                if self.now() >= by:
                    raise
                if left >= before:
                    raise UploadStalledError(f"took nothing of the upload for {idle_s:g} s") from None
                idle_by = self.now() + idle_s

    def _finish(self) -> None:
        self.complete = True
        if self._on_complete is not None:
            done, self._on_complete = self._on_complete, None
            # Not now: the parser is still in the middle of the bytes that end this response.
            self._loop.call_soon(done)

    def _fail(self, error: WireError) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, by: float) -> None:
        self._waiter = self._loop.create_future()
        self._wait_by = by
        if by < self._timer_at:
            self._arm(by)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(self, at: float) -> None:
        """Set the connection's one timer. A wait that ends later leaves it, since waits mostly end well before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look_at_clock)
        self._timer_at = at

    def _look_at_clock(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._wait_by:
            self._arm(self._wait_by)
        else:
            self._waiter.set_exception(TimeoutError())
