"""End-to-end tests run real processes; each gets a folder of its own and the plain stack unless it asks for more."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, start_stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with start_stack(tmp_path) as stack:
        yield stack
