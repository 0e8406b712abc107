"""Waiting for what happens in other processes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], T], *, within_s: float = 20.0) -> T:
    """Return the first true value that `look` returns; fail after the time."""
    last: T | None = None
    try:
        async with asyncio.timeout(within_s):
            while not (last := look()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"nothing within {within_s:g} s; last seen: {last!r}") from None
    return last
