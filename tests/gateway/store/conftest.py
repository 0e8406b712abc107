"""Fixtures: a store over each backend, opened, and closed after the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from parley_gateway.store.base import Store, StoreLimits

from tests.fakes.redis_server import RedisServer, run_cluster, run_redis
from tests.gateway.store.backends import Backend, RedisBackend, SqliteBackend
from tests.gateway.store.building import Clock

MakeStore = Callable[..., Awaitable[Store]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """One server for the tests that don't hurt it; each finds it empty."""
    async with run_redis(Path(tmp_path_factory.mktemp("redis")), "appendonly yes", "appendfsync no") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[RedisServer]]:
    """One cluster of three nodes for the tests that don't hurt it."""
    async with run_cluster(Path(tmp_path_factory.mktemp("cluster"))) as servers:
        yield servers


@pytest.fixture(params=["redis", "sqlite", pytest.param("cluster", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    if request.param == "cluster":
        nodes: list[RedisServer] = request.getfixturevalue("shared_cluster")
        url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
        return RedisBackend(url, nodes=[node.url for node in nodes])
    server: RedisServer = request.getfixturevalue("shared_redis")
    return RedisBackend(server.url)


@pytest.fixture
async def make_store(backend: Backend, clock: Clock) -> AsyncIterator[MakeStore]:
    """Open stores over the same data; a store given as `instead_of` is closed first."""
    opened: list[Store] = []

    async def make(limits: StoreLimits | None = None, *, instead_of: Store | None = None) -> Store:
        if instead_of is not None:
            await instead_of.close()
            opened.remove(instead_of)
        store = backend.create(limits or StoreLimits(), clock)
        await store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.close()


@pytest.fixture
async def store(make_store: MakeStore) -> Store:
    return await make_store()
