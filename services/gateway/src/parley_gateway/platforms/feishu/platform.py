"""One Feishu bot: decides what a webhook request means and how the gateway's receipt is answered."""

import asyncio
import json
from collections.abc import Mapping
from typing import ClassVar

from parley_gateway.errors import MalformedRequestError, TransientDeliveryError
from parley_gateway.messages import InboundMessage
from parley_gateway.platforms.base import (
    Capability,
    Challenge,
    Handled,
    Ignored,
    Messages,
    PartLimits,
    PlatformServices,
    RawRequest,
    RawResponse,
    Redelivery,
    ReplySession,
    Support,
)
from parley_gateway.platforms.feishu.api import FeishuAPI, HTTPCalls
from parley_gateway.platforms.feishu.client import create_client
from parley_gateway.platforms.feishu.identity import shared_open_id
from parley_gateway.platforms.feishu.payloads import (
    MESSAGE_EVENT,
    MessageEvent,
    event_label,
    inbound,
    message_label,
    read_header,
    read_message,
)
from parley_gateway.platforms.feishu.send import FeishuReply
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.feishu.token import shared_token
from parley_gateway.platforms.feishu.webhook import WebhookKeys, challenge_of, open_event
from parley_gateway.store.base import AcceptOutcome, Receipt

OWN_ID_TIMEOUT_S = 2.0
"""Feishu waits 3 s for the acknowledgement."""

_JSON = "application/json; charset=utf-8"
_ACK = RawResponse(200, b"{}", _JSON)
_AGAIN = RawResponse(503, b'{"msg":"busy, deliver again"}', _JSON)


class FeishuPlatform:
    """One bot on Feishu or Lark."""

    name: ClassVar[str] = "feishu"
    dialect: ClassVar[str] = "feishu_card"
    # Feishu documentation, "Send events to a developer's server": 15 s, 5 min, 1 h and 6 h after the try before.
    redelivery: ClassVar[Redelivery] = Redelivery(after_s=(15.0, 300.0, 3600.0, 21600.0), span_s=8 * 3600.0)
    capabilities: ClassVar[Mapping[str, Capability]] = {
        "text_in": Capability(Support.DONE),
        "image_in": Capability(Support.NOT_YET, "pictures aren't downloaded yet; the user is told"),
        "voice_in": Capability(Support.NOT_YET, "voice messages aren't downloaded yet; the user is told"),
        "group_mention": Capability(Support.DONE),
        "inline_reply": Capability(Support.NOT_POSSIBLE, "Feishu shows nothing of the webhook's answer"),
        "pushed_reply": Capability(Support.DONE),
        "streaming": Capability(Support.NOT_YET, "the card appears when the answer is complete"),
        "cards": Capability(Support.DONE),
        "files": Capability(Support.NOT_YET, "files are neither read nor sent yet; the user is told"),
    }

    def __init__(self, settings: FeishuSettings, services: PlatformServices) -> None:
        """Prepare everything; no call is made yet. Raises OSError when `ca_file` can't be read as certificates."""
        self._settings = settings
        self._context = services.context
        self._clock = services.clock
        self._keys = WebhookKeys(
            app_id=settings.app_id,
            encrypt_key=settings.encrypt_key.get_secret_value(),
            verification_token=settings.verification_token.get_secret_value(),
        )
        self._client = create_client(settings, services.environ)
        self._calls = HTTPCalls(self._client, services.on_call)
        self._token = shared_token(settings, self._calls, services.cache, clock=services.clock)
        self._api = FeishuAPI(self._calls, self._token)
        self._own_id = shared_open_id(settings, self._api, services.cache, clock=services.clock)

    async def handle(self, request: RawRequest) -> Handled:
        """Prove, decrypt and read one webhook request.

        Raises
            WebhookError: the request is refused.
            DeliveryError: whether a group message mentions the bot can't be told now.
        """
        event = open_event(request, self._keys, now=self._clock())
        challenge = challenge_of(event)
        if challenge is not None:
            return Challenge(RawResponse(200, json.dumps({"challenge": challenge}).encode(), _JSON))
        header = read_header(event)
        if header.event_type != MESSAGE_EVENT:
            return Ignored(event_label(header.event_type), _ACK)
        return await self._handle_message(read_message(event), header.tenant_key)

    async def unavailable(self) -> RawResponse:
        """Answer 503 at once, which makes Feishu deliver again."""
        return _AGAIN

    def part_limits(self, message: InboundMessage) -> PartLimits:
        """Leave it to the dialect, whose limits are those of a Feishu card."""
        return PartLimits()

    def open_reply(self, message: InboundMessage, state: Mapping[str, str]) -> ReplySession:
        """Open the reply to a message; there is no state to resume from."""
        return FeishuReply(self._api, message, clock=self._clock)

    async def check_credentials(self) -> None:
        """Ask Feishu for an access token, whatever the cache holds. Raises DeliveryError that says what to change."""
        await self._token.make()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _handle_message(self, event: MessageEvent, tenant: str) -> Handled:
        sender = event.sender
        if sender.sender_type != "user":
            return Ignored("other", _ACK)
        if not sender.sender_id.open_id:
            raise MalformedRequestError("the message's sender has no open_id")
        if sender.tenant_key != tenant and self._settings.foreign_tenants == "refuse":
            return Ignored("other", _ACK, outcome="refused_tenant")
        if event.group and not event.mentions:
            return Ignored("other", _ACK)
        own_id = await self._own_open_id() if event.mentions else ""
        if event.group and not any(mention.open_id == own_id for mention in event.mentions):
            return Ignored("other", _ACK)
        message = inbound(event, self._context, tenant=tenant, bot_open_id=own_id)
        return Messages((message,), message_label(message, event.message.message_type), _respond, _ACK)

    async def _own_open_id(self) -> str:
        """Return the bot's own open_id. Raises DeliveryError, which makes Feishu deliver the message again."""
        try:
            async with asyncio.timeout(OWN_ID_TIMEOUT_S):
                return await self._own_id.get()
        except TimeoutError as exc:
            raise TransientDeliveryError("info: the bot's own open_id couldn't be learned in time", "timeout") from exc


async def _respond(receipt: Receipt) -> RawResponse:
    """Acknowledge what is stored; what found the queue full Feishu shall deliver again."""
    return _AGAIN if receipt.outcome is AcceptOutcome.FULL else _ACK
