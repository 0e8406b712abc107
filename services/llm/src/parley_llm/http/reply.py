"""One request as its connection knows it: gives the body to the application, writes the answer.

The application finds this object in the scope's extensions. Its head is finished bytes; head and body of an answer
leave in one write, which is one system call and wakes the caller once. It can be told at once when the caller leaves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

EXTENSION = "parley.reply"
HIGH_WATER = 64 * 1024
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Connection(Protocol):
    """The connection of a caller, on which one request at a time is in work."""

    transport: asyncio.Transport
    lost: bool
    blocked: asyncio.Future[None] | None
    """Done once more may be written; None while it may."""
    on_caller_lost: Callable[[], None] | None

    @property
    def default_headers(self) -> bytes:
        """Header lines of every answer."""

    async def drain(self) -> None:
        """Wait until more may be written, or the caller is gone."""

    def pause_reading(self) -> None:
        """Take nothing more from the caller for now."""

    def resume_reading(self) -> None:
        """Take what the caller sends again."""

    def answered(self, *, keep_alive: bool) -> None:
        """Go on to the next request."""


class Reply:
    """A request's body on its way in and the answer on its way out."""

    __slots__ = (
        "_arrived",
        "_bodiless",
        "_chunked",
        "_connection",
        "_continues",
        "_keep_alive",
        "_more",
        "_pieces",
        "_size",
        "complete",
        "started",
    )

    def __init__(
        self, connection: Connection, *, bodiless: bool, keep_alive: bool, chunked: bool, continues: bool
    ) -> None:
        """`bodiless`: the answer has none. `chunked`: the caller understands it. `continues`: it waits for a 100."""
        self._connection = connection
        self._bodiless = bodiless
        self._keep_alive = keep_alive
        self._chunked = chunked
        self._continues = continues
        self._pieces: list[bytes] = []
        self._size = 0
        self._more = True
        self._arrived: asyncio.Future[None] | None = None
        self.started = False
        """Whether the answer's head was sent."""
        self.complete = False
        """Whether the whole answer was."""

    # For the connection.

    def body_arrived(self, data: bytes) -> None:
        """Keep a piece of the body; nobody reads one behind a complete answer."""
        if self.complete:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER:
            self._connection.pause_reading()
        self._wake()

    def body_complete(self) -> None:
        """Note that nothing of the body is missing."""
        self._more = False
        self._wake()

    def caller_lost(self) -> None:
        """Wake whoever waits for the body."""
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # For the application.

    async def receive(self) -> dict[str, Any]:
        """Return what arrived of the body since the last time, waiting for it; ASGI's `receive`."""
        connection = self._connection
        if self._continues and not self.started:
            self._continues = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._pieces and self._more and not connection.lost:
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        if connection.lost or self.complete:
            return {"type": "http.disconnect"}
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._size = 0
        connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self._more}

    def watch_caller(self, on_lost: Callable[[], None] | None) -> None:
        """Have `on_lost` called when the caller closes the connection, from now on until called with None."""
        self._connection.on_caller_lost = on_lost

    def close_after(self) -> None:
        """Close the connection behind this answer; an answer that has begun does not announce it."""
        self._keep_alive = False

    async def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer. `head` is finished header lines other than those about the body's length."""
        head = self._head(status, b"%bcontent-length: %d\r\n" % (head, len(body)))
        await self._write(head if self._bodiless else head + body)
        self._finish()

    def begin(self, status: int, head: bytes, body: bytes) -> Awaitable[None]:
        """Send the head of an answer without a known length, and its first piece, which must not be empty."""
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n"
        else:
            self._keep_alive = False  # The connection's end is the answer's.
        return self._write(self._head(status, head) + self._piece(body))

    def write(self, body: bytes) -> Awaitable[None]:
        """Send a piece, which must not be empty; waits while the caller reads too slowly."""
        return self._write(self._piece(body))

    async def end(self, body: bytes) -> None:
        """Send the last piece, empty when there is none."""
        last = self._piece(body) if body else b""
        await self._write(last + b"0\r\n\r\n" if self._chunked else last)
        self._finish()

    def abort(self) -> None:
        """Cut the connection in the middle of an answer, so that the caller knows that it is not complete."""
        self._connection.transport.abort()

    def _piece(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if self._chunked else body

    def _head(self, status: int, head: bytes) -> bytes:
        self.started = True
        if self._continues:
            self._keep_alive = False  # The caller may send the body it was not asked for, or the next request.
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b\r\n" % (_STATUS_LINES[status], self._connection.default_headers, head, closing)

    async def _write(self, data: bytes) -> None:
        connection = self._connection
        if connection.blocked is not None:
            await connection.drain()
        if not connection.lost:
            connection.transport.write(data)

    def _finish(self) -> None:
        self.complete = True
        if not self._connection.lost:
            self._connection.answered(keep_alive=self._keep_alive)
