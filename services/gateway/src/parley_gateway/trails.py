"""The trail of a message: what happened to it, for the operator who asks with the id from a user's sentence.

A step holds ids, codes, counts and times, never what anybody wrote. Steps are noted in memory and written a little
later, many at once: no message waits for its trail. A process that is killed takes the last half second with it.
"""

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from parley_gateway.errors import StoreUnavailableError
from parley_gateway.store.base import Trails
from parley_gateway.store.records import QueuedMessage, reference_of

KEPT_S = 7 * 86400.0
"""How long a trail is kept after its last step."""
WRITE_EVERY_S = 0.5
AT_ONCE = 64
"""Messages whose steps are written together."""
MOST_WAITING = 20_000
"""Steps that wait to be written; beyond that the oldest are given up, and counted."""
LONGEST_FACT = 128

Fact = str | int | float | bool

log = structlog.get_logger("parley.trails")


class Trail(Protocol):
    """Where the parts of the gateway note what they do with a message."""

    def note(self, item: QueuedMessage, step: str, **facts: Fact) -> None:
        """Note a step. Facts are codes, ids and counts; empty ones are left out."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was written."""

    at: float
    """Seconds since 1970."""
    name: str
    by: str
    """Which process noted it."""
    facts: Mapping[str, Fact]


class TrailWriter(Trail):
    """Keeps steps until they are written to the store."""

    def __init__(self, store: Trails, clock: Callable[[], float], *, by: str, on_lost: Callable[[int], None]) -> None:
        """`by` names this process in its steps; `on_lost` is told how many steps were given up."""
        self._store = store
        self._clock = clock
        self._by = by
        self._on_lost = on_lost
        self._waiting: deque[tuple[str, str, dict[str, Any]]] = deque()
        self._one_at_a_time = asyncio.Lock()
        self._ends = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def note(self, item: QueuedMessage, step: str, **facts: Fact) -> None:
        """Note a step."""
        told = {name: _bounded(value) for name, value in facts.items() if value != ""}
        entry = {"at": round(self._clock(), 3), "step": step, "by": self._by, **told}
        self._waiting.append((item.message.conversation.key, reference_of(item.key), entry))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._on_lost(1)

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.create_task(self._write_again_and_again(), name="write-trails")

    async def stop(self) -> None:
        """Write what is left and end."""
        self._ends.set()
        if self._writing is not None:
            await self._writing
        await self._try_to_write()

    async def write(self) -> None:
        """Write everything noted so far, all new steps of a message as one entry.

        Raises
            StoreUnavailableError: what isn't written stays noted.
        """
        async with self._one_at_a_time:
            await self._write()

    async def _write(self) -> None:
        noted, self._waiting = self._waiting, deque()
        entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for conversation, reference, entry in noted:
            entries.setdefault((conversation, reference), []).append(entry)
        try:
            while entries:
                # Together: the store makes one durable step of what comes at the same time.
                batch = list(itertools.islice(entries, AT_ONCE))
                results = await asyncio.gather(*(self._add(key, entries[key]) for key in batch), return_exceptions=True)
                failures = []
                for key, result in zip(batch, results, strict=True):
                    if isinstance(result, BaseException):
                        failures.append(result)
                    else:
                        del entries[key]
                if failures:
                    raise failures[0]
        finally:
            # In front of what was noted meanwhile.
            left = [(*key, step) for key, steps in entries.items() for step in steps]
            self._waiting.extendleft(reversed(left))

    async def _add(self, key: tuple[str, str], steps: list[dict[str, Any]]) -> None:
        conversation, reference = key
        text = json.dumps(steps, ensure_ascii=True, separators=(",", ":"))
        await self._store.add_trail(conversation, reference, text, now=self._clock(), ttl_s=KEPT_S)

    async def _write_again_and_again(self) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), WRITE_EVERY_S)
            await self._try_to_write()

    async def _try_to_write(self) -> None:
        try:
            await self.write()
        except StoreUnavailableError as exc:
            log.warning("trails_not_written", steps=len(self._waiting), error=str(exc))


def read_steps(entries: list[str]) -> list[Step]:
    """Return the steps of a trail in the order of their times; an entry of another form is left out."""
    steps = []
    for text in entries:
        for entry in json.loads(text):
            at, name, by = entry.pop("at", 0.0), entry.pop("step", ""), entry.pop("by", "")
            steps.append(Step(at, name, by, entry))
    return sorted(steps, key=lambda step: step.at)


def _bounded(value: Fact) -> Fact:
    return value[:LONGEST_FACT] if isinstance(value, str) else value
