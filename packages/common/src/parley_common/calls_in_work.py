"""The calls that a gRPC server has in work: how many there may be, and how to end them when the server must stop."""

import asyncio
import weakref
from collections.abc import Generator
from contextlib import contextmanager

from parley_common.errors import DrainingError, OverloadedError, StoppedError


class CallsInWork:
    """The calls of one server, each known as the task that runs its handler."""

    def __init__(self, limit: int) -> None:
        """`limit` is how many calls may be in work at a time; watches don't count."""
        self._limit = limit
        self._refusing = False
        self._calls: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._ended: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()

    @contextmanager
    def call(self) -> Generator[None, None, None]:
        """Count the running task as a call while the block runs. Raises DrainingError, OverloadedError."""
        if self._refusing:
            raise DrainingError("the server stops; send the call again, it reaches another one")
        if len(self._calls) >= self._limit:
            raise OverloadedError("too many calls at a time; try again later", retry_after_s=1.0)
        with _among(self._calls):
            yield

    @contextmanager
    def watch(self) -> Generator[None, None, None]:
        """Count the running task as a watch, a call without end for which no stop waits. Raises DrainingError."""
        if self._refusing:
            raise DrainingError("the server stops")
        with _among(self._watches):
            yield

    @contextmanager
    def write(self) -> Generator[None, None, None]:
        """Let the running task come to the end of the block before it is ended.

        A status can't be sent while a message is on its way. Raises StoppedError after the block.
        """
        with _among(self._writing):
            yield
        self.check()

    def check(self) -> None:
        """Raise StoppedError when the running task is one that was ended from here."""
        if asyncio.current_task() in self._ended:
            raise StoppedError("the server stopped before the end of the call")

    def refuse(self) -> None:
        """Refuse new calls from now on, and end the watches."""
        self._refusing = True
        self._end(self._watches)

    async def end(self, limit_s: float) -> None:
        """End the calls in work and wait for their handlers, at most for `limit_s`."""
        self._end(self._calls)
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=limit_s)

    def _end(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks - set(self._ended):
            self._ended.add(task)
            if task not in self._writing:
                task.cancel()


@contextmanager
def _among(tasks: set[asyncio.Task[None]]) -> Generator[None, None, None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call must run in a task")
    tasks.add(task)
    try:
        yield
    finally:
        tasks.discard(task)
