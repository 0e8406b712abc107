"""Clicks on what an answer shows: stop it, ask again, rate it. Each can come twice, to any replica, and counts once."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from parley_gateway.access import may_use
from parley_gateway.admission import Admission
from parley_gateway.answering import stop_mark
from parley_gateway.bots import Bot
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.messages import ASKED_AGAIN, InboundMessage
from parley_gateway.metrics import GatewayMetrics
from parley_gateway.platforms.base import Click, Clicked, ClickOutcome, Messages, RawResponse
from parley_gateway.store.base import AcceptOutcome, Cache, Conversations, KeptAnswers
from parley_gateway.store.records import QueuedMessage

ANSWER_BY_S = 2.0
"""A platform shows its user an error when a click isn't answered; Feishu after 3 s."""
RATED_S = 14 * 86400.0
"""As long as a card of Feishu can be clicked."""

_RATINGS = {Click.GOOD: "up", Click.BAD: "down"}

log = structlog.get_logger("parley.clicks")


class ClickStore(Cache, Conversations, KeptAnswers, Protocol):
    """The parts of the store that clicks use."""


class Clicks:
    """Does what clicks ask for."""

    def __init__(
        self, store: ClickStore, admission: Admission, metrics: GatewayMetrics, clock: Callable[[], float]
    ) -> None:
        """Take the collaborators."""
        self._store = store
        self._admission = admission
        self._metrics = metrics
        self._clock = clock

    async def take(self, bot: Bot, clicked: Clicked) -> RawResponse:
        """Do it within two seconds, and answer the click."""
        try:
            async with asyncio.timeout(ANSWER_BY_S):
                outcome = await self._do(bot, clicked)
        except (TimeoutError, StoreUnavailableError) as exc:
            log.warning("click_not_done", click=clicked.click.value, error=type(exc).__name__)
            outcome = ClickOutcome.UNAVAILABLE
        self._metrics.event(bot.label, "card_action", _EVENT_OUTCOMES[outcome])
        return clicked.respond(outcome)

    async def _do(self, bot: Bot, clicked: Clicked) -> ClickOutcome:
        message = clicked.message
        if not may_use(bot.settings, replace(message, sender=clicked.user, sender_tenant=clicked.user_tenant)):
            return ClickOutcome.REFUSED
        if clicked.click in _RATINGS:
            return await self._rate(bot, clicked)
        if clicked.user != message.sender and clicked.user not in bot.settings.admins:
            return ClickOutcome.NOT_ASKER
        if clicked.click is Click.STOP:
            await self._store.request_stop(message.conversation.key, stop_mark(message), at=self._clock())
            return ClickOutcome.DONE
        return await self._ask_again(bot, message)

    async def _rate(self, bot: Bot, clicked: Clicked) -> ClickOutcome:
        """Count a user's first rating of an answer."""
        key = f"rated/{clicked.message.delivery_key}/{clicked.user}"
        if not await self._store.try_lock(key, uuid.uuid4().hex, now=self._clock(), ttl_s=RATED_S):
            return ClickOutcome.ALREADY
        self._metrics.feedback.labels(bot.label, bot.settings.name, _RATINGS[clicked.click]).inc()
        return ClickOutcome.DONE

    async def _ask_again(self, bot: Bot, message: InboundMessage) -> ClickOutcome:
        """Queue the question once more, under an id of its own: each answer can be asked for anew once."""
        now = self._clock()
        history = await self._store.history(message.conversation.key, now=now)
        question = next((turn.question for turn in history if message.message_id in turn.message_ids), "")
        if not question:
            # The card is complete a moment before the turn is stored.
            pending = message.message_id in await self._store.pending(message.conversation.key)
            return ClickOutcome.UNAVAILABLE if pending else ClickOutcome.GONE
        # What it replied to stands in the question already.
        again = replace(
            message,
            message_id=_next_id(message.message_id),
            text=question,
            quotes="",
            sent_at=now,
            replaces=message.message_id,
        )
        asked = Messages((again,), "card_action", _unheard)
        admitted = await self._admission.admit(bot, asked, QueuedMessage(again, now))
        if admitted.receipt is None or admitted.outcome == "limited":
            return ClickOutcome.REFUSED
        return _RECEIPTS[admitted.receipt.outcome]


def _next_id(message_id: str) -> str:
    first, _, number = message_id.rpartition(ASKED_AGAIN)
    return f"{first}{ASKED_AGAIN}{int(number) + 1}" if first and number.isdigit() else f"{message_id}{ASKED_AGAIN}1"


async def _unheard(_: object) -> RawResponse:
    """A click is answered with its outcome instead."""
    return RawResponse()


_EVENT_OUTCOMES = {
    ClickOutcome.DONE: "accepted",
    ClickOutcome.ALREADY: "duplicate",
    ClickOutcome.NOT_ASKER: "refused_user",
    ClickOutcome.REFUSED: "refused_user",
    ClickOutcome.GONE: "unsupported",
    ClickOutcome.UNAVAILABLE: "unavailable",
}
_RECEIPTS = {
    AcceptOutcome.ACCEPTED: ClickOutcome.DONE,
    AcceptOutcome.DUPLICATE: ClickOutcome.ALREADY,
    AcceptOutcome.FULL: ClickOutcome.UNAVAILABLE,
}
