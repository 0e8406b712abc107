"""Wakes those who wait for work or for an answer, within this process; the store itself stays the only truth.

A wake-up says "look again", never what is there. Nothing about a message lives here: who isn't woken finds out by
looking, later.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from parley_gateway.errors import StoreUnavailableError

logger = logging.getLogger(__name__)


class ReadyLanes:
    """Workers that wait for a lane: one is woken for each that becomes ready, all when a known time comes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with nobody waiting."""
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def wait(self, next_ready_at: Callable[[], Awaitable[float | None]], timeout_s: float) -> None:
        """Return when a lane may be ready, at once if `next_ready_at` says so, or after the time.

        The caller is registered before it looks, so that nothing can become ready unseen between the two.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        woken = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    if not self.announce(await self._looked(next_ready_at), wake=False):
                        await waiter
                        woken = True
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not woken:
                # It was chosen and returns for another reason: the wake-up belongs to somebody else.
                self.wake_one()

    async def _looked(self, next_ready_at: Callable[[], Awaitable[float | None]]) -> float | None:
        try:
            return await next_ready_at()
        except StoreUnavailableError as error:
            # Whoever waits learns of it when it leases. Until then there is nothing better to do than to wait.
            logger.debug("when a lane is ready isn't known: %s", error)
            return None

    def announce(self, at: float | None, *, wake: bool = True) -> bool:
        """Take note of when a lane will be ready: wake a worker now, or later. Returns whether it is ready now."""
        if at is None:
            return False
        if at > self._clock():
            self.wake_at(at)
            return False
        if wake:
            self.wake_one()
        return True

    def wake_one(self) -> None:
        """Wake one worker: a lane became ready."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake every worker: several lanes may have become ready."""
        while self._waiters:
            self.wake_one()

    def wake_at(self, at: float) -> None:
        """Wake every worker at a time, earlier if an earlier time is known already."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._on_time)

    def close(self) -> None:
        """Forget the timer and wake every worker a last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake_all()

    def _on_time(self) -> None:
        # Every worker that finds nothing waits again, and doing so sets the timer to the next time.
        self._timer = None
        self.wake_all()


class KeptAnswers:
    """Requests that wait for an answer to be kept."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._events: dict[tuple[str, str], set[asyncio.Event]] = {}

    @contextmanager
    def waiting(self, conversation: str, answer_id: str) -> Iterator[asyncio.Event]:
        """Register as waiting for one answer; the event is set when it is kept."""
        key = (conversation, answer_id)
        event = asyncio.Event()
        events = self._events.setdefault(key, set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._events.pop(key, None)

    def wake(self, conversation: str, answer_id: str) -> None:
        """Wake those who wait for this answer."""
        for event in self._events.get((conversation, answer_id), ()):
            event.set()
