"""Several messages of one user in a row, answered together as one question: a bot's setting `bursts: join`.

A question is held back for `join_within`. When its answer starts, the questions behind it in its lane join it, up to
the first that a command separates from it. Each of them keeps its place and its delivery key, and leaves its lane
unanswered when its turn comes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from parley_gateway.bots import Bot
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.store.base import Cache, Lanes, Lease
from parley_gateway.store.records import JoinedMessage, QueuedMessage

MARK_S = 8 * 86400.0
"""How long marks are kept: longer than any message waits, replayed dead letters included."""
FIRST_BURST = "first"
"""The mark of messages that no command came before."""
MOST_JOINED = 20
MOST_CHARS = 20_000
"""Of all joined messages together."""


class BurstStore(Cache, Lanes, Protocol):
    """The parts of the store that bursts use."""


class Bursts:
    """Joins messages."""

    def __init__(self, store: BurstStore, clock: Callable[[], float]) -> None:
        """Keep the marks in `store`."""
        self._store = store
        self._clock = clock

    async def prepare(self, bot: Bot, item: QueuedMessage) -> QueuedMessage:
        """Return a message as it shall be stored, marked with the burst that it belongs to."""
        if bot.settings.bursts != "join":
            return item
        key, message = f"burst/{item.message.question_lane}", item.message
        now = self._clock()
        if message.kind is MessageKind.COMMAND:
            await self._store.cache_put(key, message.message_id, expires_at=now + MARK_S)
        if message.kind is not MessageKind.QUESTION or message.replaces:
            return item
        mark = await self._store.cache_get(key, now=now)
        return replace(item, burst=mark[0] if mark else FIRST_BURST, due_at=item.received_at + bot.settings.join_within)

    async def was_joined(self, item: QueuedMessage) -> bool:
        """Tell whether a message was answered together with an earlier one."""
        return (
            bool(item.burst) and await self._store.cache_get(_joined_key(item.message), now=self._clock()) is not None
        )

    async def join(self, bot: Bot, lease: Lease, item: QueuedMessage) -> QueuedMessage:
        """Return the head of a lane together with what waits behind it, stored that way. Raises LeaseLostError."""
        if bot.settings.bursts != "join" or not item.burst:
            return item
        joining = self._joining(item, await self._store.behind(lease, limit=MOST_JOINED))
        if not joining:
            return item
        first = item.joined[:1] or (_part(item.message),)
        item = item.join((*first, *(_part(each) for each in joining)))
        await self._store.update(lease, item)
        # Marked after they are stored with the head: whoever finds a mark can rely on the head to hold the text.
        until = self._clock() + MARK_S
        for each in joining:
            await self._store.cache_put(_joined_key(each), item.message.message_id, expires_at=until)
        return item

    @staticmethod
    def _joining(item: QueuedMessage, behind: tuple[QueuedMessage, ...]) -> list[InboundMessage]:
        joining: list[InboundMessage] = []
        room = MOST_CHARS - len(item.message.text)
        for each in behind:
            room -= len(each.message.text)
            # A message that replies to another is a question of its own; in a thread every message does.
            replies = each.message.quotes and not each.message.conversation.thread
            if each.message.kind is not MessageKind.QUESTION or each.burst != item.burst or replies or room < 0:
                break
            joining.append(each.message)
        return joining


def _part(message: InboundMessage) -> JoinedMessage:
    return JoinedMessage(message.message_id, message.text, message.target)


def _joined_key(message: InboundMessage) -> str:
    return f"joined/{message.delivery_key}"
