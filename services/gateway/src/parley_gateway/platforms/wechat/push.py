"""What all replicas remember about pushing: that an account may not push at all, and who is owed an answer.

Both are small values in the shared cache. An answer is owed when a push failed in a way that the user's next message
mends (`KeepForLaterError`): it is kept in the store, and the reply to that next message carries it.
"""

import logging
import uuid
from collections.abc import Callable

from parley_gateway.platforms.base import EventReport
from parley_gateway.store.base import Cache

KEEP_S = 86400.0
"""How long both are remembered, in seconds: as long as answers are kept, and verification takes WeChat days."""

log = logging.getLogger(__name__)


class PushMemory:
    """The shared memory of one bot's pushing."""

    def __init__(
        self, cache: Cache, *, bot: str, app_id: str, clock: Callable[[], float], on_event: EventReport
    ) -> None:
        """Keep values in `cache` under the AppID (the account) and the bot (its users)."""
        self._cache = cache
        self._clock = clock
        self._on_event = on_event
        self._bot = bot
        self._app_id = app_id
        self._inline_only = f"wechat/{app_id}/inline_only"

    async def may_push(self) -> bool:
        """Tell whether the account hasn't been refused for want of verification within a day."""
        return await self._cache.cache_get(self._inline_only, now=self._clock()) is None

    async def remember_refusal(self) -> None:
        """Answer inline for a day from now on; report it once, whichever replica finds out."""
        now = self._clock()
        await self._cache.cache_put(self._inline_only, "1", expires_at=now + KEEP_S)
        if await self._cache.try_lock(self._inline_only, uuid.uuid4().hex, now=now, ttl_s=KEEP_S):
            self._on_event("inline_only")
            log.warning(
                "WeChat account %s (bot %s) may not send customer-service messages (48001): answers travel inline "
                "for the next 24 h. Have the account verified in the console, or set reply: inline.",
                self._app_id,
                self._bot,
            )

    async def owe(self, conversation: str) -> None:
        """Remember that the next message of this user has to bring a kept answer back."""
        await self._cache.cache_put(self._debt(conversation), "1", expires_at=self._clock() + KEEP_S)

    async def owes(self, conversation: str) -> bool:
        """Tell whether a kept answer waits for this user's next message."""
        return await self._cache.cache_get(self._debt(conversation), now=self._clock()) is not None

    async def settle(self, conversation: str) -> None:
        """Forget it: nothing is left to bring."""
        await self._cache.cache_delete(self._debt(conversation), "1")

    @staticmethod
    def _debt(conversation: str) -> str:
        return f"{conversation}/owed"
