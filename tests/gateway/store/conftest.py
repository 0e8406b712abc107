"""Fixtures: a store over each backend, opened, and closed after the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from parley_gateway.store.base import Store, StoreLimits

from tests.gateway.store.backends import BACKENDS, Backend
from tests.gateway.store.building import Clock

MakeStore = Callable[..., Awaitable[Store]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


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
