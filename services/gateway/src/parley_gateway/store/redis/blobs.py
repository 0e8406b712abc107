"""Bytes by reference, each under a key of its own that a reference's hash puts into a partition; and their quota.

The quota is one account for all, in one partition. Room is taken there before the bytes are stored: a process that dies
between the two leaves room taken until the blob would have ended.
"""

import secrets

from parley_gateway.errors import BlobQuotaError
from parley_gateway.store.base import StoreLimits, partition_of
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.calls import Call
from parley_gateway.store.redis.keys import key, milliseconds, of
from parley_gateway.store.redis.link import Link

TIMES_LONGER = 5
"""Bytes may take so many times longer on their way than other calls."""
ENDED = 1_000
"""Blobs that ended and whose room one call gives back."""

_ACCOUNT = 0
_ACCOUNT_KEYS = tuple(key(_ACCOUNT, name) for name in ("blob_expiry", "blob_sizes", "blob_bytes"))


class Blobs:
    """Stores and returns bytes."""

    def __init__(self, link: Link, limits: StoreLimits) -> None:
        self._link = link
        self._limits = limits

    async def put(self, data: bytes, *, mime: str, now: float, lane: str) -> str:
        """Store bytes and return their reference. Raises BlobQuotaError."""
        ref, ttl = secrets.token_urlsafe(16), milliseconds(self._limits.blob_ttl_s)
        expires_at, quota = now + self._limits.blob_ttl_s, self._limits.blob_quota_bytes
        used, fits = await self._link.call(
            Call(scripts.RESERVE_BLOB, _ACCOUNT, _ACCOUNT_KEYS, (ref, len(data), expires_at, now, quota, ttl, ENDED))
        )
        if not fits:
            raise BlobQuotaError(f"{len(data)} bytes don't fit: {used} of {quota} bytes for blobs are in use")
        if lane:
            conversation = lane.partition("#")[0].rstrip("!")
            owned = (of(conversation, "blobs"),)
            await self._link.call(Call(scripts.OWN_BLOB, partition_of(conversation), owned, (ref, lane, ttl)))
        await self._link.call(
            Call(scripts.PUT_BLOB, partition_of(ref), (of(ref, "blob"),), (data, mime, expires_at, ttl)),
            times_longer=TIMES_LONGER,
        )
        return ref

    async def get(self, ref: str, *, now: float) -> tuple[bytes, str] | None:
        """Return bytes and media type."""
        call = Call(scripts.GET_BLOB, partition_of(ref), (of(ref, "blob"),))
        data, mime, expires_at = await self._link.call(call, times_longer=TIMES_LONGER)
        return (data, mime.decode()) if data is not None and float(expires_at) > now else None

    async def delete(self, ref: str) -> None:
        """Forget bytes and give their room back."""
        await self._link.command(partition_of(ref), "DEL", of(ref, "blob"))
        await self._link.call(Call(scripts.FREE_BLOB, _ACCOUNT, _ACCOUNT_KEYS, (ref,)))
