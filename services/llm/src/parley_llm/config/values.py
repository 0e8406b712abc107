"""Kinds of values that several sections have."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, SecretStr

PASS_THROUGH = "*"  # noqa: S105 - an alias, not a password
DEFAULT_ALIAS = "default"
MOST = 10**9
Entry = TypeVar("Entry")


def _not_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("must not be empty: set the variable or file it comes from, or remove the entry")
    if any(character in secret.get_secret_value() for character in "\r\n\0"):
        raise ValueError("must be a single line")
    return secret


def some(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Refuse an empty list."""
    # Unlike `min_length`, this does not complain a second time when an entry itself is wrong.
    if not entries:
        raise ValueError("must have at least 1 entry")
    return entries


UpstreamName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
AppName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Alias = Annotated[str, Field(pattern="^[!-~]{1,128}$")]  # It goes into headers; models have names like org/model:8b.
Secret = Annotated[SecretStr, AfterValidator(_not_empty)]
