"""The sections `llm.callers`: who may call, and how much."""

import hashlib
from datetime import UTC, date, datetime
from typing import Annotated

from parley_common.settings import Duration, Section
from pydantic import AfterValidator, Field, SecretStr

from parley_llm.config.values import MOST, AppName, Secret, some


class HashedKey(Section):
    """A caller's key known by its hash only."""

    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the key, in hexadecimal.")
    expires: datetime | date | None = Field(None, description="When the key stops to work; a date: its start in UTC.")

    def expiry(self) -> datetime | None:
        """Return the moment of expiry with a time zone."""
        if self.expires is None:
            return None
        if not isinstance(self.expires, datetime):
            return datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)


def key_digest(key: SecretStr | HashedKey) -> bytes:
    """Return the SHA-256 by which a caller's key is known."""
    if isinstance(key, HashedKey):
        return bytes.fromhex(key.sha256)
    return hashlib.sha256(key.get_secret_value().strip().encode()).digest()


class CallerSettings(Section):
    """An application that may call."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9_.-]{0,62}$", description="Name in logs and metrics.")
    keys: Annotated[tuple[Secret | HashedKey, ...], AfterValidator(some)] = Field(
        description="Keys: plain, or {sha256, expires}."
    )
    models: tuple[str, ...] = Field((), description="Aliases the caller may use; empty means all.")
    apps: tuple[AppName, ...] = Field(
        (), description="Names in `x-parley-app` that metrics count by themselves, such as bots; others are `other`."
    )
    requests_per_minute: int | None = Field(None, ge=1, le=MOST, description="Calls a minute.")
    tokens_per_minute: int | None = Field(None, ge=1, le=MOST, description="Tokens a minute, counted as calls end.")
    concurrency: int | None = Field(None, ge=1, le=MOST, description="Calls at a time.")
    max_wait: Duration = Field(
        0.0, description="How long a call over a limit waits instead of being refused; clipped to its deadline."
    )
    max_waiting: int = Field(100, ge=1, description="Calls that may wait so at a time, counted by this process.")
