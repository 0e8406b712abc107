"""An OpenAI-compatible upstream that does exactly what a test tells it: answers, stalls, cuts, sends nonsense.

A real HTTP server on a free loopback port, made of plain sockets so that it can misbehave in every way. Each request
takes the next reply of the script, the last one again and again. It records what arrived and when sockets closed.

    async with OpenAIUpstream() as upstream:
        upstream.replies = [status(503), completion("Hello")]
        ... use upstream.base_url ...
        assert len(upstream.requests) == 2
"""

import asyncio
import email.parser
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

CHUNK_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "fake-model"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


@dataclass
class Request:
    """One request as it arrived; `closed` is set when the client closed the socket before the answer was over."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    closed_at: float = 0.0

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def form(self) -> list["FormPart"]:
        """The parts of the body, which must be multipart/form-data exactly as RFC 7578 and RFC 2046 have it."""
        kind, _, boundary = self.headers["content-type"].partition("; boundary=")
        assert kind == "multipart/form-data"
        delimiter = b"\r\n--" + boundary.encode()
        first, *parts, last = (b"\r\n" + self.body).split(delimiter)
        assert (first, last) == (b"", b"--\r\n")
        return [_form_part(part) for part in parts]


@dataclass
class FormPart:
    """One part of a form; `filename` is None for a text field."""

    name: str
    filename: str | None
    content_type: str | None
    headers: dict[str, str]
    data: bytes


def _form_part(part: bytes) -> FormPart:
    assert part.startswith(b"\r\n")
    head, empty_line, data = part[2:].partition(b"\r\n\r\n")
    assert empty_line
    headers = email.parser.Parser().parsestr(head.decode())
    assert headers.get_content_disposition() == "form-data"
    name, filename = (headers.get_param(key, None, "content-disposition") for key in ("name", "filename"))
    assert isinstance(name, str)
    assert filename is None or isinstance(filename, str)
    return FormPart(name, filename, headers["content-type"], dict(headers), data)


class Peer:
    """What a reply writes to; an early reply may also read the request's body from `reader`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> None:
        self.reader = reader
        self.writer = writer
        self.request = request
        self.keep = True

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, code: int, headers: dict[str, str]) -> None:
        """Send a response head."""
        lines = [f"HTTP/1.1 {code} Reason", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def cut(self) -> None:
        """Reset the connection."""
        self.keep = False
        self.writer.transport.abort()


Reply = Callable[[Peer], Awaitable[None]]


@dataclass
class Early:
    """A reply that begins when the head of the request is there. Nothing is read of the body but what it reads."""

    reply: Reply

    async def __call__(self, peer: Peer) -> None:
        await self.reply(peer)


class OpenAIUpstream:
    """The server. `replies` may be changed at any time."""

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.replies: list[Reply] = list(replies)
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def base_url(self) -> str:
        """The base URL to configure."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        begun: bytes | None = b""
        try:
            while begun is not None and (request := await _read_head(reader, number, begun)) is not None:
                if isinstance(self.replies[0], Early):
                    self.requests.append(request)
                    await self._next_reply()(Peer(reader, writer, request))
                    break
                request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
                begun = await self._answer(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            self._tasks.discard(task)

    def _next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Answer one request; return what is there already of the next, None when the connection is over."""
        self.requests.append(request)
        peer = Peer(reader, writer, request)
        watch = asyncio.create_task(_watch(reader, request))
        running = asyncio.ensure_future(self._next_reply()(peer))
        try:
            await asyncio.wait({watch, running}, return_when=asyncio.FIRST_COMPLETED)
            answered = running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            if not peer.keep or not answered:
                return None
            return (watch.result() or None) if watch.done() else b""
        finally:
            watch.cancel()
            running.cancel()
            await asyncio.gather(watch, running, return_exceptions=True)


async def _watch(reader: asyncio.StreamReader, request: Request) -> bytes:
    """Wait for what the client does next: the first byte of its next request, or nothing when it has left."""
    try:
        data = await reader.read(1)
    except ConnectionError:
        data = b""
    if not data:
        request.closed_at = time.monotonic()
        request.closed.set()
    return data


async def _read_head(reader: asyncio.StreamReader, connection: int, begun: bytes) -> Request | None:
    try:
        head = begun + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Request(method, target, headers, b"", connection)


def plain(code: int, body: bytes, headers: dict[str, str] | None = None, *, close: bool = False) -> Reply:
    """Answer with a complete body."""

    async def reply(peer: Peer) -> None:
        extra = {"connection": "close"} if close else {}
        all_headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {}), **extra}
        await peer.head(code, all_headers)
        await peer.send(body)
        peer.keep = not close

    return reply


def completion(
    text: str = "Hello!", *, message: dict[str, Any] | None = None, finish: str = "stop", **extra: Any
) -> Reply:
    """Answer with a chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **(message or {})},
        "finish_reason": finish,
    }
    body = {**CHUNK_HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, **extra}
    return plain(200, json.dumps(body).encode())


def status(number: int, headers: dict[str, str] | None = None, **error: Any) -> Reply:
    """Answer with an error in OpenAI's format."""
    body = {"error": {"message": f"status {number}", "type": "fake_error", "param": None, "code": None, **error}}
    return plain(number, json.dumps(body).encode(), headers)


def delta(content: str | None = None, *, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """Spell one chunk of a stream."""
    inner = {**({"content": content} if content is not None else {}), **more}
    return event({**CHUNK_HEAD, "choices": [{"index": index, "delta": inner, "finish_reason": finish}]})


def event(chunk: Any) -> bytes:
    """Spell one event."""
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ROLE = delta("", role="assistant")
FINISH = delta(finish="stop")
USAGE_CHUNK = event({**CHUNK_HEAD, "choices": [], "usage": USAGE})


def words(*texts: str) -> list[bytes]:
    """Spell a complete answer of these pieces, as OpenAI streams it."""
    return [ROLE, *(delta(text) for text in texts), FINISH, USAGE_CHUNK, DONE]


Step = bytes | float | str


def stream(*steps: Step, headers: dict[str, str] | None = None) -> Reply:
    """Stream: bytes are sent, numbers are pauses in seconds, words end it.

    `end` (also the default) ends the body well, `cut` resets the connection, `fin` closes it inside the body,
    `stall` stays silent until the client leaves.
    """

    async def reply(peer: Peer) -> None:
        await peer.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **(headers or {})})
        for step in steps:
            if isinstance(step, bytes):
                await peer.chunk(step)
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            elif step == "stall":
                await asyncio.Event().wait()
            elif step == "cut":
                await asyncio.sleep(0.02)  # Let what was sent arrive: a reset may overtake it.
                peer.cut()
                return
            elif step == "fin":
                peer.keep = False
                return
        await peer.send(b"0\r\n\r\n")

    return reply


def stall() -> Reply:
    """Say nothing at all until the client leaves."""

    async def reply(peer: Peer) -> None:
        await asyncio.Event().wait()

    return reply


def cut() -> Reply:
    """Reset the connection instead of answering."""

    async def reply(peer: Peer) -> None:
        peer.cut()

    return reply


def raw(data: bytes) -> Reply:
    """Send bytes, whatever they are, and close."""

    async def reply(peer: Peer) -> None:
        await peer.send(data)
        peer.keep = False

    return reply
