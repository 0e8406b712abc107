"""What this process knows of all partitions: how many messages each has and when a lane of it is ready next.

Every answer of a script on a queue says it for one partition; a look at all of them fills the gaps that other processes
make. It is a hint where to try first: the store itself stays the only truth.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from parley_gateway.store.base import PARTITIONS


class Board:
    """Counts and times, as far as they are known."""

    def __init__(self, queue_messages: int) -> None:
        """`queue_messages` is how many messages all partitions together take."""
        self._limit = queue_messages
        self._counts = [0] * PARTITIONS
        self._ready_at = [math.inf] * PARTITIONS
        self._joining = [0] * PARTITIONS
        self._looked_at = -math.inf

    def note(self, partition: int, state: Sequence[bytes | int]) -> None:
        """Write down what a script said of its partition."""
        count, ready_at = state
        self._counts[partition] = int(count)
        self._ready_at[partition] = float(ready_at) if ready_at else math.inf

    def looked(self) -> None:
        """All partitions were noted just now."""
        self._looked_at = time.monotonic()

    def outdated(self) -> None:
        """What is known may be wrong: look again before it is used."""
        self._looked_at = -math.inf

    def older_than(self, seconds: float) -> bool:
        """Whether the last look at all partitions is that long ago."""
        return time.monotonic() - self._looked_at >= seconds

    def pass_over(self, partitions: Iterable[int]) -> None:
        """Treat partitions as if nothing was ready there, until more is known."""
        for partition in partitions:
            self._ready_at[partition] = math.inf

    def hear(self, partition: int, ready_at: float) -> None:
        """Another process says that a lane is ready at some time."""
        self._ready_at[partition] = min(self._ready_at[partition], ready_at)

    def first(self) -> tuple[int, float]:
        """Return the partition with the lane that is ready first, and since or from when it is; infinity: none is."""
        ready_at = min(self._ready_at)
        return self._ready_at.index(ready_at), ready_at

    @property
    def crowded(self) -> bool:
        """Whether so many messages are known that the limit may be near."""
        return 2 * sum(self._counts) >= self._limit

    @contextmanager
    def joining(self, partition: int) -> Iterator[int]:
        """Give a message that is on its way into a partition the count up to which the partition may take it.

        Messages of this process that are on their way into other partitions count as if they were there already, so
        that the limit of all together holds exactly within one process. Between processes it holds as exactly as they
        know of each other.
        """
        others = sum(self._counts) - self._counts[partition] + sum(self._joining) - self._joining[partition]
        self._joining[partition] += 1
        try:
            yield max(0, self._limit - others)
        finally:
            self._joining[partition] -= 1
