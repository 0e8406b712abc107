"""Commands and notices: what the gateway answers itself, past the lane of questions."""

from collections.abc import Awaitable, Callable

from parley_gateway.bots import Bot
from parley_gateway.messages import MessageKind
from parley_gateway.store.base import Conversations
from parley_gateway.store.records import QueuedMessage, reference_of


class Commands:
    """Runs `/help`, `/reset`, `/stop`; says notices."""

    def __init__(self, conversations: Conversations) -> None:
        """Take the store's part that commands change."""
        self._conversations = conversations
        self._known: dict[str, Callable[[Bot, QueuedMessage], Awaitable[str]]] = {
            "/help": self._help,
            "/reset": self._reset,
            "/stop": self._stop,
        }

    @property
    def names(self) -> frozenset[str]:
        """Words that make a message a command."""
        return frozenset(self._known)

    async def answer(self, bot: Bot, item: QueuedMessage) -> str:
        """Do what a command asks and return the sentence to say; doing it twice does no harm."""
        message = item.message
        if message.kind is MessageKind.NOTICE:
            return bot.sentences.notice(message.text, item.note or reference_of(message.delivery_key))
        name = message.text.split(maxsplit=1)[0].lower()
        return await self._known.get(name, self._help)(bot, item)

    async def _help(self, bot: Bot, _item: QueuedMessage) -> str:
        return bot.sentences.help

    async def _reset(self, bot: Bot, item: QueuedMessage) -> str:
        await self._conversations.reset_history(item.message.conversation.key, at=item.received_at)
        return bot.sentences.reset

    async def _stop(self, bot: Bot, item: QueuedMessage) -> str:
        message = item.message
        await self._conversations.request_stop(message.conversation.key, message.question_lane, at=item.received_at)
        return bot.sentences.stopped
