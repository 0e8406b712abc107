"""Writes the answer to one request straight to uvicorn's connection, in place of ASGI's `send`.

ASGI wants the head and the body as two messages, which uvicorn makes two system calls and two wake-ups of the caller,
checking every header again. And it tells of a caller that has left only to a task that waits for it. For a proxy these
are much of its work. The application finds this object in the scope's extensions.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

EXTENSION = "parley.reply"


class Connection(Protocol):
    """The connection of a caller, on which one request at a time is in work."""

    on_caller_lost: Callable[[], None] | None


class Reply:
    """The answer to one request. It leaves uvicorn's cycle as `send` would leave it."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, cycle: RequestResponseCycle, connection: Connection) -> None:
        self._cycle = cycle
        self._connection = connection

    @property
    def started(self) -> bool:
        """Whether the head was sent."""
        return self._cycle.response_started

    def watch_caller(self, on_lost: Callable[[], None] | None) -> None:
        """Have `on_lost` called when the caller closes the connection, from now on until called with None."""
        self._connection.on_caller_lost = on_lost

    def close_after(self) -> None:
        """Close the connection behind this answer; to be called before it."""
        self._cycle.keep_alive = False

    async def answer(self, status: int, head: bytes, body: bytes) -> None:
        """Send a whole answer. `head` is finished header lines other than those about the body's length."""
        cycle = self._cycle
        head += b"content-length: %d\r\n" % len(body)
        if cycle.scope["method"] == "HEAD":
            body = b""
        await self._write(self._head(status, head), body)
        self._finish()

    def begin(self, status: int, head: bytes, body: bytes) -> Awaitable[None]:
        """Send the head of an answer without a known length, and its first piece, which must not be empty."""
        return self._write(self._head(status, head + b"transfer-encoding: chunked\r\n"), _chunk(body))

    def write(self, body: bytes) -> Awaitable[None]:
        """Send a piece, which must not be empty; waits while the caller reads too slowly."""
        return self._write(_chunk(body))

    async def end(self, body: bytes) -> None:
        """Send the last piece."""
        await self._write(_chunk(body) + b"0\r\n\r\n")
        self._finish()

    def _head(self, status: int, head: bytes) -> bytes:
        cycle = self._cycle
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        defaults = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
        closing = b"" if cycle.keep_alive else b"connection: close\r\n"
        return b"".join((STATUS_LINE[status], defaults, head, closing, b"\r\n"))

    async def _write(self, *pieces: bytes) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.transport.writelines(pieces)

    def _finish(self) -> None:
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)
