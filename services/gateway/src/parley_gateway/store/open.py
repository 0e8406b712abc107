"""Chooses the store that the option `gateway.store` names."""

import time
from collections.abc import Callable
from pathlib import Path

from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.sqlite import SqliteStore

_SQLITE = "sqlite:///"
_SUPPORTED = "sqlite:///relative/file.db and sqlite:////absolute/file.db"


def open_store(url: str, limits: StoreLimits | None = None, clock: Callable[[], float] = time.time) -> Store:
    """Return the store of a URL; `Store.open` opens it.

    Raises
        ValueError: the URL names no store that there is. The message never quotes more than the scheme: a URL may
            hold a password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"must be a URL; supported are {_SUPPORTED}")
    if scheme != "sqlite":
        raise ValueError(f"there is no store for {scheme!r} URLs; supported are {_SUPPORTED}")
    path = url.removeprefix(_SQLITE)
    if path == url or not path or path.endswith("/") or "?" in path or path == ":memory:":
        raise ValueError(f"a sqlite URL names a file and nothing else, like {_SUPPORTED}")
    return SqliteStore(Path(path), limits, clock)
