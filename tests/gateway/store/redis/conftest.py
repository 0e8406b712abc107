"""Servers of a test's own, and stores over them in real time."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from parley_common.redis_address import parse_store
from parley_gateway.store.base import StoreLimits
from parley_gateway.store.redis import RedisStore
from parley_gateway.store.redis.store import RedisOptions

from tests.fakes.redis_server import RedisServer, run_redis
from tests.gateway.store.backends import PATIENT_S
from tests.gateway.store.building import Clock

PATIENT = RedisOptions(command_s=PATIENT_S)
OpenStore = Callable[..., "AsyncIterator[RedisStore]"]


@asynccontextmanager
async def opened(
    url: str,
    options: RedisOptions = PATIENT,
    limits: StoreLimits | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[RedisStore]:
    """Open a store while the block runs."""
    store = RedisStore(parse_store(url), limits, clock or Clock(), options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server that the test may hurt; it keeps what it is given, as the guarantees need it."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(run_redis(tmp_path / "redis", "appendonly yes"))
