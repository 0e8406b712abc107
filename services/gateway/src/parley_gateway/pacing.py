"""When messages that can't go on now are looked at again, and how many may ask a model that was out of reach.

After an outage everybody's messages are due at once. Few of them try first; each answer lets one more in, so that what
is in work doubles in the time of one answer. Every model has a ramp of its own: one that is down holds up no other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FIRST = 4
"""Questions that may be with a model at the same time right after it was out of reach."""
LOOK_AGAIN_S = 2.0
"""The shortest time until a message that has to wait is looked at again."""
LOOKS_PER_S = 100.0
"""How many waiting messages one process looks at each second at most: each look writes to the store."""

CIRCUIT_OPEN = "CIRCUIT_OPEN"
"""Reason of the error with which the LLM service refuses a question when every upstream of its model failed lately."""

OUT_OF_REACH = frozenset({CIRCUIT_OPEN, "UNAVAILABLE"})
"""Reasons of errors that say that no question reaches the model: its circuits are open, or the service is away."""


class Pacer:
    """Spreads the looks at waiting messages."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take the clock, seconds."""
        self._clock = clock
        self._last = 0.0

    def next_look(self) -> float:
        """Return when to look again at one more message."""
        self._last = max(self._clock() + LOOK_AGAIN_S, self._last + 1 / LOOKS_PER_S)
        return self._last


@dataclass(frozen=True, slots=True)
class RampState:
    """What an operator is told of a model that was out of reach."""

    model: str
    reason: str
    since: float
    """When it got out of reach, seconds since 1970."""
    answering: bool
    """Whether it has answered since."""
    limit: int
    """Questions that may be with it now."""
    asking: int
    """Questions that are with it now."""


class Ramp:
    """How many questions may be with one model."""

    def __init__(self, model: str, most: int, clock: Callable[[], float]) -> None:
        """`most` is where a limit ends: as many as can be in work anyway."""
        self._model = model
        self._most = most
        self._clock = clock
        self._limit = most
        self._asking = 0
        self._reason = ""
        self._since = 0.0
        self._answering = True

    def admits(self, *, new: bool) -> bool:
        """Tell whether one more question may go to the model now; `new` says that it was never put off.

        While the circuits are open new questions all go: each is refused at once, which is what its sender is told, and
        one of them will find the model back.
        """
        return self._asking < self._limit or (new and not self._answering and self._reason == CIRCUIT_OPEN)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count a question within the block."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    def answered(self) -> None:
        """The model answered: one more question may be with it."""
        self._answering = True
        self._limit = min(self._limit + 1, self._most)

    def failed(self, reason: str) -> None:
        """Asking failed; when the model is out of reach the ramp begins at its foot."""
        if reason not in OUT_OF_REACH:
            return
        if self._answering:
            self._since = self._clock()
        self._answering = False
        self._reason = reason
        self._limit = min(FIRST, self._most)

    def state(self) -> RampState | None:
        """Return what there is to tell, None while nothing holds the model's questions up."""
        if self._limit >= self._most and self._answering:
            return None
        return RampState(self._model, self._reason, self._since, self._answering, self._limit, self._asking)


class Ramps:
    """The ramps of all models that bots of this process use."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        """`most` bounds what this process works on at the same time."""
        self._most = most
        self._clock = clock
        self._ramps: dict[str, Ramp] = {}

    def of(self, model: str) -> Ramp:
        """Return a model's ramp."""
        if model not in self._ramps:
            self._ramps[model] = Ramp(model, self._most, self._clock)
        return self._ramps[model]

    def states(self) -> list[RampState]:
        """Return the state of every model whose questions are held up."""
        return [state for ramp in self._ramps.values() if (state := ramp.state()) is not None]
