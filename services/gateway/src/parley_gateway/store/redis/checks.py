"""Looks at start whether the server is what the guarantees need: version, memory policy, append-only file."""

import logging
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.redis.calls import Copies
from parley_gateway.store.redis.link import Link

logger = logging.getLogger(__name__)

OLDEST = (7, 0)
WAITAOF = (7, 2)
"""The first version that knows the command."""

OnCheck = Callable[[str, bool], None]
"""Told the name of a check and whether the server passed it."""

_WANTED = {
    "maxmemory-policy": ("noeviction", "a full server would throw messages away instead of refusing new ones"),
    "appendonly": ("yes", "a server that restarts would lose messages that were acknowledged"),
}


async def check(link: Link, copies: Copies, on_check: OnCheck) -> None:
    """Check every server.

    Raises StoreUnavailableError: a server is older than 7.0, or too old for the `copies` asked. What else is wrong is
    logged and told to `on_check`; what a server refuses to say (managed services often forbid CONFIG) is logged only.
    """
    for info in await link.everywhere("INFO", "server"):
        version = _version(info)
        if version is None:
            logger.warning("the store's version could not be checked: 7.0 or newer is needed")
        elif version < OLDEST:
            raise StoreUnavailableError(f"Redis {_text(version)} is too old: 7.0 or newer is needed, or Valkey")
        elif copies.local and version < WAITAOF:
            raise StoreUnavailableError(
                f"gateway.store_wait.local needs Redis 7.2 or newer, or Valkey; this is {_text(version)}. Without it, "
                "`appendfsync always` in the server's configuration does the same"
            )
    for name, (wanted, because) in _WANTED.items():
        await _check_option(link, name, wanted, because, on_check)


async def _check_option(link: Link, name: str, wanted: str, because: str, on_check: OnCheck) -> None:
    answers = await link.everywhere("CONFIG", "GET", name)
    values = [_value(answer) for answer in answers]
    if None in values:
        logger.warning("the store's %s could not be checked: it should be %r, else %s", name, wanted, because)
        return
    passed = all(value == wanted for value in values)
    on_check(name, passed)
    if not passed:
        wrong = next(value for value in values if value != wanted)
        logger.warning("the store's %s is %r and should be %r: %s", name, wrong, wanted, because)


def _version(info: Any) -> tuple[int, ...] | None:
    """Return the version that the server says it is compatible with."""
    found = info.get("redis_version") if isinstance(info, dict) else None
    try:
        return tuple(int(number) for number in str(found).split(".")[:2])
    except ValueError:
        return None


def _value(answer: Any) -> str | None:
    if isinstance(answer, (RedisError, str)) or not answer:
        return None
    pairs = answer.values() if isinstance(answer, dict) else answer[1::2]
    value = next(iter(pairs), None)
    return value.decode() if isinstance(value, bytes) else value


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
