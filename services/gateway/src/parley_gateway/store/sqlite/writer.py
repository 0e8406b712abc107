"""The thread that owns the connection: calls queue up, each runs in a savepoint, all of a batch share one commit.

A durable commit costs one wait for the disk whatever is in it, so what queued up during one commit goes into the next
(group commit). A caller learns its result only after the commit that contains it.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from parley_gateway.errors import StoreError, StoreUnavailableError
from parley_gateway.store.sqlite.files import FileLock, create_private
from parley_gateway.store.sqlite.schema import migrate

logger = logging.getLogger(__name__)

T = TypeVar("T")

Job = Callable[[sqlite3.Connection], T]
"""A function on the connection, inside a transaction. It must not commit."""


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How the thread works."""

    batch: int = 256
    """Calls that share one commit at most."""
    waiting: int = 8192
    """Calls that may wait; more are refused with StoreUnavailableError."""
    busy_timeout_s: float = 2.0
    """How long a batch waits when another program (a backup, a shell) has locked the file."""


@dataclass(frozen=True, slots=True)
class _Call:
    job: Job[Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


class Writer:
    """Runs functions on the connection, in order, and commits them in groups."""

    def __init__(self, path: Path, options: WriterOptions | None = None) -> None:
        """Name the file; `start` opens it."""
        self._path = path
        self._options = options or WriterOptions()
        self._lock = FileLock(path)
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._failing = False
        self.commits = 0
        """Transactions committed that changed something: each one is a wait for the disk."""

    async def start(self) -> None:
        """Lock and open the file, start the thread. Raises StoreLockedError, StoreUnavailableError."""
        if self._thread is not None:
            raise StoreUnavailableError("the store is open already")
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a process that ends without closing the store has every acknowledged write on the disk already.
        self._thread = threading.Thread(target=self._main, args=(self._loop, opened), name="parley-store", daemon=True)
        self._thread.start()
        try:
            await opened
        except StoreError:
            self._thread.join()
            self._thread = None
            raise

    async def run(self, job: Job[T]) -> T:
        """Run a function in a transaction and return its result once that is committed.

        When the function raises, nothing of it is stored and its error is raised here.

        Raises
            StoreUnavailableError: the store is closed, overloaded, or SQLite couldn't read or write.
        """
        if self._thread is None or self._loop is None:
            raise StoreUnavailableError("the store is closed")
        if self._waiting >= self._options.waiting:
            raise StoreUnavailableError(f"{self._waiting} calls wait for the store already")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting += 1
        self._calls.put(_Call(job, future))
        result: T = await future
        return result

    async def stop(self) -> None:
        """Finish the calls that were made before, close the file, release the lock."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            await asyncio.to_thread(thread.join)

    def _main(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            create_private(self._path)
            self._lock.acquire()
            self._connected()
        except (StoreError, sqlite3.Error, OSError) as error:
            self._disconnect()
            self._lock.release()
            _post(loop, _resolve, opened, _Failure(self._translated(error)))
            return
        _post(loop, _resolve, opened, None)
        stopping = False
        while not stopping:
            batch, stopping = self._take()
            outcomes = self._run_batch(batch)
            _post(loop, self._deliver, batch, outcomes)
        self._disconnect()
        self._lock.release()

    def _take(self) -> tuple[list[_Call], bool]:
        """Wait for a call, add those that queued up behind it; the flag says that the thread has to stop after them."""
        batch: list[_Call] = []
        call = self._calls.get()
        while call is not None:
            batch.append(call)
            if len(batch) == self._options.batch or self._calls.empty():
                return batch, False
            # No other thread takes from the queue, so that this never waits.
            call = self._calls.get()
        return batch, True

    def _run_batch(self, batch: Sequence[_Call]) -> list[Any]:
        try:
            db = self._connected()
            before = db.total_changes
            db.execute("BEGIN IMMEDIATE")
            outcomes = [self._run_call(db, call) for call in batch]
            db.execute("COMMIT")
            self.commits += db.total_changes != before
        except Exception as error:  # noqa: BLE001 - Raised again in every caller; whatever it is, the thread goes on.
            self._give_up(error)
            return [_Failure(self._translated(error)) for _ in batch]
        if self._failing:
            logger.info("the store can be read and written again")
        self._failing = False
        return outcomes

    def _run_call(self, db: sqlite3.Connection, call: _Call) -> Any:
        db.execute("SAVEPOINT call")
        try:
            result = call.job(db)
        except Exception as error:
            if not db.in_transaction:
                # SQLite gave up the whole transaction, the batch's earlier calls included.
                raise
            # This call's business only: its caller gets the error, the rest of the batch goes on.
            db.execute("ROLLBACK TO call")
            result = _Failure(self._translated(error) if isinstance(error, sqlite3.Error) else error)
        db.execute("RELEASE call")
        return result

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            create_private(self._path)
            self._db = sqlite3.connect(
                self._path, isolation_level=None, timeout=self._options.busy_timeout_s, cached_statements=256
            )
            # FULL: a commit returns when the disk has it. Pages move from the WAL to the file every 16 MiB, four times
            # rarer than by default, since a busy page is then written once for many commits. The WAL shrinks again
            # after a burst.
            self._db.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                "PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384;"
            )
            migrate(self._db)
        return self._db

    def _give_up(self, error: BaseException) -> None:
        """Undo the batch, and close the connection unless the error says nothing against it.

        The next batch opens a new one: that is how the store recovers. On a full disk a new connection couldn't even
        read, since it has to make files first; the old one still can.
        """
        if not self._failing:
            logger.warning("the store can't be read or written: %s", self._translated(error))
        self._failing = True
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._db is None or code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            self._disconnect()
        elif self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error as error:
                logger.warning("closing the store's file failed: %s", self._translated(error))

    def _translated(self, error: BaseException) -> StoreError:
        """Turn what went wrong with the file into the store's error; the store's own errors stay as they are."""
        if isinstance(error, StoreError):
            return error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        failure = StoreUnavailableError(f"{self._path}: {error} ({name})")
        failure.__cause__ = error
        return failure

    def _deliver(self, batch: Sequence[_Call], outcomes: Sequence[Any]) -> None:
        self._waiting -= len(batch)
        for call, outcome in zip(batch, outcomes, strict=True):
            _resolve(call.future, outcome)


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return  # The caller was cancelled.
    if isinstance(outcome, _Failure):
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome)


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        logger.debug("the event loop is closed: nobody waits for the store's answer")
