"""Commands and notices: what the gateway answers itself, past the lane of questions."""

from collections.abc import Awaitable, Callable

from parley_gateway.access import may_choose
from parley_gateway.bots import Bot
from parley_gateway.choices import Choices, Kind
from parley_gateway.forgetting import Forgetting
from parley_gateway.levers import PAUSED
from parley_gateway.messages import MessageKind
from parley_gateway.store.base import Conversations
from parley_gateway.store.records import QueuedMessage, reference_of

OWN_MODEL = "default"
"""Names the bot's model where its settings leave the choice to the LLM service."""


class Commands:
    """Runs `/help`, `/reset`, `/stop`, `/forget`, `/model`, `/prompt`; says notices."""

    def __init__(self, conversations: Conversations, choices: Choices, forgetting: Forgetting) -> None:
        """Take what commands change."""
        self._conversations = conversations
        self._choices = choices
        self._forgetting = forgetting
        self._known: dict[str, Callable[[Bot, QueuedMessage], Awaitable[str]]] = {
            "/help": self._help,
            "/reset": self._reset,
            "/stop": self._stop,
            "/forget": self._forget,
            "/model": lambda bot, item: self._choose(bot, item, "model"),
            "/prompt": lambda bot, item: self._choose(bot, item, "prompt"),
        }

    @property
    def names(self) -> frozenset[str]:
        """Words that make a message a command."""
        return frozenset(self._known)

    async def answer(self, bot: Bot, item: QueuedMessage) -> str:
        """Do what a command asks and return the sentence to say, empty for none; doing it twice does no harm."""
        message = item.message
        if message.kind is MessageKind.NOTICE:
            if not message.text:
                return ""
            if message.text == PAUSED and item.note:
                return item.note  # The operator's own sentence.
            return bot.sentences.notice(message.text, item.note or reference_of(message.delivery_key))
        name = message.text.split(maxsplit=1)[0].lower()
        return await self._known.get(name, self._help)(bot, item)

    async def _help(self, bot: Bot, item: QueuedMessage) -> str:
        """Return what this user may do."""
        words = bot.sentences
        may = may_choose(bot.settings, item.message.sender)
        offered = {f"/{kind}": may and bool(bot.settings.offered(kind)) for kind in ("model", "prompt")}
        lines = [f"{name} – {does}" for name, does in words.commands.items() if offered.get(name, True)]
        return "\n".join((words.help, *lines))

    async def _reset(self, bot: Bot, item: QueuedMessage) -> str:
        await self._conversations.reset_history(item.message.conversation.key, at=item.received_at)
        return bot.sentences.reset

    async def _stop(self, bot: Bot, item: QueuedMessage) -> str:
        message = item.message
        await self._conversations.request_stop(message.conversation.key, message.question_lane, at=item.received_at)
        return bot.sentences.stopped

    async def _forget(self, bot: Bot, item: QueuedMessage) -> str:
        count = await self._forgetting.forget_user(item.message, received_at=item.received_at)
        return bot.sentences.forgotten.format(count=count)

    async def _choose(self, bot: Bot, item: QueuedMessage, kind: Kind) -> str:
        """Tell what there is to choose from, or choose."""
        words, offered, message = bot.sentences, bot.settings.offered(kind), item.message
        if not offered:
            return words.nothing_to_choose
        if not may_choose(bot.settings, message.sender):
            return words.admins_only
        conversation = message.conversation.key
        names = {name or OWN_MODEL: name for name in offered}
        wanted = message.text.partition(" ")[2].strip()
        if not wanted:
            current = await self._choices.current(bot, kind, conversation)
            return words.choices.format(names=", ".join(names), current=current or OWN_MODEL, command=f"/{kind}")
        if wanted not in names:
            # What the user wrote isn't repeated: a sentence of ours must not carry somebody else's mark-up.
            return words.unknown_choice.format(names=", ".join(names))
        await self._choices.choose(kind, conversation, names[wanted])
        return words.chosen.format(name=wanted)
