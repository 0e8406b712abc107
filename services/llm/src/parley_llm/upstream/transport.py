"""The one interface to an upstream, `Transport`, and its implementation over HTTP/1.1."""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from parley_llm.upstream.body import Upload
from parley_llm.upstream.connection import Connection, ConnectionLostError, ResponseFormatError
from parley_llm.upstream.pool import Pool


@dataclass(slots=True)
class Outgoing:
    """A request to an upstream; `headers` are the finished header lines, which hold the API key.

    Two limits in seconds are for uploads only: `idle_s`, how long the upstream may take nothing of the body, and
    `answer_s`, how long it may be silent once it has taken all of it. Whose call it is, an upstream within this process
    may be told.
    """

    method: str
    target: str
    headers: bytes = field(repr=False)
    body: bytes | Upload = field(default=b"", repr=False)
    idle_s: float = math.inf
    answer_s: float = math.inf
    request_id: str = ""
    caller: str = ""


class Incoming(Protocol):
    """An upstream's answer. `by` arguments are points of the event loop's clock."""

    status: int
    headers: dict[str, str]

    async def read(self, by: float, limit: int, idle_s: float) -> bytes:
        """Return the whole body, whose pieces are at most `idle_s` seconds apart.

        Raises TimeoutError, WireError; ResponseFormatError when it is longer than `limit` bytes.
        """

    async def next(self, by: float) -> bytes:
        """Return the next bytes of the body, `b""` at its end. Raises TimeoutError, WireError."""

    def close(self, *, finished: bool = False) -> None:
        """Let the exchange go; unless `finished`, the upstream is told to stop by closing its socket."""


class Transport(Protocol):
    """Carries requests to an upstream."""

    async def send(self, request: Outgoing, connect_by: float, answer_by: float) -> Incoming:
        """Send a request and wait for the head of the answer.

        Raises TimeoutError, ConnectTimeoutError, UploadStalledError, WireError, and what reading an upload raises.
        """

    def close(self) -> None:
        """Close what is idle."""


class ConnectTimeoutError(TimeoutError):
    """No connection came about in time."""


class HTTPTransport:
    """Sends requests over pooled connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def send(self, request: Outgoing, connect_by: float, answer_by: float) -> Incoming:
        body = request.body
        head = b"%b %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (
            request.method.encode("ascii"),
            request.target.encode("ascii"),
            request.headers,
            len(body) if isinstance(body, bytes) else body.length,
        )
        pool = self._pool
        connection = pool.take()
        reused = connection is not None
        while True:
            if connection is None:
                try:
                    connection = await pool.open(connect_by)
                except TimeoutError as exc:
                    raise ConnectTimeoutError from exc
            try:
                if isinstance(body, bytes):
                    connection.begin(head, body)
                    await connection.head(answer_by)
                else:
                    await connection.upload(head, body, answer_by, request.idle_s)
                    await connection.head(min(answer_by, connection.now() + request.answer_s))
            except ConnectionLostError:
                pool.release(connection)
                # A kept-alive connection that the upstream closed just now never carried the request.
                if not reused or connection.answered:
                    raise
                connection, reused = None, False
            except BaseException:
                connection.abort()
                pool.release(connection)
                raise
            else:
                return _HTTPResponse(connection, pool)

    def close(self) -> None:
        self._pool.close()


class _HTTPResponse:
    """An answer that is still arriving over a pooled connection."""

    __slots__ = ("_connection", "_open", "_pool", "headers", "status")

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self._connection = connection
        self._pool = pool
        self._open = True
        self.status = connection.status
        self.headers = connection.headers

    async def read(self, by: float, limit: int, idle_s: float) -> bytes:
        connection = self._connection
        parts: list[bytes] = []
        size = 0
        while data := await connection.body(min(by, connection.now() + idle_s)):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise ResponseFormatError(f"the answer is longer than {limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def next(self, by: float) -> Coroutine[Any, Any, bytes]:
        return self._connection.body(by)

    def close(self, *, finished: bool = False) -> None:
        if not self._open:
            return
        self._open = False
        if finished:
            self._pool.release_soon(self._connection)
            return
        if not self._connection.complete:
            self._connection.abort()
        self._pool.release(self._connection)


def after(seconds: float) -> float:
    """Return the point of the event loop's clock that is `seconds` from now."""
    return asyncio.get_running_loop().time() + seconds
