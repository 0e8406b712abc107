"""Changes the bots of a running gateway: new platforms for what changed, the old ones closed when nobody uses them.

Work in flight goes on with the bot it began with: a message being answered, a request being held. A bot whose
credentials and language are the same keeps its platform, with its connections. Messages of a removed bot that still
wait go to the dead letters when their turn comes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import structlog
from parley_common.boot import StartError
from parley_common.reload import ReloadError

from parley_gateway.bots import Bot, Bots
from parley_gateway.config import BotSettings
from parley_gateway.housekeeping import Housekeeping
from parley_gateway.platforms.base import Platform

DELIVERY_S = 600.0
"""How long all the calls around the model's answer may take, far more than they do: long answers have many parts."""

log = structlog.get_logger("parley.bots")


class BotChanges:
    """Replaces the content of `Bots`."""

    def __init__(
        self,
        bots: Bots,
        build: Callable[[BotSettings], Bot],
        housekeeping: Housekeeping,
        *,
        delivery_s: float = DELIVERY_S,
    ) -> None:
        """`build` makes a bot with a new platform, or raises StartError."""
        self._bots = bots
        self._build = build
        self._housekeeping = housekeeping
        self._delivery_s = delivery_s
        self._closing: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Event()

    async def apply(self, settings: Sequence[BotSettings], *, answer_s: float) -> None:
        """Use these bots from now on; `answer_s` is how long the model's answer to a message in flight may take.

        Raises
            ReloadError: a platform can't be built; nothing has changed.
        """
        before = tuple(self._bots)
        new: list[Bot] = []
        try:
            # In a thread: the first bot on a platform may load a vendor's SDK for seconds.
            bots = await asyncio.to_thread(self._prepare, settings, new)
        except StartError as exc:
            for bot in new:
                await bot.platform.close()
            raise ReloadError(str(exc)) from exc
        self._bots.replace(bots)
        kept = {id(bot.platform) for bot in bots}
        replaced = [bot for bot in before if id(bot.platform) not in kept]
        for bot in replaced:
            after_s = answer_s + self._delivery_s
            task = asyncio.create_task(self._close_later(bot.platform, after_s), name="close-platform")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        gone = [bot for bot in replaced if self._bots.find(bot.settings.platform, bot.settings.name) is None]
        self._housekeeping.bots_changed(new, gone)
        if new or gone:
            log.info("bots_changed", new=_names(new), gone=_names(gone))

    async def close(self) -> None:
        """Close the replaced platforms at once: no work is left that could use them."""
        self._at_once.set()
        await asyncio.gather(*self._closing)

    def _prepare(self, settings: Sequence[BotSettings], new: list[Bot]) -> list[Bot]:
        """Return the bots; collect those of them that have a new platform in `new`. Raises StartError."""
        bots: list[Bot] = []
        for one in settings:
            running = self._bots.find(one.platform, one.name)
            if running is not None and running.platform_fits(one):
                bots.append(Bot(one, running.platform))
            else:
                new.append(self._build(one))
                bots.append(new[-1])
        return bots

    async def _close_later(self, platform: Platform, after_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._at_once.wait(), after_s)
        try:
            await platform.close()
        except Exception:
            # The operator's own platforms may raise anything here, and nothing depends on it any more.
            log.exception("platform_not_closed", platform=platform.name)


def _names(bots: Iterable[Bot]) -> list[str]:
    return [f"{bot.settings.platform}/{bot.settings.name}" for bot in bots]
