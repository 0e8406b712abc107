"""The connection to Redis: many commands in one pipeline, known to work or known not to, never waited for long.

It and `clients` import `redis`, and are themselves imported only when a store is configured.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from parley_common.redis_address import StoreAddress
from redis.exceptions import NoScriptError, RedisError

from parley_llm.limits.clients import CONNECT_S, Clients
from parley_llm.limits.scripts import SCRIPTS
from parley_llm.limits.shared import Command, StoreDownError

ANSWER_S = 0.1
"""A command is given up when it has no answer by then."""
RETRY_S = 0.5
IDLE_S = 1.0
MAX_PIPELINE = 200
MAX_KEPT = 10_000
_PROBE: Command = ("SET", "parley:llm:probe", "1", "EX", 60)  # A write: a replica would answer reads.
_IDLE: Command = ("EXISTS", "parley:llm:probe")

_log = structlog.get_logger("parley_llm.limits")


@dataclass(slots=True)
class _Item:
    command: Command
    since: float
    answer: asyncio.Future[Any] | None = None
    """What someone waits for; None when nobody does."""
    kept: bool = False
    """Whether it is sent again until it arrived."""


class RedisLink:
    """Sends what it is given in the order in which it came, one pipeline at a time."""

    def __init__(self, address: StoreAddress, on_change: Callable[[bool], None], *, answer_s: float = ANSWER_S) -> None:
        self.up = False
        self._address = address
        self._on_change = on_change
        self._answer_s = answer_s
        self._items: deque[_Item] = deque()
        self._sent: list[_Item] = []
        self._wake = asyncio.Event()
        self._known = asyncio.Event()
        self._clients: Clients | None = None
        self._task: asyncio.Task[None] | None = None
        self._told: bool | None = None

    async def start(self) -> None:
        """Connect, and go on trying if that fails; returns when it is known whether Redis answers."""
        self._clients = Clients(self._address)
        self._task = asyncio.create_task(self._run(), name="limits-redis")
        await self._known.wait()

    async def stop(self) -> None:
        """Send what is kept if Redis answers, then close the connections."""
        if self._task is None or self._clients is None:
            return
        if self.up:
            with contextlib.suppress(StoreDownError):
                await self.ask(_IDLE)
        self.up = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                await self._clients.close()

    async def ask(self, command: Command) -> Any:
        """Return the answer to a command. Raises StoreDownError; the command may have been carried out all the same."""
        if not self.up:
            raise StoreDownError
        loop = asyncio.get_running_loop()
        item = _Item(command, loop.time(), loop.create_future())
        self._add(item)
        return await item.answer  # type: ignore[misc]  # It was set in the line above.

    def tell(self, command: Command, *, keep: bool = False) -> None:
        """Send a command without an answer. With `keep` it is repeated until it arrived, unless 10,000 are kept."""
        if not self.up and not keep:
            return
        self._add(_Item(command, asyncio.get_running_loop().time(), kept=keep))
        if not self.up and len(self._items) > MAX_KEPT:
            self._items.popleft()

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._connect()
            await self._serve()

    async def _connect(self) -> None:
        """Return when Redis takes a write."""
        while True:
            error = await self._attempt([_PROBE], asyncio.get_running_loop().time() + CONNECT_S)
            if error is None:
                break
            self._changed(up=False, error=error)
            await asyncio.sleep(RETRY_S)
        self._changed(up=True)

    async def _serve(self) -> None:
        """Send what comes; return when Redis failed."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()
            self._wake.clear()
            batch = self._sent = self._next_batch()
            commands = [item.command for item in batch] or [_IDLE]
            since = min((item.since for item in batch if item.answer), default=loop.time())
            answers: list[Any] = []
            error = await self._attempt(commands, since + self._answer_s, answers)
            if error is not None:
                self._changed(up=False, error=error)
                self._fail()
                return
            for item, answer in zip(batch, answers, strict=False):
                if item.answer is not None and not item.answer.done():
                    item.answer.set_result(answer)
            self._sent = []
            if self._items:
                self._wake.set()

    def _next_batch(self) -> list[_Item]:
        batch: list[_Item] = []
        while self._items and len(batch) < MAX_PIPELINE:
            item = self._items.popleft()
            if item.answer is None or not item.answer.done():  # Else its caller has gone.
                batch.append(item)
        return batch

    async def _attempt(self, commands: list[Command], until: float, answers: list[Any] | None = None) -> str | None:
        """Run commands, adding their answers; return the kind of error when Redis can't be used."""
        try:
            async with asyncio.timeout_at(until):
                found = await self._pipeline(commands)
                unknown = [at for at, answer in enumerate(found) if isinstance(answer, NoScriptError)]
                if unknown:
                    # Redis has been restarted, or another one is the master now: hand it the scripts.
                    again = await self._pipeline([_with_source(commands[at]) for at in unknown])
                    for at, answer in zip(unknown, again, strict=True):
                        found[at] = answer
        except Exception as exc:  # noqa: BLE001 - a foreign client: whatever it raises, calls go on without it
            return type(exc).__name__
        for answer in found:
            if isinstance(answer, Exception):
                return type(answer).__name__
        if answers is not None:
            answers += found
        return None

    async def _pipeline(self, commands: list[Command]) -> list[Any]:
        assert self._clients is not None  # noqa: S101 - for the type checker: the task runs after `start`
        pipeline = self._clients.redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def _changed(self, *, up: bool, error: str = "") -> None:
        self.up = up
        self._known.set()
        if self._told is up:
            return
        self._told = up
        self._on_change(up)
        if up:
            _log.info("limits_store_up")
        else:
            # Only the kind of error: Redis's own words may repeat what it was sent.
            _log.warning("limits_store_down", error=error, effect="each replica counts limits for itself")

    def _fail(self) -> None:
        """Tell those who wait that there will be no answer, and keep what is to be sent again."""
        items = [*self._sent, *self._items]
        for item in items:
            if item.answer is not None and not item.answer.done():
                item.answer.set_exception(StoreDownError())
        self._sent = []
        self._items = deque([item for item in items if item.kept][-MAX_KEPT:])


def _with_source(command: Command) -> Command:
    return ("EVAL", SCRIPTS[str(command[1])].source, *command[2:])
