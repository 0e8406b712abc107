"""Limits counted by this process alone."""

import time
from collections.abc import Callable

from parley_llm.limits.base import CONCURRENCY_RETRY_S, NO_LIMITS, Admission, Allowance, OverLimitError, Standing
from parley_llm.limits.bucket import MinuteBucket

_UNLIMITED = Admission(NO_LIMITS)


class LocalLimits:
    """The limits of one caller in this process."""

    __slots__ = ("_caller", "_clock", "_concurrency", "_limited", "_requests", "_running", "_tokens")

    def __init__(
        self,
        caller: str,
        allowance: Allowance,
        before: "LocalLimits | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count; what `before` counted goes on where its limit was the same."""
        self._caller = caller
        self._clock = clock
        self._concurrency = allowance.concurrency
        self._limited = allowance.limited
        kept_requests = before._requests if before else None
        kept_tokens = before._tokens if before else None
        self._requests: MinuteBucket | None = _bucket(allowance.requests_per_minute, kept_requests, clock())
        self._tokens: MinuteBucket | None = _bucket(allowance.tokens_per_minute, kept_tokens, clock())
        # Calls that began under the limits before end under them, and count here meanwhile.
        self._running: _Running = before._running if before else _Running()

    async def enter(self, within_s: float) -> Admission:
        """Let a call in; `within_s` is for limits that outlive this process. Raises OverLimitError."""
        return self.take()

    def take(self) -> Admission:
        """Let a call in. Raises OverLimitError; each admission needs one `leave`."""
        if not self._limited:
            self._running.calls += 1
            return _UNLIMITED
        now = self._clock()
        self._check(now)
        self._count(now)
        return Admission(self._standing(now))

    def leave(self, admission: Admission, tokens: int) -> None:
        """End a call that used so many tokens."""
        self._running.calls -= 1
        if self._tokens is not None:
            self._tokens.charge(tokens, self._clock())

    def count(self) -> None:
        """Count a call that was let in, whatever the limits say."""
        self._count(self._clock())

    def standing(self) -> Standing:
        """Return where the limits stand."""
        return self._standing(self._clock())

    def _count(self, now: float) -> None:
        self._running.calls += 1
        if self._requests is not None:
            self._requests.charge(1, now)

    def _standing(self, now: float) -> Standing:
        requests, tokens = self._requests, self._tokens
        return Standing(
            None if requests is None else requests.level(now),
            None if tokens is None else tokens.level(now),
            self._running.calls,
        )

    def _check(self, now: float) -> None:
        limit, wait_s = "", 0.0
        if self._concurrency is not None and self._running.calls >= self._concurrency:
            limit, wait_s = "concurrency", CONCURRENCY_RETRY_S
        elif self._requests is not None and (wait := self._requests.wait(1, now)):
            limit, wait_s = "requests_per_minute", wait
        elif self._tokens is not None and (wait := self._tokens.wait(1, now)):
            limit, wait_s = "tokens_per_minute", wait
        if limit:
            raise OverLimitError(self._caller, limit, wait_s, self._standing(now))


class _Running:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


def _bucket(limit: int | None, before: MinuteBucket | None, now: float) -> MinuteBucket | None:
    if limit is None:
        return None
    return before if before is not None and before.limit == limit else MinuteBucket(limit, now)
