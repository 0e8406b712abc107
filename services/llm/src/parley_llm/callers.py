"""Who calls: keys, allowed models, and each caller's own limits (held by this process)."""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from parley_llm.errors import RateLimitedError, UnauthenticatedError, model_not_found


class MinuteBucket:
    """Allows an amount per minute. A charge may overdraw it; then it refuses until it is positive again."""

    __slots__ = ("_balance", "_clock", "_limit", "_then")

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._balance = float(limit)
        self._then = clock()

    def wait(self, amount: float) -> float:
        """Return the seconds until `amount` is there; 0 when it is."""
        now = self._clock()
        self._balance = min(float(self._limit), self._balance + (now - self._then) * self._limit / 60)
        self._then = now
        return max(0.0, (amount - self._balance) * 60 / self._limit)

    def charge(self, amount: float) -> None:
        """Take an amount out."""
        self._balance -= amount

    @property
    def limit(self) -> int:
        """The amount per minute."""
        return self._limit

    def remaining(self) -> int:
        """Return the whole amount that is there now, 0 when it is overdrawn."""
        self.wait(0)
        return max(0, int(self._balance))


@dataclass(slots=True)
class Limits:
    """A caller's limits; None means unlimited."""

    requests: MinuteBucket | None = None
    tokens: MinuteBucket | None = None
    concurrency: int | None = None
    running: int = 0
    requests_used: int = 0
    """Calls that began, since the process started."""
    tokens_used: int = 0
    """Tokens of the calls that ended, since the process started."""

    def exceeded(self) -> tuple[str, float | None] | None:
        """Return the limit that refuses a call now and the wait it asks for, if known."""
        if self.concurrency is not None and self.running >= self.concurrency:
            return "concurrency", 1.0
        if self.requests is not None and (wait := self.requests.wait(1)):
            return "requests_per_minute", wait
        if self.tokens is not None and (wait := self.tokens.wait(1)):
            return "tokens_per_minute", wait
        return None


@dataclass(slots=True)
class Caller:
    """An application that may call; `models` None means all of them."""

    name: str
    models: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)

    def may_use(self, alias: str) -> bool:
        """Tell whether an alias is among the caller's models."""
        return self.models is None or alias in self.models

    def check_model(self, alias: str, name: str) -> None:
        """Raise ModelNotFoundError unless the caller may use the alias: what isn't allowed doesn't exist."""
        if not self.may_use(alias):
            raise model_not_found(name)

    def enter(self) -> None:
        """Start a call within the limits. Raises RateLimitedError; each entry needs one `leave`."""
        refusal = self.limits.exceeded()
        if refusal is not None:
            limit, wait = refusal
            raise RateLimitedError(
                f"The limit {limit} of caller {self.name!r} is used up.",
                retry_after_s=wait,
                metadata={"limit": limit, "caller": self.name},
            )
        if self.limits.requests is not None:
            self.limits.requests.charge(1)
        self.limits.running += 1
        self.limits.requests_used += 1

    def leave(self, tokens: int) -> None:
        """End a call that used so many tokens."""
        self.limits.running -= 1
        self.limits.tokens_used += tokens
        if self.limits.tokens is not None:
            self.limits.tokens.charge(tokens)


@dataclass(frozen=True, slots=True)
class CallerKey:
    """The SHA-256 of a key, and when it stops to work."""

    digest: bytes = field(repr=False)
    caller: Caller
    expires: datetime | None = None


ANONYMOUS = "anonymous"


class CallerDirectory:
    """Finds the caller of a key. Without any configured caller, everybody is the caller `anonymous`."""

    def __init__(self, keys: Sequence[CallerKey], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._keys = {key.digest: key for key in keys}
        self._now = now
        self._anonymous = Caller(ANONYMOUS)

    @property
    def open(self) -> bool:
        """Tell that no caller is configured."""
        return not self._keys

    def authenticate(self, authorization: str) -> Caller:
        """Return the caller of an `Authorization` value. Raises UnauthenticatedError.

        What is looked up is a digest, so the time the look-up takes tells nothing about any key.
        """
        if not self._keys:
            return self._anonymous
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthenticatedError("A key is needed: send 'Authorization: Bearer <key>'.")
        digest = hashlib.sha256(key.strip().encode()).digest()
        known = self._keys.get(digest)
        if known is None or not hmac.compare_digest(known.digest, digest):
            raise UnauthenticatedError("The key is unknown.")
        if known.expires is not None and known.expires <= self._now():
            raise UnauthenticatedError("The key has expired.")
        return known.caller
