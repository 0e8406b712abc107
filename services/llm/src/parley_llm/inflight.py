"""The calls being served, so that stopping can wait for them and cut what does not end in time."""

import asyncio
from typing import Protocol


class Cuttable(Protocol):
    """A stream that can be told to end."""

    def cut(self) -> None:
        """End soon, with an error that says why."""


class Inflight:
    """Counts calls and knows the open streams."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._streams: set[Cuttable] = set()

    def enter(self) -> None:
        """Count a call that begins."""
        self._count += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a call that has ended."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    def opened(self, stream: Cuttable) -> None:
        """Know a stream until `closed`."""
        self._streams.add(stream)

    def closed(self, stream: Cuttable) -> None:
        """Forget a stream."""
        self._streams.discard(stream)

    async def wait_idle(self, within_s: float) -> None:
        """Wait until no call is left, at most so long; then cut the streams."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            for stream in list(self._streams):
                stream.cut()
