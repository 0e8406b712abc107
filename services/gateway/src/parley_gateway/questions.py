"""What happens to a question between its lane and the model: whether it is still to be answered, and as what.

Joined with what the user wrote right after it, without what was taken back, with the text of the message that it
replies to, under the model and the prompt that its conversation chose, within its user's tokens.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from parley_gateway.bots import Bot
from parley_gateway.bursts import Bursts, BurstStore
from parley_gateway.choices import Choices
from parley_gateway.errors import DeliveryError
from parley_gateway.limits import DAY_S, Limits, LimitStore
from parley_gateway.messages import Turn
from parley_gateway.platforms.base import QuoteSource
from parley_gateway.recalls import Recalls, RecallStore
from parley_gateway.sentences import Sentences
from parley_gateway.store.base import Lease
from parley_gateway.store.records import QueuedMessage, StoredAnswer

QUOTED_CHARS = 2000
"""How much of a quoted message the model is told."""

log = structlog.get_logger("parley.questions")


class QuestionStore(BurstStore, LimitStore, RecallStore, Protocol):
    """The parts of the store that questions use."""


class Questions:
    """Prepares questions, and settles them when they are answered."""

    def __init__(self, store: QuestionStore, choices: Choices, clock: Callable[[], float]) -> None:
        """Take the store, and what conversations chose."""
        self._store = store
        self._clock = clock
        self.choices = choices
        self.limits = Limits(store, clock)
        self.bursts = Bursts(store, clock)
        self.recalls = Recalls(store, clock)

    async def prepare(self, bot: Bot, lease: Lease, item: QueuedMessage) -> tuple[QueuedMessage, str]:
        """Return the question as it is to be answered, and the outcome if it isn't, else an empty string.

        Raises
            LeaseLostError, StoreUnavailableError
        """
        if await self.bursts.was_joined(item):
            return item, "joined"
        if self._clock() < item.expires_at:
            item = await self.bursts.join(bot, lease, item)
        left = await self.recalls.without_recalled(bot.platform, item)
        if left is None:
            return item, "recalled"
        return await self._with_quote(bot, left), ""

    async def tokens_used_up(self, bot: Bot, item: QueuedMessage) -> str | None:
        """Return what to say when the user's tokens are used up, nothing when that was said today; None: go on."""
        if not await self.limits.tokens_used_up(bot, item.message):
            return None
        first = await self.limits.first_notice(item.message, "tokens", DAY_S)
        return bot.sentences.tokens_used_up if first else ""

    async def settle(self, bot: Bot, item: QueuedMessage) -> None:
        """Take the turn back if its question was recalled while it was being answered, and the one it replaces."""
        if item.message.replaces:
            await self._store.forget_turn(item.message.conversation.key, item.message.replaces)
        await self.recalls.forget_recalled(bot.platform, item)

    async def _with_quote(self, bot: Bot, item: QueuedMessage) -> QueuedMessage:
        """Return the question with the text that it replies to; without it when the platform can't say."""
        message = item.message
        if not message.quotes or item.quoted or not isinstance(bot.platform, QuoteSource):
            return item
        if message.conversation.thread and await self._store.history(message.conversation.key, now=self._clock()):
            return item  # In a thread every message replies to the first one, which the history begins with.
        try:
            quoted = await bot.platform.quoted_text(message)
        except DeliveryError as exc:
            log.warning("quote_not_read", error=str(exc))
            return item
        return replace(item, quoted=_cut(quoted.strip()))


def asked(item: QueuedMessage, words: Sentences) -> str:
    """Return what the model is asked: all that the user wrote, below what it replies to, which is marked as quoted."""
    if not item.quoted:
        return item.question
    quote = "\n".join(f"> {line}" for line in item.quoted.splitlines())
    return f"{words.quote_mark}\n{quote}\n\n{item.question}"


def turn_of(item: QueuedMessage, answer: StoredAnswer, words: Sentences) -> Turn:
    """Return question and answer as they enter the history."""
    return Turn(asked(item, words), answer.markdown, item.received_at, item.message_ids)


def _cut(text: str) -> str:
    return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS].rstrip() + "…"
