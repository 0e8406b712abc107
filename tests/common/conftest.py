"""A fresh world for each test, and no trace of one test's logging in the next."""

import logging
from collections.abc import AsyncGenerator, Generator

import pytest
import pytest_asyncio
import structlog

from tests.common.echo import World, serving


@pytest_asyncio.fixture
async def world() -> AsyncGenerator[World, None]:
    async with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _logging_restored() -> Generator[None, None, None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Not the default, which draws tracebacks with every local variable: that takes long.
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
