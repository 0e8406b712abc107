"""The model and the prompt that a conversation chose instead of its bot's own, kept as long as its history."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from parley_gateway.bots import Bot
from parley_gateway.store.base import Cache

Kind = Literal["model", "prompt"]
KINDS: tuple[Kind, ...] = ("model", "prompt")


class Choices:
    """Reads and writes choices."""

    def __init__(self, cache: Cache, clock: Callable[[], float], *, ttl_s: float) -> None:
        """Keep a choice for `ttl_s` seconds after it was last used."""
        self._cache = cache
        self._clock = clock
        self._ttl_s = ttl_s

    async def current(self, bot: Bot, kind: Kind, conversation: str) -> str:
        """Return the name in use in a conversation; a choice that the bot no longer offers doesn't count."""
        own: str = getattr(bot.settings, kind)
        offered = bot.settings.offered(kind)
        if not offered:
            return own
        now, key = self._clock(), _key(kind, conversation)
        found = await self._cache.cache_get(key, now=now)
        if found is None or found[0] not in offered:
            return own
        name, expires_at = found
        if expires_at - now < self._ttl_s / 2:
            await self._cache.cache_put(key, name, expires_at=now + self._ttl_s)
        return name

    async def choose(self, kind: Kind, conversation: str, name: str) -> None:
        """Use a name in a conversation from now on."""
        await self._cache.cache_put(_key(kind, conversation), name, expires_at=self._clock() + self._ttl_s)

    async def forget(self, conversation: str) -> int:
        """Go back to the bot's own; return how many choices there were."""
        count = 0
        for kind in KINDS:
            found = await self._cache.cache_get(_key(kind, conversation), now=self._clock())
            if found is not None:
                await self._cache.cache_delete(_key(kind, conversation), found[0])
                count += 1
        return count

    async def applied(self, bot: Bot, conversation: str) -> Bot:
        """Return the bot as a conversation chose it."""
        chosen: dict[str, str] = {kind: await self.current(bot, kind, conversation) for kind in KINDS}
        if all(getattr(bot.settings, kind) == name for kind, name in chosen.items()):
            return bot
        return replace(bot, settings=bot.settings.model_copy(update=chosen))


def _key(kind: Kind, conversation: str) -> str:
    return f"chosen/{kind}/{conversation}"
