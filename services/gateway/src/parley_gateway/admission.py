"""Which messages of a webhook request get into the queue, and what is said to those that don't.

A sender who may not use the bot, or sends more than the limits allow, is told so once in a while and otherwise
acknowledged in silence: nothing that keeps writing can make the gateway write as much.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from parley_gateway.access import may_use
from parley_gateway.bots import Bot
from parley_gateway.forgetting import Forgetting
from parley_gateway.levers import PAUSED, Levers
from parley_gateway.limits import DAY_S, MINUTE_S
from parley_gateway.messages import Conversation, MessageKind
from parley_gateway.platforms.base import Messages, RawResponse
from parley_gateway.questions import Questions
from parley_gateway.store.base import AcceptOutcome, Inbox, Receipt
from parley_gateway.store.records import QueuedMessage
from parley_gateway.trails import Trail

ALWAYS_TAKEN = frozenset({"/stop", "/forget"})
"""Commands that no limit holds back: the one saves work, the other is the user's right."""


LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of one message."""

    outcome: str
    """The `outcome` label of `parley_gateway_events_total`."""
    receipt: Receipt | None
    """None when the message wasn't offered to the store."""
    response: RawResponse | None = None
    """How to acknowledge the request; None when the platform knows, by the receipt."""


class Admission:
    """Offers messages to the store."""

    def __init__(
        self,
        inbox: Inbox,
        questions: Questions,
        forgetting: Forgetting,
        levers: Levers,
        trail: Trail,
        clock: Callable[[], float],
    ) -> None:
        """Take the collaborators."""
        self._levers = levers
        self._trail = trail
        self._inbox = inbox
        self._limits = questions.limits
        self._bursts = questions.bursts
        self._recalls = questions.recalls
        self._forgetting = forgetting
        self._clock = clock

    async def admit(self, bot: Bot, handled: Messages, item: QueuedMessage) -> Admitted:
        """Store a message, or turn it away. Raises StoreUnavailableError: it must not be acknowledged."""
        message = item.message
        if handled.refusal or not may_use(bot.settings, message):
            return await self._refuse(bot, handled, item)
        word = message.text.split(maxsplit=1)[0].lower() if message.kind is MessageKind.COMMAND else ""
        if word not in ALWAYS_TAKEN and await self._limits.too_many(bot, message):
            return await self._slow_down(bot, handled, item)
        receipt = await self._accept(bot, await self._bursts.prepare(bot, item))
        if receipt.outcome is not AcceptOutcome.ACCEPTED:
            await self._limits.take_back(bot, message)
        if receipt.outcome is AcceptOutcome.FULL:
            return Admitted(_outcome(receipt), receipt)
        step = "accepted" if receipt.outcome is AcceptOutcome.ACCEPTED else "redelivered"
        self._trail.note(item, step, delivery=receipt.delivery, kind=message.kind.value, message_id=message.message_id)
        return Admitted(_outcome(receipt), receipt, await self._tell_pause(bot, handled, item))

    async def _tell_pause(self, bot: Bot, handled: Messages, item: QueuedMessage) -> RawResponse | None:
        """Tell the sender of a stored question that the bot is paused, once an hour. None: acknowledge as always."""
        pause = self._levers.paused(bot.settings.platform, bot.settings.name)
        message = item.message
        if pause is None or message.kind is not MessageKind.QUESTION or not await self._levers.may_tell(pause, message):
            return None
        if handled.say_meanwhile is not None:
            return await handled.say_meanwhile(pause.notice or bot.sentences.paused)
        await self._accept(bot, replace(_notice_beside(item, PAUSED), note=pause.notice))
        return None

    async def recall(self, conversation: Conversation, message_id: str) -> None:
        """Take a message back. Raises StoreUnavailableError."""
        await self._recalls.recall(conversation, message_id)

    async def forget(self, conversation: Conversation, *, at: float) -> None:
        """Erase a conversation whose user left. Raises StoreUnavailableError."""
        await self._forgetting.forget_conversation(conversation, at=at)

    async def _refuse(self, bot: Bot, handled: Messages, item: QueuedMessage) -> Admitted:
        outcome = handled.refusal or "refused_user"
        told = bot.settings.refusal == "notice" and await self._limits.first_notice(item.message, "refused", DAY_S)
        if not told:
            return Admitted(outcome, None, handled.refused)
        if handled.say is not None:
            return Admitted(outcome, None, await handled.say(bot.sentences.refused))
        await self._accept(bot, _notice(item, "refused"))
        return Admitted(outcome, None, handled.refused)

    async def _slow_down(self, bot: Bot, handled: Messages, item: QueuedMessage) -> Admitted:
        """Acknowledge a message beyond the limit, unless it is the redelivery of one that was within it.

        It is stored as a notice that says nothing but takes its delivery key: only that tells a redelivery from a new
        message.
        """
        receipt = await self._accept(bot, _notice(item, ""))
        if receipt.outcome is AcceptOutcome.DUPLICATE:
            await self._limits.take_back(bot, item.message)
            return Admitted(_outcome(receipt), receipt)
        response = handled.refused
        if await self._limits.first_notice(item.message, LIMITED, MINUTE_S):
            if handled.say is not None:
                response = await handled.say(bot.sentences.limited)
            else:
                await self._accept(bot, _notice_beside(item, LIMITED))
        return Admitted(LIMITED, receipt, response)

    async def _accept(self, bot: Bot, item: QueuedMessage) -> Receipt:
        return await self._inbox.accept(item, now=self._clock(), dedupe_ttl_s=bot.platform.redelivery.span_s)


def _notice(item: QueuedMessage, name: str) -> QueuedMessage:
    """Return the notice that takes a message's place; nothing of what the user wrote is kept."""
    return replace(item, message=replace(item.message, kind=MessageKind.NOTICE, text=name))


def _notice_beside(item: QueuedMessage, name: str) -> QueuedMessage:
    """Return a notice of its own, beside a message that keeps its id and its place."""
    notice = _notice(item, name)
    return replace(notice, message=replace(notice.message, message_id=f"{item.message.message_id}#{name}"))


def _outcome(receipt: Receipt) -> str:
    return "queue_full" if receipt.outcome is AcceptOutcome.FULL else receipt.outcome.value
