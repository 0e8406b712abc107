"""One HTTP request and its answer, on top of ASGI and its extension `Reply`."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from parley_llm.errors import InvalidRequestError, LLMError, RequestTooLargeError
from parley_llm.exchange import Course, printable, request_id_from, whole_number
from parley_llm.http.errors import error_body, error_headers
from parley_llm.http.reply import EXTENSION, Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_S = 60.0
DISCARDED = 64 * 1024 * 1024
_JSON = b"content-type: application/json\r\n"
# nginx would hold the events back without the last one.
_EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"


class ClientGoneError(Exception):
    """The caller closed the connection before its request was complete."""


class HTTPExchange:
    """Reads the request and writes the answer; knows the headers that go with every answer."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id_from(self.header(b"x-request-id"))
        self.course = Course()
        self.gone = False
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

    async def answer(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Send a complete JSON answer; `headers` are further header lines."""
        await self._reply.answer(status, _JSON + headers + self._about_call(), body)

    async def fail(self, error: LLMError) -> None:
        """Send an error: as the answer, or inside the stream that has begun, which then ends without `[DONE]`."""
        body = error_body(error, self.request_id)
        if self.started:
            await self._reply.end(b"data: " + body + b"\n\n")
            return
        if isinstance(error, RequestTooLargeError):
            self._reply.close_after()  # The rest of the body would be read as a request.
        await self.answer(error.http_status, body, error_headers(error))

    def write(self, data: bytes) -> Awaitable[None]:
        """Send a piece of the event stream, the first one with its head; waits while the caller reads too slowly."""
        reply = self._reply
        return reply.write(data) if reply.started else reply.begin(200, _EVENTS + self._about_call(), data)

    async def end(self, data: bytes) -> None:
        """Send the last piece of the event stream, which has begun."""
        await self._reply.end(data)

    def _about_call(self) -> bytes:
        course = self.course
        if not course.attempts:
            return f"x-request-id: {self.request_id}\r\nx-parley-attempts: 0\r\n".encode()
        adapted = f"x-parley-adapted: {printable(', '.join(course.adapted))}\r\n" if course.adapted else ""
        return (
            f"x-request-id: {self.request_id}\r\nx-parley-upstream: {course.upstream}\r\n"
            f"x-parley-model: {printable(course.model)}\r\nx-parley-attempts: {course.attempts}\r\n{adapted}"
        ).encode()
