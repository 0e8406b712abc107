"""The body of a request to an upstream that is too large to be held in memory as bytes.

Such a body can be read from its start any number of times, so that a failed attempt may be repeated.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

PIECE = 64 * 1024


class Upload(Protocol):
    """A body of known length that is sent piece by piece."""

    @property
    def length(self) -> int:
        """The length of the whole body in bytes."""

    @property
    def content_type(self) -> str:
        """The media type, with its parameters."""

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the whole body from its start in pieces of at most about `PIECE` bytes; to be closed when left early."""
