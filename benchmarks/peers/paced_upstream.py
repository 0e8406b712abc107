"""An upstream for many streams at once: paces each as its request says, and tells what becomes of its connections.

python benchmarks/peers/paced_upstream.py PORT

A request's `metadata` holds `chunks`, `pause_ms` between them and `bytes` of text in each. `GET /state` answers with
a JSON object; its times are of the machine's monotonic clock, which all processes share.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@dataclass(slots=True)
class State:
    """What the upstream sees."""

    streams: int = 0
    """Streams that run now."""
    begun: int = 0
    """Streams that ever began."""
    completed: int = 0
    paused: int = 0
    """Streams that may not write now, because the reader is slow."""
    sent_bytes: int = 0
    last_lost: float = 0.0
    """When a connection was lost last."""


class PacedUpstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._data = b""
        self._stream: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        self._data = b""
        if head.startswith(b"GET"):
            told = json.dumps(asdict(self._state)).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
        else:
            self._stream = asyncio.get_running_loop().create_task(self._run(json.loads(body)["metadata"]))

    def pause_writing(self) -> None:
        self._may_write.clear()
        self._state.paused += 1

    def resume_writing(self) -> None:
        self._may_write.set()
        self._state.paused -= 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.last_lost = time.monotonic()
        if not self._may_write.is_set():
            self.resume_writing()
        if self._stream is not None:
            self._stream.cancel()

    async def _run(self, wanted: dict[str, int]) -> None:
        state = self._state
        state.begun += 1
        state.streams += 1
        try:
            self._transport.write(HEAD)
            for number in range(wanted["chunks"]):
                text = f"word{number} ".ljust(wanted["bytes"], ".")
                self._event({"content": text}, None)
                await self._may_write.wait()
                await asyncio.sleep(wanted["pause_ms"] / 1000)
            self._event({}, "stop")
            self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            state.completed += 1
        finally:
            state.streams -= 1

    def _event(self, delta: dict[str, str], finish_reason: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        event = b"data: %b\n\n" % json.dumps({**CHUNK, "choices": [choice]}).encode()
        self._state.sent_bytes += len(event)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))


async def serve(port: int) -> None:
    """Serve until killed."""
    state = State()
    server = await asyncio.get_running_loop().create_server(
        lambda: PacedUpstream(state), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
