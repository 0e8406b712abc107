"""What one caller has used, by model: since the process started, today (UTC), and what Redis hasn't been told yet."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

from parley_llm.usage import Usage

DAY_S = 86400


@dataclass(slots=True)
class Amounts:
    """Sums over calls that ended. `cached` is part of `input`, `reasoning` of `output`; cost in the currency."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    images: int = 0
    seconds: float = 0.0
    characters: int = 0
    cost: float = 0.0

    def add_call(self, usage: Usage, cost: float) -> None:
        """Add one call."""
        self.requests += 1
        self.input += usage.input
        self.output += usage.output
        self.cached += usage.cached
        self.reasoning += usage.reasoning
        self.images += usage.images
        self.seconds += usage.seconds
        self.characters += usage.characters
        self.cost += cost

    def add(self, other: "Amounts") -> None:
        """Add other sums."""
        for name in AMOUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


AMOUNTS = tuple(field.name for field in fields(Amounts))
ByModel = dict[str, Amounts]


def merge(into: ByModel, more: Mapping[str, Amounts]) -> None:
    """Add sums by model to others."""
    for model, amounts in more.items():
        into.setdefault(model, Amounts()).add(amounts)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a caller used on one day and Redis is to be told once; `number` tells a repetition from a new batch."""

    day: int
    number: int
    models: ByModel


class Ledger:
    """The sums of one caller. Days are counted from 1970 in UTC, times are in seconds since then."""

    def __init__(self, *, shared: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.since = clock()
        self._clock = clock
        self._day = self.today()
        self._today: ByModel = {}
        self._before: ByModel = {}
        self._shared = shared
        self._untold: dict[int, ByModel] = {}
        self._sending: dict[int, Batch] = {}
        self._batches = 0

    def today(self) -> int:
        """Return the current day."""
        return int(self._clock() // DAY_S)

    def add(self, model: str, usage: Usage, cost: float) -> None:
        """Count a call that ended."""
        self._turn_page()
        amounts = self._today.get(model)
        if amounts is None:
            amounts = self._today[model] = Amounts()
        amounts.add_call(usage, cost)
        if self._shared:
            self._untold.setdefault(self._day, {}).setdefault(model, Amounts()).add_call(usage, cost)

    def used_today(self) -> ByModel:
        """Return what this process counted today."""
        self._turn_page()
        used: ByModel = {}
        merge(used, self._today)
        return used

    def used(self) -> ByModel:
        """Return what this process counted since it started."""
        used = self.used_today()
        merge(used, self._before)
        return used

    def untold(self, day: int | None = None) -> ByModel:
        """Return what Redis isn't known to know, of one day or of all."""
        used: ByModel = {}
        for each, models in self._untold.items():
            if day in (None, each):
                merge(used, models)
        for each, batch in self._sending.items():
            if day in (None, each):
                merge(used, batch.models)
        return used

    def batches(self) -> Iterator[Batch]:
        """Give what is to be told to Redis now. A batch comes again, unchanged, until `told`: it may have arrived."""
        for day in list(self._untold):
            if day not in self._sending:
                self._batches += 1
                self._sending[day] = Batch(day, self._batches, self._untold.pop(day))
        yield from list(self._sending.values())

    def told(self, batch: Batch) -> None:
        """Note that Redis has a batch."""
        del self._sending[batch.day]

    def _turn_page(self) -> None:
        day = self.today()
        if day != self._day:
            merge(self._before, self._today)
            self._today = {}
            self._day = day
