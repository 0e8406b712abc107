"""The stores that the contract suite runs against. A new store adds a class and a line in `conftest.py`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.redis.store import RedisOptions
from parley_gateway.store.sqlite import SqliteStore
from redis import Redis

from tests.gateway.store.aging import AgingRedisStore, ServerTime

PATIENT_S = 10.0
"""Where a test isn't about a slow Redis, a busy machine must not look like one."""


class Backend(Protocol):
    """One place where data is kept, and stores over it."""

    shared: bool
    """Whether several stores may be open over it at the same time."""

    def create(self, limits: StoreLimits, clock: Callable[[], float]) -> Store:
        """Return a store over the same data, not opened yet."""

    async def crash(self, store: Store) -> None:
        """Let the process of a shared store die."""


class SqliteBackend:
    """A file in a folder of its own."""

    shared = False

    def __init__(self, folder: Path) -> None:
        self.path = folder / "parley.db"

    def create(self, limits: StoreLimits, clock: Callable[[], float]) -> SqliteStore:
        return SqliteStore(self.path, limits, clock)

    async def crash(self, store: Store) -> None:
        raise NotImplementedError("see sqlite/test_crash.py")


class RedisBackend:
    """A server or a cluster that is emptied first."""

    shared = True

    def __init__(self, url: str, options: RedisOptions | None = None, *, nodes: Sequence[str] = ()) -> None:
        """`nodes` are the servers of a cluster, each with a URL of its own."""
        for each in nodes or (url,):
            with Redis.from_url(each) as client:
                client.flushall()
        self._url = url
        self._server = ServerTime(nodes or (url,))
        self._options = options or RedisOptions(command_s=PATIENT_S)

    def create(self, limits: StoreLimits, clock: Callable[[], float]) -> AgingRedisStore:
        return AgingRedisStore(self._url, self._server, limits, clock, self._options)

    async def crash(self, store: Store) -> None:
        assert isinstance(store, AgingRedisStore)
        store._owners.clear()  # A process that dies gives nothing back.
        await store.close()
