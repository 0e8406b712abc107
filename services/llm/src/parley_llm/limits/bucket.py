"""A limit per minute that refills continuously (a token bucket), kept as the one moment at which it is full again.

The scripts for Redis keep the same number; see `scripts`. Whoever asks says what time it is, in seconds of one clock.
"""

from parley_llm.limits.base import MINUTE_S, Level

_ROUNDING_S = 1e-6


class MinuteBucket:
    """Allows an amount per minute. A charge may overdraw it; then it refuses until it is positive again."""

    __slots__ = ("_each_s", "_full_at", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._each_s = MINUTE_S / limit
        self._full_at = now

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until `amount` is there; 0 when it is."""
        reset = self._full_at - now
        wait = (reset if reset > 0 else 0.0) + amount * self._each_s - MINUTE_S
        return wait if wait > _ROUNDING_S else 0.0

    def charge(self, amount: float, now: float) -> None:
        """Take an amount out."""
        self._full_at = (self._full_at if self._full_at > now else now) + amount * self._each_s

    def level(self, now: float) -> Level:
        """Return where the limit stands."""
        reset = self._full_at - now
        return Level(self.limit, reset if reset > 0 else 0.0)
