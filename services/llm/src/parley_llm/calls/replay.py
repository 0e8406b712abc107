"""What a stream has said so far, kept for readers that start at its beginning, in bounded memory.

One side adds, any number of readers follow at their own pace. Up to `LIMIT` bytes the whole stream is kept. A longer
one forgets what all its readers have passed, so nobody new can join; then the slowest reader slows the stream down.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from parley_llm.jsontext import load
from parley_llm.upstream.events import StreamEvent

LIMIT = 4 * 1024 * 1024
OVERHEAD = 200  # Bytes that an event takes beside its text.
WINDOW = 256 * 1024
MEMORY = 64 * 1024 * 1024


class Memory:
    """How many bytes all that is kept takes; `make_room` lets something go, False when nothing is left to go."""

    def __init__(self, make_room: Callable[[], bool], limit: int = MEMORY) -> None:
        self._make_room = make_room
        self._left = limit

    def take(self, size: int) -> bool:
        """Count bytes that are to be kept; False, and nothing counted, when there is no room for them."""
        while size > self._left:
            if not self._make_room():
                return False
        self._left -= size
        return True

    def free(self, size: int) -> None:
        """Count bytes that are kept no longer."""
        self._left += size


class Reader:
    """One reader's place in a replay. Close it in any case."""

    def __init__(self, replay: "Replay") -> None:
        self._replay = replay
        self.at = 0
        self.news = asyncio.Event()

    async def next(self, patience_s: float) -> list[StreamEvent] | None:
        """Return the next events, none when `patience_s` passed without, None at the end.

        Raises the error that the stream ended with.
        """
        replay = self._replay
        while (events := replay.events_at(self.at)) is None:
            if replay.ended:
                if replay.error is not None:
                    raise replay.error
                return None
            self.news.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self.news.wait()
            except TimeoutError:
                return []
        self.at += 1
        replay.moved()
        return events

    def close(self) -> None:
        """Read no more."""
        self._replay.left(self)


class Replay:
    """The events of one stream in the portions they came in.

    Only their text is kept, and decoded again for each reader: decoded it would take ten times the memory.
    """

    def __init__(self, memory: Memory, limit: int = LIMIT) -> None:
        self._memory = memory
        self._limit = limit
        self._portions: deque[tuple[list[tuple[bytes, bytes, bool]], int]] = deque()
        self._first = 0
        self._size = 0
        self._counted = 0
        self._readers: set[Reader] = set()
        self._room = asyncio.Event()
        self.whole = True
        """Whether nothing is forgotten: a reader can still begin at the start."""
        self.ended = False
        self.error: BaseException | None = None

    def reader(self) -> Reader:
        """Return a reader at the start. The replay must be whole."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    async def add(self, events: list[StreamEvent]) -> bool:
        """Add events, and wait while readers are far behind. False when nobody can ever read them."""
        size = sum(len(event.data) + OVERHEAD for event in events)
        self._portions.append(([(event.name, event.data, bool(event.chunk)) for event in events], size))
        self._size += size
        if self.whole and self._size <= self._limit and self._memory.take(size):
            self._counted += size
        elif self.whole:
            self.whole = False
            self.free()
        self._tell()
        while not self.whole:
            self._forget()
            if not self._readers:
                return False
            if self._size <= WINDOW:
                break
            self._room.clear()
            await self._room.wait()
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Note that nothing follows."""
        self.ended, self.error = True, error
        self._tell()

    def events_at(self, position: int) -> list[StreamEvent] | None:
        """Return the portion at a position, None when it hasn't come."""
        index = position - self._first
        if index >= len(self._portions):
            return None
        return [
            StreamEvent(data, load(data) if decoded else {}, has_content=True, name=name)
            for name, data, decoded in self._portions[index][0]
        ]

    def moved(self) -> None:
        """Note that a reader has moved on."""
        self._room.set()

    def left(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers.discard(reader)
        self._room.set()

    def free(self) -> None:
        """Give back what was counted in the memory of all."""
        self._memory.free(self._counted)
        self._counted = 0

    def _forget(self) -> None:
        passed = min((reader.at for reader in self._readers), default=self._first + len(self._portions))
        while self._first < passed:
            self._size -= self._portions.popleft()[1]
            self._first += 1

    def _tell(self) -> None:
        for reader in self._readers:
            reader.news.set()
