"""A value that all replicas share through the store and that one of them at a time makes anew."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from parley_gateway.errors import DeliveryError, TransientDeliveryError
from parley_gateway.store.base import Cache

LOCK_S = 20.0
"""How long making a value may take; afterwards another process may try."""

_POLL_S = 0.05


class SharedValue:
    """A cached value with single flight: however many ask at once, one makes it and the others wait for that.

    It is renewed `renew_before_s` before it ends. Until then who doesn't renew it goes on with the old one.
    """

    def __init__(
        self,
        cache: Cache,
        key: str,
        make: Callable[[], Awaitable[tuple[str, float]]],
        *,
        renew_before_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`make` returns a new value and for how many seconds it is valid."""
        self._cache = cache
        self._key = key
        self._make = make
        self._renew_before_s = renew_before_s
        self._clock = clock

    async def get(self) -> str:
        """Return the value, making it when needed.

        Raises
            DeliveryError: making it failed.
            TransientDeliveryError: making it, here or in another process, took too long.
            StoreUnavailableError: the store can't be used.
        """
        owner = uuid.uuid4().hex
        try:
            async with asyncio.timeout(LOCK_S):
                while True:
                    value, due = await self._cached()
                    if not due:
                        return value
                    if await self._cache.try_lock(self._key, owner, now=self._clock(), ttl_s=LOCK_S):
                        return await self._renew(owner)
                    if value:
                        return value
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as exc:
            raise TransientDeliveryError(f"{self._key} couldn't be made within {LOCK_S:g} s", "timeout") from exc

    async def make(self) -> str:
        """Make a new value, past the cache, and share it. Raises DeliveryError."""
        value, lifetime_s = await self._make()
        await self._cache.cache_put(self._key, value, expires_at=self._clock() + lifetime_s)
        return value

    async def discard(self, value: str) -> None:
        """Forget the value if it is still this one."""
        await self._cache.cache_delete(self._key, value)

    async def _cached(self) -> tuple[str, bool]:
        """Return the cached value (empty when there is none) and whether a new one is due."""
        now = self._clock()
        found = await self._cache.cache_get(self._key, now=now)
        if found is None:
            return "", True
        value, expires_at = found
        return value, expires_at - now <= self._renew_before_s

    async def _renew(self, owner: str) -> str:
        """Make the value unless somebody did while we waited for the lock.

        When a still valid one can't be renewed it goes on being used, and the lock is left to run out: whoever makes
        the value isn't asked again at once.
        """
        old, due = await self._cached()
        give_back = True
        try:
            return await self.make() if due else old
        except DeliveryError:
            if not old:
                raise
            give_back = False
            return old
        finally:
            if give_back:
                await self._cache.unlock(self._key, owner)
