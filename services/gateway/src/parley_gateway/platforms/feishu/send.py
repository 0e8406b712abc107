"""Delivers an answer: each part is a reply to the user's message, a card or a text."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lark_oapi.api.im.v1 import ReplyMessageRequest, ReplyMessageRequestBody

from parley_gateway.errors import PermanentDeliveryError, RefusedContentError
from parley_gateway.messages import InboundMessage, OutboundPart
from parley_gateway.platforms.base import SendKey
from parley_gateway.platforms.feishu.api import FeishuAPI

UUID_WINDOW_S = 50 * 60.0
"""Feishu sends at most one message for a uuid within an hour ("Reply to a message"); ten minutes are a margin."""

_AT_TAG = re.compile(r"<(?=/?at\b)", re.IGNORECASE)


class FeishuReply:
    """The reply to one message."""

    keeps_answers = False

    def __init__(self, api: FeishuAPI, message: InboundMessage, *, clock: Callable[[], float]) -> None:
        """Answer `message` where it stands: in its chat, or in its thread."""
        self._api = api
        self._message = message
        self._clock = clock

    async def update(self, markdown: str) -> None:
        """Do nothing: only the finished answer is shown."""

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        """Send one part and return the id of its message.

        A repeat within 50 minutes of the first try never makes a second message. Later Feishu doesn't promise that any
        more, so the uuid changes and a try whose outcome is unknown may appear twice.

        Raises
            RefusedContentError: Feishu refuses the card; a text may pass.
            TransientDeliveryError: it may pass later; the message may have been sent.
            PermanentDeliveryError: it will never pass.
        """
        card = bool(part.payload)
        body = (
            ReplyMessageRequestBody.builder()
            .msg_type("interactive" if card else "text")
            .content(part.payload if card else _text_content(part.text))
            .uuid(window_uuid(key, self._clock()))
            .reply_in_thread("thread_id" in self._message.target)
            .build()
        )
        request = (
            ReplyMessageRequest.builder().message_id(self._message.target["message_id"]).request_body(body).build()
        )
        try:
            answer = await self._api.call(request, api="send")
        except RefusedContentError as exc:
            if card:
                raise
            raise PermanentDeliveryError(exc.message, exc.code) from exc
        return _message_id(answer)

    async def finish(self) -> None:
        """Do nothing: every part is complete by itself."""

    async def abort(self, sentence: str, key: SendKey) -> None:
        """Tell the user one sentence. Raises DeliveryError like `send`."""
        await self.send(OutboundPart(text=sentence), key)

    def state(self) -> Mapping[str, str]:
        """Return nothing: all that is needed stands in the message."""
        return {}


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
