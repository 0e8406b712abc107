"""The way to the servers: runs scripts there, each in limited time, and says StoreUnavailableError when it can't.

Nothing is repeated that may have been carried out. Only what a server refused before it did anything is sent again: a
script that it doesn't know (any more), and a partition that has moved to another node of a cluster.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from parley_common.redis_address import StoreAddress
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, TryAgainError

from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.base import PARTITIONS
from parley_gateway.store.redis.calls import NO_COPIES, Call, Copies, Value, run, run_all, run_plain
from parley_gateway.store.redis.nodes import Node, Nodes

logger = logging.getLogger(__name__)

COMMAND_S = 1.0
"""How long one call may take, waiting for a connection included."""
MOVING_S = 0.05
"""How long a call waits before it asks again for a partition that is just moving to another node."""
_REFUSED_UNTOUCHED = (NoScriptError, MovedError, AskError, TryAgainError)

UNKNOWN: Any = object()
"""Stands for the answer of a server that can't be used."""

T = TypeVar("T")


class Link:
    """Knows the servers and whether they could be used last."""

    def __init__(self, address: StoreAddress, *, command_s: float = COMMAND_S) -> None:
        """Name the servers; nothing connects before the first call."""
        self.nodes = Nodes(address, timeout_s=command_s)
        self._command_s = command_s
        self._failing = False
        self._failed_at = 0.0
        self._locating: asyncio.Task[None] | None = None

    async def call(self, call: Call, *, times_longer: int = 1) -> Any:
        """Run a script and return its answer. Raises StoreUnavailableError; it may have run all the same."""
        answer, _ = await self.call_copied(call, NO_COPIES, times_longer=times_longer)
        return answer

    async def call_copied(self, call: Call, copies: Copies, *, times_longer: int = 1) -> tuple[Any, bool]:
        """Run a script; return its answer, and whether there were soon enough copies of what it wrote.

        Raises StoreUnavailableError; it may have run all the same.
        """
        limit_s = self._command_s * times_longer

        async def there(node: Node, asking: bool) -> tuple[Any, bool]:
            return await run(node, call, asking=asking, copies=copies, wait_s=limit_s / 4)

        with self._errors():
            async with asyncio.timeout(limit_s):
                return await self._follow(call.partition, there)

    async def each(self, calls: Sequence[Call], *, partly: bool = False) -> list[Any]:
        """Run scripts, those of one server in one go; return their answers in order.

        With `partly` the answers of servers that can't be used are UNKNOWN, unless that holds for all servers.
        Raises StoreUnavailableError.
        """
        answers: list[Any] = [UNKNOWN] * len(calls)
        with self._errors():
            async with asyncio.timeout(self._command_s):
                await self._located()
            places = self.nodes.sort(call.partition for call in calls)
            outcomes = await asyncio.gather(
                *(self._each_on(node, calls, positions, answers) for node, positions in places.items()),
                return_exceptions=True,
            )
            failures = [outcome for outcome in outcomes if outcome is not None]
            if failures and (not partly or len(failures) == len(outcomes)):
                raise failures[0]
        if failures:
            self._look_around()
        return answers

    async def command(self, partition: int, *command: Value) -> Any:
        """Run another command on a partition's server. Raises StoreUnavailableError."""

        async def there(node: Node, asking: bool) -> Any:
            return await run_plain(node, command, asking=asking)

        with self._errors():
            async with asyncio.timeout(self._command_s):
                return await self._follow(partition, there)

    async def everywhere(self, *command: Value) -> list[Any]:
        """Run a command on every server; what one refuses is its answer. Raises StoreUnavailableError."""
        with self._errors():
            async with asyncio.timeout(self._command_s):
                await self._located()
                return [(await run_all(node, [command]))[0] for node in self.nodes.all()]

    async def places(self) -> dict[Node, list[int]]:
        """Return the servers and their partitions. Raises StoreUnavailableError."""
        if not self.nodes.located:
            with self._errors():
                async with asyncio.timeout(self._command_s):
                    await self._locate()
        return self.nodes.sort(range(PARTITIONS))

    async def close(self) -> None:
        """Close every connection."""
        if self._locating is not None:
            self._locating.cancel()
            await asyncio.gather(self._locating, return_exceptions=True)
        await self.nodes.close()

    async def _each_on(self, node: Node, calls: Sequence[Call], positions: Sequence[int], answers: list[Any]) -> None:
        async with asyncio.timeout(self._command_s), node.room:
            found = await run_all(node, [calls[at].command() for at in positions])
        for at, answer in zip(positions, found, strict=True):
            if isinstance(answer, _REFUSED_UNTOUCHED):
                answers[at] = await self.call(calls[at])
            elif isinstance(answer, Exception):
                raise answer
            else:
                answers[at] = answer

    async def _follow(self, partition: int, there: Callable[[Node, bool], Awaitable[T]]) -> T:
        """Run something where the partition is, wherever that is by then."""
        await self._located()
        node, asking = self.nodes.of(partition), False
        while True:  # The time limit ends it.
            try:
                async with node.room:
                    return await there(node, asking)
            except AskError as error:
                node, asking = self.nodes.at(error.host, error.port), True
            except MovedError:
                await self._locate()
                node, asking = self.nodes.of(partition), False
            except TryAgainError:
                # Half of the keys are here and half there: soon all are there.
                await asyncio.sleep(MOVING_S)
                node, asking = self.nodes.of(partition), False

    async def _located(self) -> None:
        if not self.nodes.located:
            await self._locate()

    async def _locate(self) -> None:
        """Learn where the partitions are; whoever needs it at the same time shares the question."""
        if self._locating is None or self._locating.done():
            self._locating = asyncio.create_task(self.nodes.locate(), name="locate-partitions")
        await asyncio.shield(self._locating)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what went wrong into the store's error; say once when the trouble begins, and once when it is over."""
        try:
            yield
        except StoreUnavailableError:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            kind = _kind(error)
            if not self._failing:
                self._failing = True
                logger.warning("the store can't be used: %s", kind)
            self._failed_at = time.monotonic()
            self._look_around()
            raise StoreUnavailableError(f"Redis: {kind}") from error
        # While one node of a cluster is dead, calls to the others work: that is no end of the trouble.
        if self._failing and time.monotonic() - self._failed_at > self._command_s:
            self._failing = False
            logger.info("the store can be used again")

    def _look_around(self) -> None:
        """Ask a cluster again where the partitions are: a node may have died, and a replica have its partitions."""
        if self.nodes.clustered and (self._locating is None or self._locating.done()):
            self._locating = asyncio.create_task(self._try_locate(), name="locate-partitions")

    async def _try_locate(self) -> None:
        try:
            async with asyncio.timeout(self._command_s):
                await self.nodes.locate()
        except (RedisError, OSError, TimeoutError) as error:
            logger.debug("the partitions can't be located: %s", _kind(error))


def _kind(error: BaseException) -> str:
    """Name an error without its words: a server may repeat in them what it was sent."""
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
