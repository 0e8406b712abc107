"""Types of options that every platform has: secrets, the API's address, a proxy."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip():
        raise ValueError("must not be empty: set it, or leave the option out where it is optional")
    if text != text.strip():
        raise ValueError("must not begin or end with white space")
    return value


def address_like(example: str) -> AfterValidator:
    """Return the check of an API's address, http or https, perhaps with a path, without credentials.

    The address is kept without a slash at its end.
    """

    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be an address such as {example}")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(f"must be an address without credentials or query, such as {example}")
        return value.rstrip("/")

    return AfterValidator(check)


def _proxy_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an address such as http://proxy:3128")
    return value


Secret = Annotated[SecretStr, AfterValidator(_secret)]
"""Not empty, no white space around it."""

ProxyURL = Annotated[str, AfterValidator(_proxy_url)]
"""The address of an HTTP proxy, or empty."""
