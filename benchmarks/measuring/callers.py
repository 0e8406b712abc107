"""Callers of streams that count what they get: of each chunk its number, at the end the finish and `[DONE]`."""

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

import httptools

SMALL_BUFFER = 64 * 1024
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the upstream is asked to send: so many chunks, the pause between them, the length of the text of each."""

    chunks: int
    pause_ms: int
    bytes: int = 0


class Caller(asyncio.Protocol):
    """One call of the service at a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._next = 0
        self._finished = False
        self._done = False
        self._in_order = True

    async def follow(self, wanted: Wanted, *, stall_s: float = 0.0) -> bool:
        """Call, read nothing for so long, then read to the end; tell whether everything arrived in order."""
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        sock = socket.socket()
        sock.setblocking(False)
        if stall_s:
            # Else the kernel would take in megabytes for a caller that reads nothing.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        await loop.sock_connect(sock, ("127.0.0.1", self._port))
        transport, _ = await loop.create_connection(lambda: self, sock=sock)
        self._transport = transport
        if stall_s:
            self._transport.pause_reading()
        self._transport.write(_request(wanted))
        if stall_s:
            await asyncio.sleep(stall_s)
            self._transport.resume_reading()
        async with asyncio.timeout(wanted.chunks * wanted.pause_ms / 1000 + PATIENCE_S):
            await self._over
        self._transport.close()
        return self._in_order and self._next == wanted.chunks and self._finished and self._done

    def leave(self) -> None:
        """Close the connection in the middle of the answer."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def on_body(self, body: bytes) -> None:
        """Take the events in."""
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            if b'"content": "word' in event:
                self._in_order = self._in_order and b'"word%d ' % self._next in event and not self._finished
                self._next += 1
            elif b'"finish_reason": "stop"' in event:
                self._finished = True
            elif event == b"data: [DONE]":
                self._done = True
            elif not event.startswith(b":"):
                self._in_order = False

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if not self._over.done():
            self._over.set_result(None)


def _request(wanted: Wanted) -> bytes:
    metadata = {"chunks": wanted.chunks, "pause_ms": wanted.pause_ms, "bytes": wanted.bytes}
    call = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go."}], "metadata": metadata}
    body = json.dumps(call).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer k\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )


async def upstream_state(port: int) -> dict[str, Any]:
    """Ask the paced upstream what it sees."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /state HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()
    state: dict[str, Any] = json.loads(body)
    return state
