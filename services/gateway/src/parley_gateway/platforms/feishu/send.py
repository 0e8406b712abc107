"""Delivers an answer: each part is a reply to the user's message, a card or a text.

The first part may be a card that shows the answer while it is written. Where Feishu refuses that, it is a plain card
when the answer is complete; where that is refused too, a text.
"""

import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lark_oapi.api.im.v1 import DeleteMessageRequest, ReplyMessageRequest, ReplyMessageRequestBody

from parley_gateway.errors import (
    DeliveryError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)
from parley_gateway.messages import InboundMessage, OutboundPart
from parley_gateway.platforms.base import EventReport, SendKey
from parley_gateway.platforms.feishu.api import FeishuAPI
from parley_gateway.platforms.feishu.cardkit import CardKit
from parley_gateway.platforms.feishu.cards import text_card, unfinished_card, with_rating
from parley_gateway.platforms.feishu.sentences import Sentences
from parley_gateway.platforms.feishu.streaming_card import StreamingCard
from parley_gateway.store.base import Cache

UUID_WINDOW_S = 50 * 60.0
"""Feishu sends at most one message for a uuid within an hour ("Reply to a message"); ten minutes are a margin."""

log = logging.getLogger(__name__)

_AT_TAG = re.compile(r"<(?=/?at\b)", re.IGNORECASE)


NO_CARDKIT_S = 600.0
"""How long CardKit isn't tried again after it refused the app."""


@dataclass(frozen=True, slots=True)
class ReplyTools:
    """What all replies of one bot share."""

    api: FeishuAPI
    cache: Cache
    words: Sentences
    streaming: bool
    """Whether answers are shown while they are written."""
    app: str
    """The app that CardKit takes or refuses."""
    on_event: EventReport
    clock: Callable[[], float]


class FeishuReply:
    """The reply to one message: a streaming card for the first part, or plain messages for all."""

    keeps_answers = False

    def __init__(
        self, tools: ReplyTools, message: InboundMessage, state: Mapping[str, str], *, generation: int
    ) -> None:
        """Answer `message` where it stands: in its chat, or in its thread. Go on with the card of `state`."""
        self._tools = tools
        self._message = message
        self.shows_progress = tools.streaming
        self._card = StreamingCard(
            CardKit(tools.api), self._send_card, message, state, generation=generation, clock=tools.clock
        )

    async def begin(self) -> None:
        """Make the card that shows the answer while it is written, unless there is one or CardKit isn't to be had."""
        if not self._tools.streaming or self._card.exists:
            return
        refused = f"feishu/no_cardkit/{self._tools.app}"
        now = self._tools.clock()
        if await self._tools.cache.cache_get(refused, now=now) is None:
            try:
                await self._card.create(unfinished_card(self._tools.words, self._message), uuid.uuid4().hex)
                return
            except TransientDeliveryError as exc:
                log.warning("feishu: no streaming card: %s", exc)
            except DeliveryError as exc:
                log.warning("feishu: answers appear when they are complete, for the next ten minutes: %s", exc)
                await self._tools.cache.cache_put(refused, exc.code, expires_at=now + NO_CARDKIT_S)
        self._tools.on_event("cardkit_refused")
        self.shows_progress = False

    async def update(self, text: str) -> None:
        """Show a state of the first part."""
        await self._card.show(text)

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        """Send one part and return the id of its message.

        The first part completes the card that showed it unfinished, which can be repeated at will. For all others a
        repeat within 50 minutes of the first try never makes a second message. Later Feishu doesn't promise that any
        more, so the uuid changes and a try whose outcome is unknown may appear twice.

        Raises
            RefusedContentError: Feishu refuses the card; a text may pass.
            TransientDeliveryError: it may pass later; the message may have been sent.
            PermanentDeliveryError: it will never pass.
        """
        payload = part.payload
        if payload and key.last:
            payload = with_rating(payload, self._tools.words, self._message)
        try:
            shown = key.index == 0 and self._card.exists
            if shown and await self._finish_card(payload or text_card(part.text)):
                return self._card.message_id
            return await self._send(payload, part.text, window_uuid(key, self._tools.clock()))
        except RefusedContentError as exc:
            if payload:
                self._tools.on_event("card_refused")
                raise
            raise PermanentDeliveryError(exc.message, exc.code) from exc

    async def finish(self) -> None:
        """Do nothing: every part is complete by itself."""

    async def abort(self, sentence: str, key: SendKey) -> None:
        """Tell the user one sentence. Raises DeliveryError like `send`."""
        await self.send(OutboundPart(text=sentence), key)

    def state(self) -> Mapping[str, str]:
        """Return the card that shows the answer; nothing when there is none."""
        return self._card.state

    async def _finish_card(self, card: str) -> bool:
        """Complete the card; False when there is none any more, and the part has to be sent by itself."""
        try:
            await self._card.finish(card)
            return True
        except (RefusedContentError, TransientDeliveryError):
            raise
        except DeliveryError as exc:
            log.warning("feishu: the card can't be completed, the answer follows as a message: %s", exc)
            self._tools.on_event("cardkit_refused")
            await self._withdraw_card()
            return False

    async def _withdraw_card(self) -> None:
        """Take the message with the unfinished card away, if that is possible."""
        message_id = self._card.message_id
        self._card.drop()
        if not message_id:
            return
        request = DeleteMessageRequest.builder().message_id(message_id).build()
        try:
            await self._tools.api.call(request, api="delete")
        except DeliveryError as exc:
            log.warning("feishu: an unfinished card stays: %s", exc)

    async def _send_card(self, card_id: str, card_uuid: str, first_tried_at: float) -> str:
        content = json.dumps({"type": "card", "data": {"card_id": card_id}})
        return await self._send(content, "", window_uuid(SendKey(card_uuid, first_tried_at), self._tools.clock()))

    async def _send(self, card: str, text: str, message_uuid: str) -> str:
        body = (
            ReplyMessageRequestBody.builder()
            .msg_type("interactive" if card else "text")
            .content(card or _text_content(text))
            .uuid(message_uuid)
            .reply_in_thread("thread_id" in self._message.target)
            .build()
        )
        request = (
            ReplyMessageRequest.builder().message_id(self._message.target["message_id"]).request_body(body).build()
        )
        return _message_id(await self._tools.api.call(request, api="send"))


def window_uuid(key: SendKey, now: float) -> str:
    """Return the uuid for a try at `now`: the part's own for 50 minutes, then another for each 50 minutes."""
    window = int(max(0.0, now - key.first_tried_at) // UUID_WINDOW_S) if key.first_tried_at else 0
    return f"{key.uuid[:44]}-{window % 10_000}" if window else key.uuid


def _text_content(text: str) -> str:
    """Return the content of a text message, in which `<at …>` of a model's text mentions nobody."""
    return json.dumps({"text": _AT_TAG.sub("＜", text)}, ensure_ascii=False)


def _message_id(answer: Mapping[str, Any]) -> str:
    data = answer.get("data")
    message_id = data.get("message_id") if isinstance(data, dict) else None
    return message_id if isinstance(message_id, str) else ""
