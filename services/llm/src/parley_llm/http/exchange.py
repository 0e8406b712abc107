"""One HTTP request and its answer, on top of ASGI and its extension `Reply`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from parley_llm.errors import InvalidRequestError, LLMError, RequestTooLargeError
from parley_llm.exchange import Course, printable, request_id_from, whole_number
from parley_llm.http.errors import error_body, error_headers, named_error
from parley_llm.http.reply import EXTENSION, Reply
from parley_llm.limits.headers import rate_limit_headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_S = 60.0
DISCARDED = 64 * 1024 * 1024
_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
# nginx would hold the events back without the last one.
_NOT_BUFFERED = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


class ClientGoneError(Exception):
    """The caller closed the connection before its request was complete."""


class HTTPExchange:
    """Reads the request and writes the answer; knows the headers that go with every answer."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = scope["headers"]
        self.request_id = request_id_from(self.header(b"x-request-id"))
        self.course = Course()
        self.gone = False
        self._media_type = _EVENTS
        self.named_events = False
        """Whether an event stream's error is an event with a name."""
        self.sequence = -1
        """Number of the last event with a name."""
        self._receive = receive
        self._reply: Reply = scope["extensions"][EXTENSION]

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""
        return self._reply.started

    def header(self, name: bytes) -> str:
        """Return a header of the request, empty when it isn't there."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""

    def number(self, name: bytes, most: int) -> int | None:
        """Return a header as a number from 1 to `most`. Raises InvalidRequestError."""
        return whole_number(name.decode(), self.header(name), most) if name in self.headers else None

    async def body(self, limit: int) -> bytes:
        """Return the whole request body. Raises RequestTooLargeError, InvalidRequestError, ClientGoneError."""
        length = self.header(b"content-length")
        announced = int(length) if length.isdigit() else 0
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body") and len(message["body"]) <= limit:
            return bytes(message["body"])
        try:
            async with asyncio.timeout(BODY_S):
                return await self._long_body(message, limit, announced)
        except TimeoutError as exc:
            raise InvalidRequestError(f"The body did not arrive within {BODY_S:g} s.") from exc

    async def _long_body(self, message: MutableMapping[str, Any], limit: int, announced: int) -> bytes:
        data = bytearray()
        too_large = announced > limit
        received = 0
        while message["type"] == "http.request":
            piece = message.get("body", b"")
            received += len(piece)
            too_large = too_large or received > limit
            # Most clients read no answer before they have sent everything: up to a point, let them.
            if received > limit + DISCARDED:
                break
            if not too_large:
                data += piece
            if not message.get("more_body"):
                break
            message = await self._receive()
        else:
            raise ClientGoneError
        if too_large:
            raise RequestTooLargeError(f"The body is longer than {limit} bytes.")
        return bytes(data)

    @asynccontextmanager
    async def pieces(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the request body as it comes; when the reader stops early with an error, the rest is read and dropped.

        Each piece must come within `BODY_S`. Raises InvalidRequestError, ClientGoneError.
        """
        arriving = self._arriving()
        try:
            yield arriving
        except LLMError:
            # Most clients read no answer before they have sent everything: up to a point, let them.
            dropped = 0
            async for piece in arriving:
                dropped += len(piece)
                if dropped > DISCARDED:
                    self._reply.close_after()
                    break
            raise
        finally:
            await arriving.aclose()

    async def _arriving(self) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(BODY_S):
                    message = await self._receive()
            except TimeoutError as exc:
                raise InvalidRequestError(f"Nothing of the body arrived for {BODY_S:g} s.") from exc
            if message["type"] != "http.request":
                raise ClientGoneError
            if message["body"]:
                yield message["body"]
            if not message.get("more_body"):
                return

    def watch(self) -> None:
        """Cancel the running task when the caller goes away, until `unwatch`."""
        handler = asyncio.current_task()

        def leave() -> None:
            self.gone = True
            if handler is not None:
                handler.cancel()

        self._reply.watch_caller(leave)

    def unwatch(self) -> None:
        """Let the running task go on whatever the caller does."""
        self._reply.watch_caller(None)

    async def answer(self, status: int, body: bytes, headers: bytes = b"", *, content_type: str = _JSON) -> None:
        """Send a complete answer; `headers` are further header lines."""
        head = b"content-type: %b\r\n" % content_type.encode("latin-1")
        await self._reply.answer(status, head + headers + self._about_call(), body)

    async def fail(self, error: LLMError) -> None:
        """Send an error: as the answer, or inside the stream that has begun, which then has no regular end."""
        body = error_body(error, self.request_id)
        if self.started:
            if self._media_type != _EVENTS:
                self._reply.abort()  # Nothing else tells the reader of raw bytes that some are missing.
            else:
                await self._reply.end(
                    named_error(body, error, self.sequence) if self.named_events else b"data: %b\n\n" % body
                )
            return
        if isinstance(error, RequestTooLargeError):
            self._reply.close_after()  # The rest of the body would be read as a request.
        await self.answer(error.http_status, body, error_headers(error))

    def send_raw(self, media_type: str) -> None:
        """Make an answer in pieces raw bytes of a media type instead of events; to be called before `write`."""
        self._media_type = media_type

    def write(self, data: bytes) -> Awaitable[None]:
        """Send a piece of the answer, the first one with its head; waits while the caller reads too slowly."""
        reply = self._reply
        if reply.started:
            return reply.write(data)
        head = b"content-type: %b\r\n" % self._media_type.encode("latin-1")
        return reply.begin(200, head + _NOT_BUFFERED + self._about_call(), data)

    async def end(self, data: bytes) -> None:
        """Send the last piece of an answer that has begun; empty when there is none."""
        await self._reply.end(data)

    def _about_call(self) -> bytes:
        course = self.course
        joined = "x-parley-joined: true\r\n" if course.joined else ""
        limits = rate_limit_headers(course.standing) if course.standing is not None else b""
        if not course.attempts:
            return f"x-request-id: {self.request_id}\r\nx-parley-attempts: 0\r\n{joined}".encode() + limits
        adapted = f"x-parley-adapted: {printable(', '.join(course.adapted))}\r\n" if course.adapted else ""
        return (
            f"x-request-id: {self.request_id}\r\nx-parley-upstream: {course.upstream}\r\n"
            f"x-parley-model: {printable(course.model)}\r\nx-parley-attempts: {course.attempts}\r\n{adapted}{joined}"
        ).encode() + limits
