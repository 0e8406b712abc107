"""Bytes that arrive piece by piece, wait, and are read again and again: in memory while few, else on disk.

The file on disk never has a name (or loses it at once where the system knows no nameless files), so nothing is left
behind however the process ends. Work on the file is done in threads: a slow disk holds up nobody else.
"""

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import structlog

from parley_llm.errors import InternalError, RequestTooLargeError
from parley_llm.upstream.body import PIECE

IN_MEMORY = 1024 * 1024
_log = structlog.get_logger("parley_llm.forms.spool")


class Spool:
    """Takes up to `limit` bytes and holds at most `in_memory` of them in memory, the rest in a file in `directory`.

    Without a directory the system's temporary one is used (`TMPDIR`). Close it in any case.
    """

    def __init__(self, limit: int, directory: Path | None = None, in_memory: int = IN_MEMORY) -> None:
        self._limit = limit
        self._in_memory = in_memory
        self._buffer = bytearray()
        self._file = _NamelessFile(directory)
        self._on_disk = 0

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._on_disk + len(self._buffer)

    @property
    def in_memory(self) -> int:
        """How many of the bytes are in memory."""
        return len(self._buffer)

    async def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises RequestTooLargeError; InternalError when the disk does not take them."""
        if self.size + len(data) > self._limit:
            raise RequestTooLargeError(f"The upload is longer than {self._limit} bytes.")
        self._buffer += data
        if len(self._buffer) > self._in_memory:
            full, self._buffer = self._buffer, bytearray()
            at, self._on_disk = self._on_disk, self._on_disk + len(full)
            with _disk_errors():
                await asyncio.to_thread(self._file.write, at, full)

    async def pieces(self, start: int, size: int) -> AsyncGenerator[bytes, None]:
        """Give `size` bytes from `start` on. Raises InternalError when the disk does not give them back."""
        end = start + size
        while start < end:
            wanted = min(PIECE, end - start)
            if start < self._on_disk:
                with _disk_errors():
                    piece = await asyncio.to_thread(self._file.read, start, min(wanted, self._on_disk - start))
            else:
                at = start - self._on_disk
                piece = bytes(self._buffer[at : at + wanted])
            if not piece:
                raise ValueError("the spool does not hold these bytes, or was closed")
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Free memory and disk; nothing can be read any more."""
        self._buffer = bytearray()
        self._file.close()


class _NamelessFile:
    """A temporary file, made by the first write, for use in threads.

    Closing never waits: a thread that is at work on the file closes it when done. Were the file closed under its
    hands, another one could get the descriptor's number, and the thread's bytes.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._file: FileIO | None = None
        self._lock = threading.Lock()
        self._closed = False

    def write(self, at: int, data: bytearray) -> None:
        with self._held() as descriptor, memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(descriptor, view[done:], at + done)

    def read(self, at: int, size: int) -> bytes:
        with self._held() as descriptor:
            return os.pread(descriptor, size, at)

    def close(self) -> None:
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
            finally:
                self._lock.release()

    @contextmanager
    def _held(self) -> Iterator[int]:
        try:
            with self._lock:
                if self._closed:
                    raise ValueError("the spool is closed")
                if self._file is None:
                    made = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115 - see `close`
                    self._file = made
                yield self._file.fileno()
        finally:
            if self._closed:
                self.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn a failure of the disk into an error of this service, so that nobody takes it for the upstream's."""
    try:
        yield
    except OSError as exc:
        _log.error("the disk failed an upload", error=exc.strerror)
        raise InternalError("The upload could not be kept on this service's disk; the log says why.") from exc
