"""Sends a stored answer part by part, so that a takeover goes on where the last worker stopped.

Each part's state is recorded before and after the send. A platform with idempotent sending can't show a part twice; on
the others that is possible only between the platform's acceptance and our record.
"""

from collections.abc import Callable
from dataclasses import replace

from parley_gateway.bots import Bot
from parley_gateway.errors import DeliveryError, RefusedContentError
from parley_gateway.messages import OutboundPart
from parley_gateway.platforms.base import ReplySession, SendKey
from parley_gateway.store.base import Lanes, Lease
from parley_gateway.store.records import AnswerPart, PartStatus, QueuedMessage, StoredAnswer
from parley_gateway.trails import Trail


class Delivery:
    """Sends answers."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float], trail: Trail) -> None:
        """Take the store's lanes, where progress is recorded."""
        self._trail = trail
        self._lanes = lanes
        self._clock = clock

    async def send(
        self, bot: Bot, lease: Lease, item: QueuedMessage, answer: StoredAnswer
    ) -> tuple[QueuedMessage, DeliveryError | None]:
        """Send every part that isn't sent yet.

        Returns the item as it stands then, and the error that ended the sending early. The last part's state isn't
        stored: the caller completes the item right after, one write instead of two.

        Raises
            LeaseLostError: another worker took over.
        """
        session = bot.platform.open_reply(item.message, item.reply_state, generation=lease.generation)
        try:
            for index, stored in enumerate(answer.parts):
                if stored.status is PartStatus.SENT:
                    continue
                began = replace(
                    stored, status=PartStatus.SENDING, first_tried_at=stored.first_tried_at or self._clock()
                )
                answer = answer.with_part(index, began)
                item = replace(item, answer=answer, reply_state=session.state())
                await self._lanes.update(lease, item)
                sent = await self._send_part(session, began, index, len(answer.parts))
                self._trail.note(item, "sent", part=index + 1, of=len(answer.parts), remote_id=sent.remote_id)
                answer = answer.with_part(index, sent)
                item = replace(item, answer=answer, reply_state=session.state())
                if index < len(answer.parts) - 1:
                    await self._lanes.update(lease, item)
            await session.finish()
        except DeliveryError as exc:
            part = sum(stored.status is PartStatus.SENT for stored in answer.parts) + 1
            self._trail.note(item, "send_failed", part=part, error=type(exc).__name__, code=exc.code)
            return item, exc
        return item, None

    async def _send_part(self, session: ReplySession, stored: AnswerPart, index: int, total: int) -> AnswerPart:
        key = SendKey(stored.uuid, stored.first_tried_at, index, total)
        part = stored.part
        try:
            remote_id = await session.send(part, key)
        except RefusedContentError:
            if not part.fallback_text or part.text == part.fallback_text:
                raise
            # The refusal was final, so the same key stands for the plainer form of the same part.
            part = OutboundPart(text=part.fallback_text, fallback_text=part.fallback_text)
            remote_id = await session.send(part, key)
        return replace(stored, part=part, status=PartStatus.SENT, remote_id=remote_id)
