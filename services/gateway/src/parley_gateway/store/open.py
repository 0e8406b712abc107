"""Chooses the store that the option `gateway.store` names."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.sqlite import SqliteStore

_SQLITE = "sqlite:///"
_REDIS = re.compile(r"rediss?(\+sentinel|\+cluster)?")
_SQLITE_FORMS = "sqlite:///relative/file.db and sqlite:////absolute/file.db"
_SUPPORTED = (
    f"{_SQLITE_FORMS}, redis://, rediss:// (TLS), and with +sentinel or +cluster behind either of them, such as "
    "redis+sentinel://host:26379/mymaster"
)


@dataclass(frozen=True, slots=True)
class StoreWishes:
    """What a store that is shared does beyond the contract, and whom it tells of its checks."""

    replicas: int = 0
    """Replicas that must have a message before it is acknowledged."""
    local: int = 0
    """1 when the server's own disk must have it."""
    on_check: Callable[[str, bool], None] = field(default=lambda name, passed: None)
    """Told the name of each check of the server's settings, and whether it passed."""


def open_store(
    url: str,
    limits: StoreLimits | None = None,
    clock: Callable[[], float] = time.time,
    wishes: StoreWishes | None = None,
) -> Store:
    """Return the store of a URL; `Store.open` opens it.

    Raises
        ValueError: the URL names no store that there is. The message never quotes more than the scheme: a URL may
            hold a password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"must be a URL; supported are {_SUPPORTED}")
    if _REDIS.fullmatch(scheme):
        return _redis(url, limits, clock, wishes or StoreWishes())
    if scheme != "sqlite":
        raise ValueError(f"there is no store for {scheme!r} URLs; supported are {_SUPPORTED}")
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/") or "?" in path or path == ":memory:":
        raise ValueError(f"a sqlite URL names a file and nothing else, like {_SQLITE_FORMS}")
    return SqliteStore(Path(path), limits, clock)


def _redis(url: str, limits: StoreLimits | None, clock: Callable[[], float], wishes: StoreWishes) -> Store:
    # A gateway without Redis doesn't load its client.
    from parley_common.redis_address import parse_store

    from parley_gateway.store.redis import RedisStore
    from parley_gateway.store.redis.calls import Copies
    from parley_gateway.store.redis.store import RedisOptions

    options = RedisOptions(copies=Copies(wishes.replicas, wishes.local), on_check=wishes.on_check)
    return RedisStore(parse_store(url), limits, clock, options)
