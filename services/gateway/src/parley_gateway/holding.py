"""Which questions wait in their lanes although a worker is free: their bot is paused, their model was out of reach."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from parley_gateway.bots import Bot
from parley_gateway.errors import UpstreamAnswerError
from parley_gateway.levers import PAUSED, Levers
from parley_gateway.pacing import Pacer, Ramps
from parley_gateway.store.records import QueuedMessage


@dataclass(frozen=True, slots=True)
class Held:
    """A question that has to wait."""

    why: str
    """The name of its trail's step."""
    until: float
    """When to look again."""


class Holding:
    """Holds questions back; knows the levers and how each model did lately."""

    def __init__(self, levers: Levers, ramps: Ramps, clock: Callable[[], float]) -> None:
        """Take the collaborators."""
        self._levers = levers
        self._ramps = ramps
        self._pacer = Pacer(clock)

    def hold(self, bot: Bot, item: QueuedMessage) -> Held | None:
        """Return how long a question has to wait, None when it may be answered now."""
        if self._levers.paused(bot.settings.platform, bot.settings.name) is not None:
            return Held(PAUSED, self._pacer.next_look())
        if not self._ramps.of(bot.settings.model).admits(new=not item.failures):
            return Held("ramp", self._pacer.next_look())
        return None

    def asking(self, bot: Bot) -> AbstractContextManager[None]:
        """Count a question of the bot within the block."""
        return self._ramps.of(bot.settings.model).asking()

    @contextmanager
    def outcome(self, bot: Bot) -> Iterator[None]:
        """Learn from how a block ends that gets the model's answer."""
        ramp = self._ramps.of(bot.settings.model)
        try:
            yield
        except UpstreamAnswerError as exc:
            ramp.failed(exc.reason)
            raise
        ramp.answered()
