"""Erases what is stored of a user in a conversation: asked for with `/forget`, or because the user left.

What counts a user's use (limits) stays: it holds nothing that anybody wrote, ends with its day, and erasing it would
lift the limit.
"""

from typing import Protocol

from parley_gateway.choices import Choices
from parley_gateway.messages import Conversation, InboundMessage
from parley_gateway.store.base import Conversations, Erasing


class ForgettingStore(Conversations, Erasing, Protocol):
    """The parts of the store that forgetting uses."""


class Forgetting:
    """Erases conversations and what single users put into them."""

    def __init__(self, store: ForgettingStore, choices: Choices) -> None:
        """Erase in the store, and what the conversation chose."""
        self._store = store
        self._choices = choices

    async def forget_user(self, message: InboundMessage, *, received_at: float) -> int:
        """Erase what the sender of a message had sent before it; return how many records went.

        In a group only what is the sender's own goes, elsewhere the whole conversation. The message itself stays: it
        is the one that asks.
        """
        conversation = message.conversation
        if message.group:
            return await self._store.erase(conversation.key, message.question_lane, at=message.sent_at)
        erased = await self.forget_conversation(conversation, at=message.sent_at)
        # The platform's clock may be behind ours, by which turns are dated.
        await self._store.reset_history(conversation.key, at=received_at)
        return erased

    async def forget_conversation(self, conversation: Conversation, *, at: float) -> int:
        """Erase everything of a conversation that was sent before `at`; return how many records went."""
        erased = await self._store.erase(conversation.key, None, at=at)
        return erased + await self._choices.forget(conversation.key)
