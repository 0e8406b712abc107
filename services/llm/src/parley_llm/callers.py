"""Who calls: keys and allowed models. What a caller may use and has used is its account, in `limits`."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from parley_llm.errors import UnauthenticatedError, model_not_found
from parley_llm.limits.account import Account


@dataclass(slots=True)
class Caller:
    """An application that may call; `models` None means all of them."""

    name: str
    account: Account
    models: frozenset[str] | None = None
    apps: frozenset[str] = frozenset()
    """Names of its parts that are counted by themselves."""

    def may_use(self, alias: str) -> bool:
        """Tell whether an alias is among the caller's models."""
        return self.models is None or alias in self.models

    def check_model(self, alias: str, name: str) -> None:
        """Raise ModelNotFoundError unless the caller may use the alias: what isn't allowed doesn't exist."""
        if not self.may_use(alias):
            raise model_not_found(name)


@dataclass(frozen=True, slots=True)
class CallerKey:
    """The SHA-256 of a key, and when it stops to work."""

    digest: bytes = field(repr=False)
    caller: Caller
    expires: datetime | None = None


ANONYMOUS = "anonymous"


class CallerDirectory:
    """Finds the caller of a key. Without any configured caller, everybody is the caller `anonymous`."""

    def __init__(
        self, keys: Sequence[CallerKey], anonymous: Caller, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._keys = {key.digest: key for key in keys}
        self._anonymous = anonymous
        self._now = now

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
