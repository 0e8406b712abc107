"""The store's `Cache` in memory, for tests of one process."""

from parley_gateway.errors import StoreUnavailableError


class MemoryCache:
    """Keeps values and locks; with `down` set it fails like a store that can't be reached."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[str, float]] = {}
        self.locks: dict[str, tuple[str, float]] = {}
        self.down = False

    async def cache_get(self, key: str, *, now: float) -> tuple[str, float] | None:
        self._check()
        found = self.values.get(key)
        return found if found and found[1] > now else None

    async def cache_put(self, key: str, value: str, *, expires_at: float) -> None:
        self._check()
        self.values[key] = (value, expires_at)

    async def cache_delete(self, key: str, value: str) -> None:
        self._check()
        if key in self.values and self.values[key][0] == value:
            del self.values[key]

    async def try_lock(self, key: str, owner: str, *, now: float, ttl_s: float) -> bool:
        self._check()
        holder, expires_at = self.locks.get(key, (owner, 0.0))
        if holder != owner and expires_at > now:
            return False
        self.locks[key] = (owner, now + ttl_s)
        return True

    async def unlock(self, key: str, owner: str) -> None:
        if self.locks.get(key, ("", 0.0))[0] == owner:
            del self.locks[key]

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailableError("the store is down")
