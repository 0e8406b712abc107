"""An answer that is still being written, as its user sees it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from parley_gateway.bots import Bot
from parley_gateway.errors import FormatterError
from parley_gateway.ports import Formatter
from parley_gateway.store.base import Lanes, Lease
from parley_gateway.store.records import QueuedMessage

log = structlog.get_logger("parley.drafts")


class Draft:
    """Collects the model's words and shows them on a platform that can, as fast as the platform takes them.

    Showing never holds the model up and never fails the answer: what can't be shown unfinished comes when it is
    complete. What the platform needs to go on after a crash is stored before the user sees anything.
    """

    def __init__(self, formatter: Formatter, lanes: Lanes, bot: Bot, lease: Lease, item: QueuedMessage) -> None:
        """Open the reply, or resume it."""
        self._formatter = formatter
        self._lanes = lanes
        self._bot = bot
        self._lease = lease
        self._item = item
        self._session = bot.platform.open_reply(item.message, item.reply_state, generation=lease.generation)
        self._pieces: list[str] = []
        self._unsent: list[str] = []
        self._grown = asyncio.Event()
        self._taken_back = False

    @property
    def text(self) -> str:
        """What the model has written so far."""
        return "".join(self._pieces)

    @property
    def state(self) -> Mapping[str, str]:
        """What the platform needs to go on with what it has shown."""
        return self._session.state()

    def add(self, text: str) -> None:
        """Take the model's next words."""
        self._pieces.append(text)
        self._unsent.append(text)
        self._grown.set()

    def clear(self) -> None:
        """Forget the words so far: the model begins again."""
        self._pieces.clear()
        self._unsent.clear()
        self._taken_back = True
        self._grown.set()

    async def show(self) -> None:
        """Show the words as they come, until cancelled.

        Raises
            LeaseLostError, StoreUnavailableError
        """
        await self._session.begin()
        if self._session.state() != self._item.reply_state:
            await self._lanes.update(self._lease, replace(self._item, reply_state=self._session.state()))
        if not self._session.shows_progress:
            return
        await self._session.update("")
        while True:
            self._taken_back = False
            try:
                await self._show_text()
            except FormatterError as exc:
                log.warning("draft_not_rendered", error=str(exc))
                return

    async def _show_text(self) -> None:
        """Show one text until it is taken back. Raises FormatterError."""
        settings, platform = self._bot.settings, self._bot.platform
        async with self._formatter.open_stream(
            dialect=platform.dialect,
            limits=platform.part_limits(self._item.message),
            locale=settings.locale,
        ) as stream:
            while True:
                await self._grown.wait()
                if self._taken_back:
                    return
                self._grown.clear()
                words = "".join(self._unsent)
                self._unsent.clear()
                for state in await stream.render(words):
                    # Only the first part can be shown before the answer is complete; the others follow it.
                    if state.part_index == 0:
                        await self._session.update(state.text)
