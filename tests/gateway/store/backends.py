"""The stores that the contract suite runs against. A new store adds a class and a line in BACKENDS."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from parley_gateway.store.base import Store, StoreLimits
from parley_gateway.store.sqlite import SqliteStore


class Backend(Protocol):
    """One place where data is kept, and stores over it."""

    def create(self, limits: StoreLimits, clock: Callable[[], float]) -> Store:
        """Return a store over the same data, not opened yet."""


class SqliteBackend:
    """A file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "parley.db"

    def create(self, limits: StoreLimits, clock: Callable[[], float]) -> SqliteStore:
        return SqliteStore(self.path, limits, clock)


BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": SqliteBackend}
