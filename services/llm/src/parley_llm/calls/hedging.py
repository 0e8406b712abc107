"""Races attempts of one call: when one has taken long, another starts beside it, and the first to have content wins.

A task for each attempt and a timer are what this costs; calls whose model has no `hedge` don't come here. What an
attempt does, and how it is recorded, is the caller's business.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from parley_llm.calls.attempts import Attempts, Next
from parley_llm.calls.routing import Hedge
from parley_llm.errors import LLMError

T = TypeVar("T")


class Race(Generic[T]):
    """One call. `begin` makes an attempt that follows a failure, if one; `discard` frees a result nobody takes."""

    def __init__(
        self,
        attempts: Attempts,
        hedge: Hedge,
        begin: Callable[[Next, LLMError | None], Coroutine[Any, Any, T]],
        discard: Callable[[T], None],
    ) -> None:
        self._attempts = attempts
        self._hedge = hedge
        self._begin = begin
        self._discard = discard
        self._hedges_left = hedge.max
        self._running: dict[asyncio.Task[T], Next] = {}
        self._failure: LLMError | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> tuple[Next, T]:
        """Return the attempt that won and its result. Raises the error to report."""
        attempt = self._attempts.first()
        winner: tuple[Next, T] | None = None
        try:
            while winner is None:
                if attempt.wait_s > 0:
                    await asyncio.sleep(attempt.wait_s)
                    attempt = self._attempts.resumed(attempt)
                self._start(attempt)
                winner = await self._heat()
                if winner is None:
                    attempt = self._attempts.next()
        finally:
            await self._stop(winner)
        return winner

    async def _heat(self) -> tuple[Next, T] | None:
        """Wait for the first success, with hedges beside those that are slow; None when all attempts have failed."""
        hedge_at: float | None = self._loop.time() + self._hedge.after
        while self._running:
            if self._hedges_left <= 0:
                hedge_at = None
            patience = None if hedge_at is None else max(0.0, hedge_at - self._loop.time())
            done, _ = await asyncio.wait(self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in self._running if one in done]:
                attempt = self._running.pop(task)
                try:
                    return attempt, task.result()
                except LLMError as error:
                    self._failure = error
                    self._attempts.failed(error, attempt)
            if not done:
                hedge_at = self._loop.time() + self._hedge.after if self._add() else None
        return None

    def _add(self) -> bool:
        """Start an attempt beside those that are slow; False when there can't be one."""
        slow = next(iter(self._running.values()))
        beside = self._attempts.hedge(slow, same_target=self._hedge.same_target)
        if beside is None:
            return False
        self._hedges_left -= 1
        self._start(beside)
        return True

    def _start(self, attempt: Next) -> None:
        # Only the failure of all attempts so far is followed by one; a hedge follows none.
        after = None if self._running else self._failure
        self._running[asyncio.create_task(self._begin(attempt, after))] = attempt

    async def _stop(self, winner: tuple[Next, T] | None) -> None:
        """Cancel what is still running and wait until its sockets are closed."""
        rest = list(self._running.items())
        self._running.clear()
        for task, attempt in rest:
            attempt.lost = winner is not None
            task.cancel()
        try:
            results = await asyncio.gather(*(task for task, _ in rest), return_exceptions=True)
        except BaseException:
            if winner is not None:
                self._discard(winner[1])
            raise
        for result in results:
            if not isinstance(result, BaseException):
                self._discard(result)
