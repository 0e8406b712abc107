"""Small shared values, locks and totals: each chooses its partition by its own name."""

from parley_gateway.store.base import partition_of
from parley_gateway.store.redis import scripts
from parley_gateway.store.redis.calls import Call, Value
from parley_gateway.store.redis.keys import milliseconds, of
from parley_gateway.store.redis.link import Link
from parley_gateway.store.redis.scripts import Script


class Cache:
    """Reads and writes them."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def get(self, name: str, *, now: float) -> tuple[str, float] | None:
        """Return value and expiry time."""
        value, expires_at = await self._fields(name, "cache", "value")
        return (value.decode(), expires_at) if value is not None and expires_at > now else None

    async def put(self, name: str, value: str, *, now: float, expires_at: float) -> None:
        """Set a value."""
        await self._run(scripts.CACHE_PUT, name, "cache", value, expires_at, milliseconds(expires_at - now))

    async def delete(self, name: str, value: str) -> None:
        """Delete a name if it still holds this value."""
        await self._run(scripts.CACHE_DELETE, name, "cache", value)

    async def try_lock(self, name: str, owner: str, *, now: float, ttl_s: float) -> bool:
        """Take or extend a lock unless somebody else holds it."""
        return await self._run(scripts.TRY_LOCK, name, "lock", owner, now, now + ttl_s, milliseconds(ttl_s)) == 1

    async def unlock(self, name: str, owner: str) -> None:
        """Give a lock back if the owner holds it."""
        await self._run(scripts.UNLOCK, name, "lock", owner)

    async def count(self, name: str, amount: int, *, now: float, expires_at: float) -> int:
        """Add to a total and return it."""
        return await self._run(scripts.COUNT, name, "total", amount, now, expires_at, milliseconds(expires_at - now))

    async def counted(self, name: str, *, now: float) -> int:
        """Return a total, 0 when there is none."""
        total, expires_at = await self._fields(name, "total", "total")
        return int(total) if total is not None and expires_at > now else 0

    async def _fields(self, name: str, kind: str, field: str) -> tuple[bytes | None, float]:
        value, expires_at = await self._link.command(partition_of(name), "HMGET", of(name, kind), field, "expires_at")
        return value, float(expires_at or 0)

    async def _run(self, script: Script, name: str, kind: str, *arguments: Value) -> int:
        answer: int = await self._link.call(Call(script, partition_of(name), (of(name, kind),), arguments))
        return answer
