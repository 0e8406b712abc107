"""Levers that an operator pulls for all replicas at once: so far, pausing a bot.

A paused bot's questions are accepted, stored and acknowledged as always, and wait in their lanes until the bot is
resumed; their time to live goes on, so that nobody gets an answer that no longer makes sense. Answers in the making are
finished, commands are answered. The levers are one value in the store, which every replica reads once a second.
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import structlog

from parley_gateway.errors import StoreUnavailableError
from parley_gateway.messages import InboundMessage
from parley_gateway.store.base import Cache

KEY = "levers"
VERSION = 1
LONGEST_PAUSE_S = 30 * 86400.0
"""A pause without an end ends after this time, like everything in the store."""
NOTICE_EVERY_S = 3600.0
"""How often one person is told in one conversation that the bot is paused."""
PAUSED = "paused"
"""Name of the notice by which users are told."""
LOCK_S = 5.0
_LOCK_TRIES = 40

log = structlog.get_logger("parley.levers")


@dataclass(frozen=True, slots=True)
class Pause:
    """One paused bot."""

    platform: str
    bot: str
    since: float
    until: float
    notice: str = ""
    """The operator's own sentence for users; empty means the catalogue's."""


class Levers:
    """What the operator has set, as this process knows it."""

    def __init__(self, cache: Cache, clock: Callable[[], float], on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called when a bot was paused or resumed, here or by another replica."""
        self._cache = cache
        self._clock = clock
        self._on_change = on_change
        self._pauses: dict[tuple[str, str], Pause] = {}

    def paused(self, platform: str, bot: str) -> Pause | None:
        """Return a bot's pause, None while it works."""
        pause = self._pauses.get((platform, bot))
        return pause if pause is not None and self._clock() < pause.until else None

    def pauses(self) -> list[Pause]:
        """Return every pause."""
        return [pause for pause in self._pauses.values() if self._clock() < pause.until]

    async def refresh(self) -> None:
        """Read the levers. Raises StoreUnavailableError; what was known before stays valid then."""
        self._use(await self._read())

    async def pause(self, platform: str, bot: str, *, notice: str, for_s: float | None) -> Pause:
        """Pause a bot, or change its pause. Raises StoreUnavailableError."""
        now = self._clock()
        length = min(for_s if for_s is not None else LONGEST_PAUSE_S, LONGEST_PAUSE_S)
        pause = Pause(platform, bot, now, now + length, notice)
        await self._change(lambda others: [*others, pause], platform, bot)
        return pause

    async def resume(self, platform: str, bot: str) -> bool:
        """Let a bot work again. Returns whether it was paused. Raises StoreUnavailableError."""
        return await self._change(lambda others: others, platform, bot)

    async def may_tell(self, pause: Pause, message: InboundMessage) -> bool:
        """Tell whether this message's sender is to be told of the pause now: once an hour, however often they write.

        The same message may always tell it again. Raises StoreUnavailableError.
        """
        key = f"pause-told/{pause.since:.3f}/{message.question_lane}"
        return await self._cache.try_lock(key, message.delivery_key, now=self._clock(), ttl_s=NOTICE_EVERY_S)

    async def _change(self, change: Callable[[list[Pause]], list[Pause]], platform: str, bot: str) -> bool:
        """Apply `change` to the pauses of the other bots and write them; return whether this bot was paused."""
        owner = uuid.uuid4().hex
        await self._lock(owner)
        try:
            pauses = await self._read()
            others = [pause for pause in pauses if (pause.platform, pause.bot) != (platform, bot)]
            changed = change(others)
            expires_at = max((pause.until for pause in changed), default=self._clock())
            await self._cache.cache_put(KEY, _dump(changed), expires_at=expires_at)
        finally:
            await self._cache.unlock(KEY, owner)
        self._use(changed)
        return len(others) < len(pauses)

    async def _lock(self, owner: str) -> None:
        for _ in range(_LOCK_TRIES):
            if await self._cache.try_lock(KEY, owner, now=self._clock(), ttl_s=LOCK_S):
                return
            await asyncio.sleep(0.05)
        raise StoreUnavailableError("the levers are being changed by somebody else: try again in some seconds")

    async def _read(self) -> list[Pause]:
        now = self._clock()
        found = await self._cache.cache_get(KEY, now=now)
        return [pause for pause in _load(found[0]) if now < pause.until] if found else []

    def _use(self, pauses: Sequence[Pause]) -> None:
        known = {(pause.platform, pause.bot): pause for pause in pauses}
        if known != self._pauses:
            self._pauses = known
            log.info("levers_changed", paused=[f"{pause.platform}/{pause.bot}" for pause in pauses])
            self._on_change()


def _dump(pauses: Sequence[Pause]) -> str:
    return json.dumps({"v": VERSION, "paused": [asdict(pause) for pause in pauses]}, ensure_ascii=True)


def _load(text: str) -> list[Pause]:
    """Return the pauses of a stored value; fields that this release doesn't know are passed over."""
    known = Pause.__dataclass_fields__
    rows = json.loads(text)["paused"]
    return [Pause(**{name: value for name, value in row.items() if name in known}) for row in rows]
