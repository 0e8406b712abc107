"""Messages that their users took back: unanswered if there is still time, and gone from the history.

A recall is a mark in the store that whoever works on the message looks for: it may come to any replica, before the
message is worked on, meanwhile or afterwards.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from parley_gateway.messages import ASKED_AGAIN, Conversation, delivery_key
from parley_gateway.platforms.base import Platform, Support
from parley_gateway.store.base import Cache, Conversations
from parley_gateway.store.records import QueuedMessage

POLL_S = 0.5
MARK_S = 8 * 86400.0
"""Longer than a message waits, dead letters included: replaying one must not answer what was taken back."""


class RecallStore(Cache, Conversations, Protocol):
    """The parts of the store that recalls use."""


class Recalls:
    """Takes messages back."""

    def __init__(self, store: RecallStore, clock: Callable[[], float]) -> None:
        """Keep the marks in `store`."""
        self._store = store
        self._clock = clock

    async def recall(self, conversation: Conversation, message_id: str) -> None:
        """Take a message back; doing it twice does no harm."""
        # The mark first: a turn that is being added right now is found by it afterwards.
        key = _key(conversation, message_id)
        await self._store.cache_put(key, "1", expires_at=self._clock() + MARK_S)
        for turn in await self._store.history(conversation.key, now=self._clock()):
            for each in turn.message_ids:
                if _first_id(each) == message_id:
                    await self._store.forget_turn(conversation.key, each)

    async def without_recalled(self, platform: Platform, item: QueuedMessage) -> QueuedMessage | None:
        """Return a message without those parts that were taken back, None when nothing is left."""
        if not _tells_recalls(platform):
            return item
        conversation = item.message.conversation
        if not await self._recalled(conversation, item.message_ids):
            return item
        left = [each for each in item.joined if not await self._recalled(conversation, [each.message_id])]
        return item.join(left) if left else None

    async def forget_recalled(self, platform: Platform, item: QueuedMessage) -> None:
        """Delete the turn of an answered message if it was taken back on the way."""
        if _tells_recalls(platform):
            for message_id in item.message_ids:
                if await self._recalled(item.message.conversation, [message_id]):
                    await self._store.forget_turn(item.message.conversation.key, message_id)

    async def wait(self, platform: Platform, item: QueuedMessage) -> None:
        """Return when a part of a message is taken back; never on platforms that don't tell.

        Raises StoreUnavailableError.
        """
        if not _tells_recalls(platform):
            await asyncio.Event().wait()
        while not await self._recalled(item.message.conversation, item.message_ids):  # noqa: ASYNC110 - from any process
            await asyncio.sleep(POLL_S)

    async def _recalled(self, conversation: Conversation, message_ids: Iterable[str]) -> bool:
        for message_id in message_ids:
            if await self._store.cache_get(_key(conversation, message_id), now=self._clock()):
                return True
        return False


def _tells_recalls(platform: Platform) -> bool:
    capability = platform.capabilities.get("recall")
    return capability is not None and capability.support is Support.DONE


def _first_id(message_id: str) -> str:
    """Return the platform's own id of a message that may have been asked again."""
    first, _, number = message_id.rpartition(ASKED_AGAIN)
    return first if first and number.isdigit() else message_id


def _key(conversation: Conversation, message_id: str) -> str:
    return f"recalled/{delivery_key(conversation.platform, conversation.bot, _first_id(message_id))}"
