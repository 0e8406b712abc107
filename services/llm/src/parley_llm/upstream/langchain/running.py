"""A run of a LangChain object as the answer of an upstream: head, body in pieces, an end that can be trusted.

The run is a task of its own: it makes pieces ahead of the reader, so many and no more, and ends at once when the
answer is closed, whatever it is doing. Synchronous code of a Runnable's author runs in LangChain's threads; of such a
run only the waiting ends.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from parley_llm.upstream.connection import ResponseFormatError
from parley_llm.upstream.langchain.failures import refusal_for
from parley_llm.upstream.langchain.refusals import Refusal
from parley_llm.upstream.transport import Incoming, Outgoing

AHEAD = 16
"""Pieces that a run may be ahead of its reader."""


class Runs:
    """The runs of one upstream, so many at a time."""

    def __init__(self, upstream: str, most: int) -> None:
        self._upstream = upstream
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(
        self, request: Outgoing, pieces: AsyncGenerator[bytes], content_type: str, answer_by: float
    ) -> Incoming:
        """Start a run and wait for its first piece, which shows that it answers. Raises TimeoutError."""
        if len(self._tasks) >= self._most:
            message = f"There are {self._most} calls in work, as many as max_connections allows."
            return Refused(Refusal(503, {"message": message, "type": "overloaded"}))
        run = _Run(self._upstream, request.request_id, pieces, content_type)
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        try:
            await run.begin(answer_by)
        except BaseException:
            run.close()
            raise
        return run if run.refusal is None else Refused(run.refusal)


@dataclass(slots=True)
class Refused:
    """An answer with an error status."""

    refusal: Refusal
    status: int = field(init=False)
    headers: dict[str, str] = field(init=False)
    _rest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.status = self.refusal.status
        self.headers = {"content-type": "application/json", **self.refusal.headers}
        self._rest = self.refusal.body

    async def read(self, by: float, limit: int, idle_s: float) -> bytes:
        return self._rest

    async def next(self, by: float) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def close(self, *, finished: bool = False) -> None:
        """Nothing is open."""


class _Run:
    """An answer that is being made. A failure before the first piece is `refusal`, a later one the stream's last."""

    status = 200

    def __init__(self, upstream: str, request_id: str, pieces: AsyncGenerator[bytes], content_type: str) -> None:
        self.headers = {"content-type": content_type}
        self.refusal: Refusal | None = None
        self._upstream = upstream
        self._request_id = request_id
        self._made: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._first = b""
        self._over = False
        self._closed = False
        self.task = asyncio.create_task(self._make(pieces), name=f"langchain {upstream}")

    async def begin(self, by: float) -> None:
        """Wait for the first piece, or for the failure. Raises TimeoutError."""
        self._first = await self._take(by)

    async def read(self, by: float, limit: int, idle_s: float) -> bytes:
        now = asyncio.get_running_loop().time
        parts: list[bytes] = []
        size = 0
        while data := await self.next(min(by, now() + idle_s)):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise ResponseFormatError(f"the answer is longer than {limit} bytes")
        return b"".join(parts)

    async def next(self, by: float) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return b"" if self._over else await self._take(by)

    def close(self, *, finished: bool = False) -> None:
        self._closed = True
        self.task.cancel()

    async def _take(self, by: float) -> bytes:
        if self._made.empty():
            async with asyncio.timeout_at(by):
                piece = await self._made.get()
        else:
            piece = self._made.get_nowait()
        self._over = not piece
        return piece

    async def _make(self, pieces: AsyncGenerator[bytes]) -> None:
        begun = False
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await self._made.put(piece)
                    begun = True
        except asyncio.CancelledError as exc:
            if self._closed:
                raise
            # Somebody within the Runnable cancelled itself; whoever waits for the answer must hear of it.
            await self._fail(exc, begun=begun)
        except Exception as exc:  # noqa: BLE001 - a Runnable may raise anything
            await self._fail(exc, begun=begun)
        await self._made.put(b"")

    async def _fail(self, exc: BaseException, *, begun: bool) -> None:
        refusal = refusal_for(exc, self._upstream, self._request_id)
        if begun:
            await self._made.put(refusal.event)
        else:
            self.refusal = refusal
