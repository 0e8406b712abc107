"""What one user may use of a bot: messages in a minute, tokens in a day. Counted in the store, for all replicas.

Minutes and days are those of the clock (UTC): a new one begins from nothing.
"""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from parley_gateway.access import has_limits
from parley_gateway.bots import Bot
from parley_gateway.messages import InboundMessage
from parley_gateway.store.base import Cache, Counters

MINUTE_S = 60.0
DAY_S = 86400.0


class LimitStore(Cache, Counters, Protocol):
    """The parts of the store that limits use."""


class Limits:
    """Counts what users use."""

    def __init__(self, store: LimitStore, clock: Callable[[], float]) -> None:
        """Count in `store`."""
        self._store = store
        self._clock = clock

    async def too_many(self, bot: Bot, message: InboundMessage) -> bool:
        """Count a message; tell whether it is one more than its user may send in this minute."""
        most = bot.settings.limits.messages_per_user_minute
        if not most or not has_limits(bot.settings, message.sender):
            return False
        return await self._count_message(message, 1) > most

    async def take_back(self, bot: Bot, message: InboundMessage) -> None:
        """Count a message less: it turned out to be a redelivery, or found no room."""
        if bot.settings.limits.messages_per_user_minute and has_limits(bot.settings, message.sender):
            await self._count_message(message, -1)

    async def tokens_used_up(self, bot: Bot, message: InboundMessage) -> bool:
        """Tell whether the user's tokens of today are used up."""
        most = bot.settings.limits.tokens_per_user_day
        if not most or not has_limits(bot.settings, message.sender):
            return False
        return await self.tokens_used(message) >= most

    async def tokens_used(self, message: InboundMessage) -> int:
        """Return how many tokens the user used today, as far as they are counted."""
        now = self._clock()
        return await self._store.counted(_key(message, "tokens", now, DAY_S), now=now)

    async def use_tokens(self, bot: Bot, message: InboundMessage, tokens: int) -> None:
        """Add tokens to what the user used today."""
        if not bot.settings.limits.tokens_per_user_day or not tokens:
            return
        now = self._clock()
        key = _key(message, "tokens", now, DAY_S)
        await self._store.count(key, tokens, now=now, expires_at=_window_end(now, DAY_S))

    async def first_notice(self, message: InboundMessage, reason: str, window_s: float) -> bool:
        """Tell whether the user hasn't been told this in the window yet; the message itself may be told it again."""
        now = self._clock()
        key, ttl_s = _key(message, f"told/{reason}", now, window_s), _window_end(now, window_s) - now
        return await self._store.try_lock(key, message.delivery_key, now=now, ttl_s=ttl_s)

    async def _count_message(self, message: InboundMessage, amount: int) -> int:
        now = self._clock()
        key = _key(message, "messages", now, MINUTE_S)
        # Kept a minute longer than it counts: a redelivery at the window's end must not start a new count below 0.
        return await self._store.count(key, amount, now=now, expires_at=_window_end(now, MINUTE_S) + MINUTE_S)


def estimated_tokens(*texts: str) -> int:
    """Return about how many tokens texts are, for upstreams that don't count: one for 3 bytes.

    That is one for each Chinese character, and a little more than English takes.
    """
    return sum(-(-len(text.encode(errors="replace")) // 3) for text in texts)


def _key(message: InboundMessage, what: str, now: float, window_s: float) -> str:
    conversation = message.conversation
    user = (conversation.platform, conversation.bot, conversation.tenant, message.sender)
    return "/".join(("limits", what, *(quote(piece, safe="") for piece in user), f"{int(now // window_s)}"))


def _window_end(now: float, window_s: float) -> float:
    return (now // window_s + 1) * window_s
