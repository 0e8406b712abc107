"""Calls of one caller that wait until its limits let them in: first come, first served, each for a limited time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from parley_llm.limits.base import Admission, Observer, OverLimitError

POLL_S = 0.1
"""How often the first in line looks whether one of the caller's calls has ended in another process."""


class WaitingLine:
    """The line of one caller. Only the first in it asks to be let in; the others wait for their turn."""

    def __init__(self, caller: str, max_wait_s: float, max_waiting: int, observer: Observer) -> None:
        self.length = 0
        self._caller = caller
        self._max_wait_s = max_wait_s
        self._max_waiting = max_waiting
        self._observer = observer
        self._turn = asyncio.Lock()  # Those who wait for it get it in the order in which they came.
        self._ended = asyncio.Event()
        self._last: OverLimitError | None = None

    async def enter(self, enter: Callable[[], Awaitable[Admission]], within_s: float) -> Admission:
        """Have `enter` let the call in, at once or after waiting: for the line's time and `within_s` seconds at most.

        Raises OverLimitError: the time is over, or too short for the wait that the limit asks for, or the line is full.
        """
        refusal = None
        if not self.length:
            try:
                return await enter()
            except OverLimitError as error:
                refusal = self._last = error
        if self.length >= self._max_waiting:
            raise self._refused("max_waiting")
        now = asyncio.get_running_loop().time
        began = now()
        self.length += 1
        self._observer.waiting(1)
        try:
            return await self._wait(enter, began + min(self._max_wait_s, within_s), refusal)
        finally:
            self.length -= 1
            self._observer.waiting(-1)
            self._observer.waited(self._caller, now() - began)

    def call_ended(self) -> None:
        """Let the first in line look again: a call of this process has ended."""
        if self.length:
            self._ended.set()

    async def _wait(
        self, enter: Callable[[], Awaitable[Admission]], until: float, refusal: OverLimitError | None
    ) -> Admission:
        try:
            async with asyncio.timeout_at(until):
                await self._turn.acquire()
        except TimeoutError:
            raise self._refused() from None
        try:
            while True:
                if refusal is not None:
                    self._last = refusal
                    await self._pause(refusal, until)
                self._ended.clear()
                try:
                    return await enter()
                except OverLimitError as error:
                    refusal = error
        finally:
            self._turn.release()

    async def _pause(self, refusal: OverLimitError, until: float) -> None:
        """Wait as long as a refusal says, or until a call ends. Raises the refusal when there is no time for that."""
        left = until - asyncio.get_running_loop().time()
        crowded = refusal.limit == "concurrency"
        if left <= 0 or (refusal.wait_s > left and not crowded):
            raise refusal
        if not crowded:
            await asyncio.sleep(refusal.wait_s)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, POLL_S)):
                await self._ended.wait()

    def _refused(self, limit: str = "") -> OverLimitError:
        """Return the refusal of a call that didn't get to ask, with what the first in line was told last."""
        last = self._last
        assert last is not None  # noqa: S101 - for the type checker: a line forms behind a refusal
        return OverLimitError(self._caller, limit or last.limit, last.wait_s, last.standing)
