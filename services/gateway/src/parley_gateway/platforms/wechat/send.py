"""Reply sessions: one pushes customer-service messages, one leaves the answer to the user's own requests.

Source: WeChat documentation, "Send customer service message": 5 messages within 48 hours for each message of the user.
WeChat knows no idempotency key and no way to change a message once sent.
"""

import logging
from collections.abc import Callable, Mapping

from parley_gateway.errors import DeliveryError, KeepForLaterError
from parley_gateway.messages import InboundMessage, OutboundPart
from parley_gateway.platforms.base import SendKey
from parley_gateway.platforms.shared import SharedValue
from parley_gateway.platforms.wechat.api import WeChatAPI
from parley_gateway.platforms.wechat.errcodes import MAY_NOT_PUSH, TOKEN_CODES, delivery_error
from parley_gateway.platforms.wechat.push import PushMemory
from parley_gateway.platforms.wechat.sentences import Sentences
from parley_gateway.platforms.wechat.texts import clean, compose

log = logging.getLogger(__name__)


class Messenger:
    """Sends texts to users of one account."""

    def __init__(self, api: WeChatAPI, tokens: SharedValue, memory: PushMemory, *, switches: bool) -> None:
        """`switches`: when the account turns out not to be allowed to push, later messages are answered inline."""
        self._api = api
        self._tokens = tokens
        self._memory = memory
        self._switches = switches

    async def send_text(self, openid: str, text: str, conversation: str) -> None:
        """Send one message.

        Raises
            DeliveryError: one of its kinds; after a KeepForLaterError the conversation is owed its answer.
        """
        body = {"touser": openid, "msgtype": "text", "text": {"content": clean(text)}}
        try:
            await self._send(body)
        except KeepForLaterError as exc:
            await self._memory.owe(conversation)
            if self._switches and exc.code == str(MAY_NOT_PUSH):
                await self._memory.remember_refusal()
            raise

    async def show_typing(self, openid: str) -> None:
        """Show that an answer is being written; nobody misses it where that doesn't work."""
        body = {"touser": openid, "command": "Typing"}
        try:
            await self._api.post(
                "typing", "/cgi-bin/message/custom/typing", body, delivery_error, access_token=await self._tokens.get()
            )
        except DeliveryError as exc:
            log.info("no typing sign: %s", exc)

    async def _send(self, body: Mapping[str, object]) -> None:
        """Send once, and once more with a new access token if the first one was refused."""
        token = await self._tokens.get()
        try:
            await self._call(body, token)
        except DeliveryError as exc:
            if exc.code not in {str(code) for code in TOKEN_CODES}:
                raise
            await self._tokens.discard(token)
            await self._call(body, await self._tokens.get())

    async def _call(self, body: Mapping[str, object], token: str) -> None:
        path = "/cgi-bin/message/custom/send"
        await self._api.post("send", path, body, delivery_error, access_token=token)


PUSHED_PARTS = 5
"""Customer-service messages that one message of the user allows."""

TYPING_WITHIN_S = 30.0
"""The typing sign is refused later than this after the user's message (WeChat documentation, "Typing status")."""


class PushSession:
    """Pushes the answer to one message."""

    keeps_answers = False
    shows_progress = False

    def __init__(
        self, messenger: Messenger, message: InboundMessage, sentences: Sentences, *, clock: Callable[[], float]
    ) -> None:
        """Push to the message's sender; what can't be pushed is owed to the conversation."""
        self._messenger = messenger
        self._message = message
        self._sentences = sentences
        self._clock = clock
        self._openid = message.target["openid"]
        self._conversation = message.conversation.key

    async def begin(self) -> None:
        """Show the typing sign, for the 15 s that WeChat gives it or until the answer comes."""
        if self._clock() - self._message.sent_at < TYPING_WITHIN_S:
            await self._messenger.show_typing(self._openid)

    async def update(self, text: str) -> None:
        """Show nothing: a message of WeChat can't be changed."""

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        """Push one part; WeChat returns no id and takes no key. The fifth of many ends with a link to the rest.

        Raises
            KeepForLaterError: it is the sixth or a later part, which the user asks for.
            DeliveryError: one of the other kinds.
        """
        if key.index >= PUSHED_PARTS:
            raise KeepForLaterError(f"{key.total} parts: the rest waits for the user to go on", "rest")
        text = part.text or part.fallback_text
        if key.index == PUSHED_PARTS - 1 and not key.last:
            text = compose("", text, self._sentences.link_to_rest(self._message.message_id))
        await self._messenger.send_text(self._openid, text, self._conversation)
        return ""

    async def finish(self) -> None:
        """Do nothing: every part stands for itself."""

    async def abort(self, sentence: str, key: SendKey) -> None:
        """Push the sentence. Raises DeliveryError."""
        await self._messenger.send_text(self._openid, sentence, self._conversation)

    def state(self) -> Mapping[str, str]:
        """Return nothing: the message's target says it all."""
        return {}


class InlineSession:
    """Sends nothing: the user's held or next request carries what the gateway keeps in the store."""

    keeps_answers = True
    shows_progress = False

    async def begin(self) -> None:
        """Show nothing: WeChat lets only verified accounts, which push, show that they are typing."""

    async def update(self, text: str) -> None:
        """Show nothing: a passive reply comes in one piece."""

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        """Refuse: the part must be kept. Raises KeepForLaterError."""
        raise KeepForLaterError("this answer is carried by the user's own requests")

    async def finish(self) -> None:
        """Do nothing."""

    async def abort(self, sentence: str, key: SendKey) -> None:
        """Refuse: the sentence must be kept. Raises KeepForLaterError."""
        raise KeepForLaterError("this answer is carried by the user's own requests")

    def state(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}
