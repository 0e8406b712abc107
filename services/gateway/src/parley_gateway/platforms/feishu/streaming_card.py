"""The card that shows an answer while it is written, and in the end the whole of it.

Feishu documentation, "Streaming card updates": a card takes 10 changes a second, streaming ends by itself after 10
minutes, a click that is being answered holds changes back for a moment. A change carries a sequence number that must
rise: here the generation of the lease times 100,000, so that a worker that lost its lease can change nothing that the
next one did. What that one needs to go on with the same card is in `state`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from parley_gateway.errors import DeliveryError, RefusedContentError, TransientDeliveryError
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.platforms.feishu.cardkit import CardKit
from parley_gateway.platforms.feishu.cards import ELEMENT
from parley_gateway.platforms.feishu.errors import BUSY_CODES, RATE_CODES, STREAMING_OFF_CODES

PACE_S = 0.3
"""Between two states. Feishu takes 10 changes a second; more than 3 nobody can read."""
STREAMING_S = 9 * 60.0
"""Streaming is switched on anew before Feishu ends it."""

_GENERATION = 100_000
_NOTICES = 10_000
"""The generation from which notices count: they are written under another lane's lease, after the question's."""
_LONGEST_TEXT = 100_000
_LATER = BUSY_CODES | {str(code) for code in RATE_CODES}
"""Codes that only ask to come back in a moment."""
_OVERTAKEN = "300317"
_TRIES = 4
_WAIT_S = 0.5

log = logging.getLogger(__name__)

Send = Callable[[str, str, float], Awaitable[str]]
"""Sends a card by its id under a uuid, first tried at a time; returns the id of the message."""


class StreamingCard:
    """One card. Nothing here raises what isn't said."""

    def __init__(
        self,
        kit: CardKit,
        send: Send,
        message: InboundMessage,
        state: Mapping[str, str],
        *,
        generation: int,
        clock: Callable[[], float],
    ) -> None:
        """Resume the card of `state`, empty when there is none yet."""
        self._kit = kit
        self._send = send
        self._clock = clock
        self._generation = generation
        self._notice = message.kind is MessageKind.NOTICE
        self._state = dict(state)
        self._silent = False
        self._shown = ""
        self._next_at = 0.0

    @property
    def exists(self) -> bool:
        """Whether there is a card, sent or about to be."""
        return "card" in self._state

    @property
    def message_id(self) -> str:
        """The message that carries the card, empty until it is sent."""
        return self._state.get("message", "")

    @property
    def state(self) -> Mapping[str, str]:
        """What is needed to go on with this card."""
        return dict(self._state)

    async def create(self, card: str, uuid: str) -> None:
        """Make the card; it is sent with the first state, under `uuid`. Raises DeliveryError."""
        now = self._clock()
        card_id = await self._kit.create(card)
        self._state = {
            "card": card_id, "uuid": uuid, "tried": str(now), "opened": str(now), "generation": str(self._generation),
        }  # fmt: skip

    def drop(self) -> None:
        """Forget the card: it can't be changed any more."""
        self._state = {}

    async def show(self, text: str) -> None:
        """Show a state, empty for the bare card; returns when the next one may come. Never raises DeliveryError."""
        if self._silent or not self.exists or len(text) > _LONGEST_TEXT:
            return
        await asyncio.sleep(max(0.0, self._next_at - monotonic()))
        self._next_at = monotonic() + PACE_S
        try:
            await self._ensure_sent()
            if text and text != self._shown:
                await self._keep_streaming()
                await self._change(lambda sequence: self._kit.update_text(self._card, ELEMENT, text, sequence))
                self._shown = text
        except DeliveryError as exc:
            await self._recover(exc)

    async def finish(self, card: str) -> str:
        """Show the complete answer, end streaming, return the id of the message.

        Raises
            RefusedContentError: Feishu doesn't take this content.
            TransientDeliveryError: it may pass later, or another worker goes on with the card.
            PermanentDeliveryError: the card can't be changed any more.
        """
        await self._ensure_sent()
        await self._patiently(lambda sequence: self._kit.replace(self._card, card, sequence))
        try:
            await self._patiently(lambda sequence: self._kit.set_streaming(self._card, False, sequence))
        except RefusedContentError as exc:
            # The answer stands; only the chat list says for some minutes that it is being written.
            log.warning("feishu: streaming stays on: %s", exc)
        return self.message_id

    @property
    def _card(self) -> str:
        return self._state["card"]

    async def _ensure_sent(self) -> None:
        if not self.message_id:
            self._state["message"] = await self._send(self._card, self._state["uuid"], float(self._state["tried"]))

    async def _keep_streaming(self) -> None:
        """Switch streaming on again when its ten minutes are almost over."""
        if self._clock() - float(self._state["opened"]) > STREAMING_S:
            await self._reopen()

    async def _reopen(self) -> None:
        await self._change(lambda sequence: self._kit.set_streaming(self._card, True, sequence))
        self._state["opened"] = str(self._clock())

    async def _recover(self, error: DeliveryError) -> None:
        """Decide how to go on after a state that couldn't be shown; the next one holds all of it anyway."""
        if error.code in STREAMING_OFF_CODES:
            try:
                await self._reopen()
            except DeliveryError as exc:
                error = exc
            else:
                return
        if error.code in _LATER:
            self._next_at = monotonic() + min(error.retry_after_s or _WAIT_S, 2.0)
        elif not isinstance(error, TransientDeliveryError) or error.code == _OVERTAKEN:
            log.info("feishu: the unfinished answer isn't shown any further: %s", error)
            self._silent = True

    async def _change(self, call: Callable[[int], Awaitable[None]]) -> None:
        await call(self._next_sequence())

    async def _patiently(self, call: Callable[[int], Awaitable[None]]) -> None:
        """Make a change, waiting a few times where Feishu only asks to come back in a moment."""
        for left in reversed(range(_TRIES)):
            try:
                await self._change(call)
                return
            except TransientDeliveryError as exc:
                if not left or exc.code not in _LATER:
                    raise
                await asyncio.sleep(min(exc.retry_after_s or _WAIT_S, 2.0))

    def _next_sequence(self) -> int:
        """Return a number above all that were used before, also by earlier workers and for notices."""
        behind = self._generation - int(self._state["generation"]) + 1
        behind = min(max(1, behind), _NOTICES - 1)
        if self._notice:
            behind = _NOTICES + self._generation % _NOTICES
        sequence = max(int(self._state.get("sequence", "0")), behind * _GENERATION) + 1
        self._state["sequence"] = str(sequence)
        return sequence
