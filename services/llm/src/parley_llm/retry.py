"""When to try again: back-off with full jitter, the retry budget of an upstream, the circuit of a target.

Time comes in as numbers (seconds of a monotonic clock), so that nothing here waits and tests need no clock.
"""

from dataclasses import dataclass

BUDGET_RESERVE = 10.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a model's calls are repeated. Seconds; `budget` is the share of calls that may be repetitions.

    A failure later than `late` after its attempt began is not followed by another attempt; None sets no such limit.
    """

    max_attempts: int = 3
    backoff_initial: float = 0.5
    backoff_max: float = 8.0
    retry_after_max: float = 30.0
    budget: float = 0.2
    late: float | None = None

    def backoff(self, tries: int, chance: float) -> float:
        """Return the wait after the `tries`-th failure, for `chance` from [0, 1): full jitter, as AWS names it."""
        return chance * min(self.backoff_max, self.backoff_initial * 2.0 ** (tries - 1))


class RetryBudget:
    """Keeps repetitions a bounded share of calls, so that an upstream in trouble isn't flooded by them.

    Each call that reaches the upstream earns a share of a repetition; a reserve of ten lets a quiet service repeat at
    all.
    """

    __slots__ = ("_balance",)

    def __init__(self) -> None:
        self._balance = BUDGET_RESERVE

    def earn(self, share: float) -> None:
        """Count a call that reaches the upstream."""
        self._balance = min(BUDGET_RESERVE, self._balance + share)

    def affords(self, share: float) -> bool:
        """Tell whether a repetition may be paid: not when the budget is used up or the model allows none."""
        return share > 0 and self._balance >= 1

    def spend(self, share: float) -> bool:
        """Pay for a repetition; False when it can't be afforded."""
        if not self.affords(share):
            return False
        self._balance -= 1
        return True


class Circuit:
    """Opens after a number of failures in a row; then lets one call through each `open_for` seconds."""

    CLOSED, HALF_OPEN, OPEN = 0, 1, 2
    __slots__ = ("_failures", "_limit", "_open_for", "_reopens_at")

    def __init__(self, limit: int, open_for: float) -> None:
        self._limit = limit
        self._open_for = open_for
        self._failures = 0
        self._reopens_at = 0.0

    def state(self, now: float) -> int:
        """Return CLOSED, HALF_OPEN or OPEN."""
        if self._failures < self._limit:
            return self.CLOSED
        return self.OPEN if now < self._reopens_at else self.HALF_OPEN

    def wait(self, now: float) -> float:
        """Return the seconds until a call may pass; 0 when it may now."""
        return self._reopens_at - now if self.state(now) == self.OPEN else 0.0

    def enter(self, now: float) -> None:
        """Note that a call passes. While half open it is the only one until `open_for` has gone by."""
        if self.state(now) == self.HALF_OPEN:
            self._reopens_at = now + self._open_for

    def succeeded(self) -> None:
        """Note an answer of any kind that shows the target to work."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """Note a failure of the target.

        While the circuit is open these are calls that began before: old news, which must not keep it open for longer.
        """
        if self.state(now) == self.OPEN:
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._reopens_at = now + self._open_for
