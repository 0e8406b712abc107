"""The store's files: created for their owner alone, and locked against a second process."""

import fcntl
import os
import stat
from pathlib import Path

from parley_gateway.errors import StoreLockedError

OWNER_ONLY = 0o600


class FileLock:
    """An exclusive `flock` on `<file>.lock`, held until it is released or the process dies.

    The lock file stays behind when the lock is released: deleting it would let two processes lock two different files
    of the same name.
    """

    def __init__(self, database: Path) -> None:
        """Name the lock of a database file; takes nothing yet."""
        self._path = database.with_name(database.name + ".lock")
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises StoreLockedError when somebody holds it, OSError when the file can't be made."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise StoreLockedError(
                f"{self._path} is locked by process {holder or 'unknown'}: a SQLite store serves one gateway process; "
                "stop the other one, or give each its own file in `gateway.store`"
            ) from error
        except OSError:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; does nothing when it isn't held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def create_private(database: Path) -> None:
    """Create the folder and the file when missing, and close an own file to other users. Raises OSError.

    SQLite gives its `-wal` and `-shm` files the mode of the database file.
    """
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    try:
        found = os.fstat(fd)
        # On a volume that Kubernetes prepared for a group the file may belong to somebody else: then it stays as it is.
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, OWNER_ONLY)
    finally:
        os.close(fd)
