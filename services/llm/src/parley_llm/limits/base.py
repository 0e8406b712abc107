"""What the parts of this package hand each other: a caller's limits, where they stand, and being over one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from parley_llm.errors import RateLimitedError

MINUTE_S = 60.0
CONCURRENCY_RETRY_S = 1.0
"""What a caller with too many calls in work is told to wait: nobody knows when one of them ends."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A caller's limits as configured; None means unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    max_wait_s: float = 0.0
    """How long a call over a limit waits before it is refused."""
    max_waiting: int = 100
    """How many calls may wait at a time."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return not (self.requests_per_minute is self.tokens_per_minute is self.concurrency is None)


class Level(NamedTuple):
    """Where a limit per minute stands: `reset_s` seconds from now it is unused again if nothing uses it."""

    limit: int
    reset_s: float

    @property
    def remaining(self) -> int:
        """The whole amount that is left now; 0 when the limit is overdrawn."""
        return max(0, int(self.limit - self.reset_s * self.limit / MINUTE_S + 1e-6))


class Standing(NamedTuple):
    """Where a caller's limits stand; a level is None where there is no limit."""

    requests: Level | None = None
    tokens: Level | None = None
    running: int = 0
    """The caller's calls in work."""


NO_LIMITS = Standing()


class Admission(NamedTuple):
    """A call that was let in, to be handed back when it ends."""

    standing: Standing
    call_id: str = ""
    """Its name among the running calls in Redis; empty when it isn't counted there."""


class OverLimitError(RateLimitedError):
    """A call is over one of the caller's limits; `standing` tells them all."""

    def __init__(self, caller: str, limit: str, wait_s: float, standing: Standing) -> None:
        super().__init__(
            f"The limit {limit} of caller {caller!r} is used up.",
            retry_after_s=wait_s,
            metadata={"limit": limit, "caller": caller},
        )
        self.limit = limit
        self.wait_s = wait_s
        self.standing = standing


class Limits(Protocol):
    """Lets calls of one caller in."""

    async def enter(self, within_s: float) -> Admission:
        """Let a call in that ends within so many seconds. Raises OverLimitError; each admission needs one `leave`."""

    def leave(self, admission: Admission, tokens: int) -> None:
        """End a call that used so many tokens."""


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Observer:
    """Is told what operators want to see; everything is called in the event loop's thread."""

    waited: Callable[[str, float], None] = _ignore
    """A call of a caller waited so many seconds for its limits, whether it was let in then or not."""
    waiting: Callable[[int], None] = _ignore
    """One more call waits (1), or one less (-1)."""
    store_up: Callable[[bool], None] = _ignore
    """Redis answers, or stopped to."""
