"""One HTTP request and its answer, on top of ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from parley_llm.errors import InvalidRequestError, LLMError, RequestTooLargeError
from parley_llm.exchange import Course, printable, request_id_from, whole_number
from parley_llm.http.errors import Headers, error_body, error_headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_S = 60.0
DISCARDED = 64 * 1024 * 1024


class ClientGoneError(Exception):
    """The caller closed the connection before its request was complete."""


class HTTPExchange:
    """Reads the request and writes the answer; knows the headers that go with every answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id_from(self.header(b"x-request-id"))
        self.course = Course()
        self.started = False
        self.gone = False
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        """Return a header of the request, empty when it isn't there."""
        return self.headers.get(name, b"").decode("latin-1")

    def number(self, name: bytes, most: int) -> int | None:
        """Return a header as a number from 1 to `most`. Raises InvalidRequestError."""
        return whole_number(name.decode(), self.header(name), most)

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

    def watch(self) -> asyncio.Task[None]:
        """Cancel the running task when the caller goes away; to be called once the body is read."""
        handler = asyncio.current_task()

        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.gone = True
            if handler is not None:
                handler.cancel()

        return asyncio.create_task(wait())

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Send a complete JSON answer."""
        await self._start(
            status,
            [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(headers or [])],
        )
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, error: LLMError) -> None:
        """Send an error: as the answer, or inside the stream that has begun, which then ends without `[DONE]`."""
        body = error_body(error, self.request_id)
        if not self.started:
            headers = error_headers(error)
            if isinstance(error, RequestTooLargeError):
                headers.append((b"connection", b"close"))  # The rest of the body would be read as a request.
            await self.answer(error.http_status, body, headers)
        else:
            await self.write(b"data: " + body + b"\n\n", more=False)

    async def start_stream(self) -> None:
        """Send the head of an event stream."""
        await self._start(
            200,
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),  # nginx would hold the events back.
            ],
        )

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece of the stream; waits while the caller reads too slowly."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        headers.append((b"x-request-id", self.request_id.encode()))
        course = self.course
        if course.attempts:
            headers.append((b"x-parley-upstream", course.upstream.encode("latin-1", "replace")))
            headers.append((b"x-parley-model", printable(course.model).encode()))
        headers.append((b"x-parley-attempts", b"%d" % course.attempts))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
