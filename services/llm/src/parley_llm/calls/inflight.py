"""The calls being served, so that stopping can wait for them and cut what does not end in time."""

import asyncio
from typing import Any, Protocol


class Cuttable(Protocol):
    """A call in work that can be told to end."""

    def cut(self) -> None:
        """End soon, with an error that says why."""


class Waiting:
    """A call that waits for its answer in a task; being cut cancels that task's wait."""

    __slots__ = ("_task", "was_cut")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.was_cut = False

    def cut(self) -> None:
        """End the wait with a CancelledError, which `was_cut` tells from the caller's leaving."""
        self.was_cut = True
        self._task.cancel()

    def resume(self) -> None:
        """Take the cancellation back, once the CancelledError was caught."""
        self._task.uncancel()


class Inflight:
    """Counts calls and knows how to cut those that are open."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open: set[Cuttable] = set()

    def enter(self) -> None:
        """Count a call that begins."""
        if self._count == 0:
            self._idle.clear()
        self._count += 1

    def leave(self) -> None:
        """Count a call that has ended."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    def opened(self, call: Cuttable) -> None:
        """Know a call until `closed`."""
        self._open.add(call)

    def closed(self, call: Cuttable) -> None:
        """Forget a call."""
        self._open.discard(call)

    async def wait_idle(self, within_s: float) -> None:
        """Wait until no call is left, at most so long; then cut those that are open."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            for call in list(self._open):
                call.cut()
