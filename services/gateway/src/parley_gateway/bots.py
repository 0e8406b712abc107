"""The bots of this process: settings, platform and language together, found by platform and name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parley_gateway.config import BotSettings
from parley_gateway.platforms.base import Platform
from parley_gateway.sentences import Sentences, sentences


@dataclass(frozen=True, slots=True)
class Bot:
    """One bot."""

    settings: BotSettings
    platform: Platform

    @property
    def label(self) -> str:
        """The platform's name as metrics show it."""
        return self.platform.name

    @property
    def sentences(self) -> Sentences:
        """What the gateway says in the bot's language."""
        return sentences(self.settings.locale)

    def platform_fits(self, settings: BotSettings) -> bool:
        """Tell whether a bot with these settings can use this bot's platform object."""
        return (
            self.settings.platform == settings.platform
            and self.settings.name == settings.name
            and self.settings.locale == settings.locale
            and self.settings.platform_settings == settings.platform_settings
        )


class Bots:
    """All bots by (platform, name). Who holds it sees the bots of the moment, all of one version of the settings."""

    def __init__(self, bots: Sequence[Bot]) -> None:
        """Index the bots."""
        self.replace(bots)

    def replace(self, bots: Sequence[Bot]) -> None:
        """Put other bots in the place of all."""
        self._bots = {(bot.settings.platform, bot.settings.name): bot for bot in bots}

    def find(self, platform: str, name: str) -> Bot | None:
        """Return a bot, None when there is no such."""
        return self._bots.get((platform, name))

    def __iter__(self) -> Iterator[Bot]:
        """Iterate over all bots."""
        return iter(tuple(self._bots.values()))
