"""A Redis store in a time that the test makes up: the server's clock goes along with the times that calls are given.

Redis deletes keys by its own clock. When a call comes with a later time than the last one, all keys are made older by
the difference first, exactly as if the server had lived through it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from parley_common.redis_address import parse_store
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.redis import RedisStore
from parley_gateway.store.redis.store import RedisOptions
from redis.asyncio import Redis

NOTHING_LEFT_MS = 500
"""Less than this is what the test itself took."""
_TIMED = (
    *("accept", "lease", "renew", "complete", "expire", "expire_older", "stats", "replay", "history", "claim_part"),
    *("unread", "cache_get", "try_lock", "put_blob", "get_blob", "clean", "count", "counted", "add_trail"),
)


class ServerTime:
    """What time it is for the keys of one server, or of a cluster's."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._now = 0.0
        self._really = time.monotonic()

    def begin(self, now: float) -> None:
        """Note what time it is, before any call says it."""
        self._now = self._now or now

    async def pass_until(self, now: float) -> None:
        """Make every key older by the time since the last call."""
        before, self._now = self._now or now, max(now, self._now)
        passed_ms = round((self._now - before) * 1000)
        if not passed_ms:
            return
        # The time that the test itself took is none of its story.
        really_ms, self._really = round((time.monotonic() - self._really) * 1000), time.monotonic()
        for url in self._urls:
            await self._age(url, passed_ms - really_ms)

    async def _age(self, url: str, by_ms: int) -> None:
        async with Redis.from_url(url) as client:
            async for name in client.scan_iter(count=1000):
                left_ms = await client.pttl(name)
                if left_ms < 0:
                    continue
                left_ms -= by_ms
                if left_ms < NOTHING_LEFT_MS:
                    await client.delete(name)
                else:
                    await client.pexpire(name, left_ms)


class AgingRedisStore(RedisStore):
    """A store whose calls with a time make its server that old first."""

    def __init__(
        self, url: str, server: ServerTime, limits: StoreLimits, clock: Callable[[], float], options: RedisOptions
    ) -> None:
        super().__init__(parse_store(url), limits, clock, options)
        self._server = server
        server.begin(clock())


def _aging(name: str) -> Callable[..., Any]:
    plain = getattr(RedisStore, name)

    async def method(self: AgingRedisStore, *arguments: Any, **named: Any) -> Any:
        await self._server.pass_until(named["now"])
        return await plain(self, *arguments, **named)

    return method


for _name in _TIMED:
    setattr(AgingRedisStore, _name, _aging(_name))
