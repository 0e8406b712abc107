"""Inline replies: which of WeChat's requests carries which part of which answer.

WeChat waits 5 s for the answer to a message, then closes the connection and delivers the message again, three times in
all (WeChat documentation, "Passive user reply message"). The rules:

1. A try is answered as soon as its answer is there, also when another try of the same message had it already.
2. If it isn't there in time, a try that others follow stays open until WeChat has closed it: any answer would end the
   tries. The last try gets a line to tap, which names the answer.
3. Tapping that line, or typing the word, asks for a part; so does the line under a part that others follow.
4. An answer that could not be pushed comes with the reply to the user's next message.

All that these rules need is in the store (first arrival and number of the try, kept answers, what is pending), so any
replica can take any request. One that WeChat has given up is finished like any other.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.platforms.wechat.push import PushMemory
from parley_gateway.platforms.wechat.sentences import FETCH_WORDS, OLDEST, Sentences
from parley_gateway.platforms.wechat.texts import compose
from parley_gateway.store.base import ClaimedPart, KeptAnswers, Receipt

_ANSWER_ID = re.compile(r"[0-9]{10,20}")
"""Ids of our links are message ids; an operator's own menus have short ones."""


@dataclass(frozen=True, slots=True)
class InlineTimings:
    """When what happens, in seconds from the arrival of a request."""

    answer_by_s: float = 4.5
    """Leaves half a second for the answer to travel."""
    open_until_s: float = 6.0
    """Past the moment when WeChat closes the connection."""
    last_try_after_s: float = 9.5
    """A try is taken for the last when this long has passed since the first one arrived…"""
    last_try: int = 3
    """…or when it has this number: some tries may have been lost on their way."""

    def scaled(self, factor: float) -> "InlineTimings":
        """Return the timings with every time multiplied."""
        return InlineTimings(
            self.answer_by_s * factor, self.open_until_s * factor, self.last_try_after_s * factor, self.last_try
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request and the moment it arrived, seconds since 1970."""

    message: InboundMessage
    at: float

    @property
    def conversation(self) -> str:
        """The key of the sender's conversation."""
        return self.message.conversation.key


NOTHING = ""
"""Acknowledge the request and show nothing."""


class InlineReplies:
    """Finds the text for each request of WeChat."""

    def __init__(
        self,
        kept: KeptAnswers,
        memory: PushMemory,
        sentences: Sentences,
        *,
        clock: Callable[[], float],
        timings: InlineTimings,
    ) -> None:
        """Read and claim answers in `kept`."""
        self._kept = kept
        self._memory = memory
        self._say = sentences
        self._clock = clock
        self._timings = timings

    async def answer(self, arrival: Arrival, receipt: Receipt) -> str | None:
        """Return the text for one try of a message, NOTHING when none will come, None when WeChat has closed it."""
        message = arrival.message
        answer = await self._kept.wait_answer(
            arrival.conversation, message.message_id, timeout_s=self._seconds_left(arrival)
        )
        coming = answer is not None or await self._is_coming(message)
        part = await self._claim(arrival, message.message_id)
        if part is not None:
            return self._own_part(part)
        if not coming:
            return NOTHING  # Stopped by its sender, or failed beyond telling.
        if self._is_last_try(arrival, receipt):
            return self._say.link_to(message.message_id, message.text)
        await self.stay_open(arrival.at)
        return None

    async def stay_open(self, arrived_at: float) -> None:
        """Wait until WeChat has closed the connection of a request."""
        await asyncio.sleep(max(0.0, arrived_at + self._timings.open_until_s - self._clock()))

    async def bring_owed(self, arrival: Arrival, *, more_to_come: bool) -> str | None:
        """Return the part that the sender is owed since a push failed, None when nothing is owed.

        Its claim has a name of its own, so that the message's own answer stays claimable by the message. With
        `more_to_come` the message's answer is going to be kept too, and the text links to it.
        """
        if not await self._memory.owes(arrival.conversation):
            return None
        pending = set(await self._kept.pending(arrival.conversation)) - {arrival.message.message_id}
        part = await self._kept.claim_part(
            arrival.conversation,
            request_key=f"{arrival.message.delivery_key}#owed",
            answer_id=None,
            now=self._clock(),
        )
        if part is None:
            if not pending:
                await self._memory.settle(arrival.conversation)
            return None
        next_id = arrival.message.message_id if more_to_come else None
        return await self._fetched_part(arrival, part, next_id=next_id)

    async def find_fetch(self, arrival: Arrival, menu_id: str, *, inline: bool) -> Callable[[], Awaitable[str]] | None:
        """Return what finds the text if the message asks for a kept answer, None if it is a message like any other.

        A typed word asks for one only if there is something to read or, where answers are kept anyway, in the making.
        """
        if _ANSWER_ID.fullmatch(menu_id):
            return partial(self._fetch_named, arrival, menu_id)
        if menu_id not in ("", OLDEST) or arrival.message.text.casefold() not in FETCH_WORDS:
            return None
        pending = await self._kept.pending(arrival.conversation) if inline else ()
        if arrival.message.message_id in pending or await self._is_answered(arrival):
            return None  # Typed when there was nothing to read: it became a question, and this is its redelivery.
        part = await self._claim(arrival, None)
        if part is not None:
            return partial(self._fetched_part, arrival, part)
        if pending:
            return partial(self._fetch_named, arrival, pending[0])
        return self._nothing_new if menu_id == OLDEST else None

    async def _fetch_named(self, arrival: Arrival, answer_id: str) -> str:
        pending = answer_id in await self._kept.pending(arrival.conversation)
        part = await self._claim(arrival, answer_id)
        if part is None and pending:
            await self._kept.wait_answer(arrival.conversation, answer_id, timeout_s=self._seconds_left(arrival))
            part = await self._claim(arrival, answer_id)
            if part is None:
                return self._say.still_thinking(answer_id)
        if part is None:
            part = await self._last_part(arrival, answer_id) or await self._claim(arrival, None)
        return await self._fetched_part(arrival, part) if part else self._say.gone

    async def _last_part(self, arrival: Arrival, answer_id: str) -> ClaimedPart | None:
        """Return the end of an answer that was read to its end before."""
        answer = await self._kept.wait_answer(arrival.conversation, answer_id, timeout_s=0)
        if answer is None or not answer.parts:
            return None
        total = len(answer.parts)
        return ClaimedPart(answer_id, total - 1, total, answer.parts[-1], answer.question)

    async def _nothing_new(self) -> str:
        return self._say.nothing_new

    async def _claim(self, arrival: Arrival, answer_id: str | None) -> ClaimedPart | None:
        return await self._kept.claim_part(
            arrival.conversation,
            request_key=arrival.message.delivery_key,
            answer_id=answer_id,
            now=self._clock(),
        )

    def _own_part(self, part: ClaimedPart) -> str:
        """Return the text for a message's own request: which question it answers is plain to see."""
        return compose("", part.text, self._link_after(part))

    async def _fetched_part(self, arrival: Arrival, part: ClaimedPart, *, next_id: str | None = None) -> str:
        """Return the text for another request, with a link to what else there is to read."""
        link = self._link_after(part)
        if not link and next_id:
            link = self._say.link_to_next(next_id)
        elif not link and await self._kept.unread(arrival.conversation, now=self._clock()):
            link = self._say.link_to_next(OLDEST)
        return compose(self._say.label(part.question), part.text, link)

    def _link_after(self, part: ClaimedPart) -> str:
        following = part.index + 2
        return self._say.link_to_part(part.answer_id, following, part.total) if following <= part.total else ""

    async def _is_answered(self, arrival: Arrival) -> bool:
        own = await self._kept.wait_answer(arrival.conversation, arrival.message.message_id, timeout_s=0)
        return own is not None

    async def _is_coming(self, message: InboundMessage) -> bool:
        """Tell whether a message is still going to be answered; commands and notices always are."""
        if message.kind is not MessageKind.QUESTION:
            return True
        return message.message_id in await self._kept.pending(message.conversation.key)

    def _is_last_try(self, arrival: Arrival, receipt: Receipt) -> bool:
        return (
            receipt.delivery >= self._timings.last_try
            or arrival.at - receipt.first_seen >= self._timings.last_try_after_s
        )

    def _seconds_left(self, arrival: Arrival) -> float:
        return max(0.0, arrival.at + self._timings.answer_by_s - self._clock())
