"""One Feishu bot: decides what a webhook request means and how the gateway's receipt is answered."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from parley_gateway.errors import MalformedRequestError, SignatureError, TransientDeliveryError
from parley_gateway.messages import Conversation, InboundMessage
from parley_gateway.platforms.base import (
    Capability,
    Challenge,
    ClickOutcome,
    EventSink,
    Handled,
    Ignored,
    Messages,
    PartLimits,
    PlatformServices,
    RawRequest,
    RawResponse,
    Recall,
    Redelivery,
    ReplySession,
    Support,
)
from parley_gateway.platforms.feishu.api import FeishuAPI, HTTPCalls
from parley_gateway.platforms.feishu.clicks import CLICK_EVENT, read_click
from parley_gateway.platforms.feishu.client import create_client
from parley_gateway.platforms.feishu.identity import shared_open_id
from parley_gateway.platforms.feishu.long_connection import LongConnection
from parley_gateway.platforms.feishu.payloads import (
    MESSAGE_EVENT,
    RECALL_EVENT,
    MessageEvent,
    RecallEvent,
    event_label,
    inbound,
    message_label,
    read_header,
    read_message,
    read_recall,
)
from parley_gateway.platforms.feishu.quotes import Threads, fetch_text
from parley_gateway.platforms.feishu.send import FeishuReply, ReplyTools
from parley_gateway.platforms.feishu.sentences import sentences_for
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.feishu.token import shared_token
from parley_gateway.platforms.feishu.webhook import WebhookKeys, challenge_of, open_event, webhook_keys
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
        "streaming": Capability(Support.DONE),
        "cards": Capability(Support.DONE),
        "files": Capability(Support.NOT_YET, "files are neither read nor sent yet; the user is told"),
        "quote": Capability(Support.DONE),
        "recall": Capability(Support.DONE),
    }

    def __init__(self, settings: FeishuSettings, services: PlatformServices) -> None:
        """Prepare everything; no call is made yet. Raises OSError when `ca_file` can't be read as certificates."""
        self._settings = settings
        self._context = services.context
        self._clock = services.clock
        self._client = create_client(settings, services.environ)
        self._calls = HTTPCalls(self._client, services.on_call)
        self._keys: WebhookKeys | None = None
        self._connection: LongConnection | None = None
        if settings.mode == "long_connection":
            self._connection = LongConnection(settings, self._calls, self._handle_event, services)
        else:
            self._keys = webhook_keys(settings)
        self._token = shared_token(settings, self._calls, services.cache, clock=services.clock)
        self._api = FeishuAPI(self._calls, self._token)
        self._words = sentences_for(services.context.locale)
        self._tools = ReplyTools(
            self._api,
            services.cache,
            self._words,
            settings.streaming,
            f"{settings.base_url}/{settings.app_id}",
            services.on_event,
            services.clock,
        )
        self._threads = Threads(services.cache, settings.app_id, services.clock)
        self._own_id = shared_open_id(settings, self._api, services.cache, clock=services.clock)

    async def handle(self, request: RawRequest) -> Handled:
        """Prove, decrypt and read one webhook request.

        Raises
            WebhookError: the request is refused.
            DeliveryError: whether a group message mentions the bot can't be told now.
        """
        if self._keys is None:
            raise SignatureError("this bot takes no webhooks: its events come over the long connection")
        event = open_event(request, self._keys, now=self._clock())
        challenge = challenge_of(event)
        if challenge is not None:
            return Challenge(RawResponse(200, json.dumps({"challenge": challenge}).encode(), _JSON))
        return await self._handle_event(event)

    async def run(self, stop: asyncio.Event, sink: EventSink) -> None:
        """Receive events over the long connection until `stop` is set; a bot with a webhook has none."""
        if self._connection is not None:
            await self._connection.run(stop, sink)

    async def unavailable(self) -> RawResponse:
        """Answer 503 at once, which makes Feishu deliver again."""
        return _AGAIN

    def part_limits(self, message: InboundMessage) -> PartLimits:
        """Leave it to the dialect, whose limits are those of a Feishu card."""
        return PartLimits()

    def open_reply(self, message: InboundMessage, state: Mapping[str, str], *, generation: int = 1) -> ReplySession:
        """Open the reply to a message, or go on with the card that the state names."""
        return FeishuReply(self._tools, message, state, generation=generation)

    async def quoted_text(self, message: InboundMessage) -> str:
        """Return the text of the message that this one replies to. Raises DeliveryError."""
        return await fetch_text(self._api, message.quotes)

    async def check_credentials(self) -> None:
        """Ask Feishu for an access token, whatever the cache holds. Raises DeliveryError that says what to change."""
        await self._token.make()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _handle_event(self, event: dict[str, Any]) -> Handled:
        """Read one proven event; what it raises `handle` raises."""
        header = read_header(event)
        if header.event_type == RECALL_EVENT:
            return await self._handle_recall(read_recall(event), header.tenant_key)
        if header.event_type == CLICK_EVENT:
            return self._handle_click(event, header.tenant_key)
        if header.event_type != MESSAGE_EVENT:
            return Ignored(event_label(header.event_type), _ACK)
        return await self._handle_message(read_message(event), header.tenant_key)

    async def _handle_message(self, event: MessageEvent, tenant: str) -> Handled:
        sender = event.sender
        if sender.sender_type != "user":
            return Ignored("other", _ACK)
        if not sender.sender_id.open_id:
            raise MalformedRequestError("the message's sender has no open_id")
        if event.group and not event.mentions:
            return Ignored("other", _ACK)
        own_id = await self._own_open_id() if event.mentions else ""
        if event.group and not any(mention.open_id == own_id for mention in event.mentions):
            return Ignored("other", _ACK)
        message = inbound(event, self._context, tenant=tenant, bot_open_id=own_id)
        foreign = sender.tenant_key != tenant and self._settings.foreign_tenants == "refuse"
        if not foreign:
            await self._threads.remember(message.message_id, message.conversation.thread)
        return Messages(
            (message,),
            message_label(message, event.message.message_type),
            _respond,
            _ACK,
            refusal="refused_tenant" if foreign else "",
        )

    def _handle_click(self, event: dict[str, Any], tenant: str) -> Handled:
        clicked = read_click(event, self._context, self._words, tenant=tenant, now=self._clock())
        if clicked is None:
            return Ignored("card_action", _ACK)
        if clicked.user_tenant != tenant and self._settings.foreign_tenants == "refuse":
            return Ignored("card_action", clicked.respond(ClickOutcome.REFUSED), "refused_tenant")
        return clicked

    async def _handle_recall(self, recall: RecallEvent, tenant: str) -> Handled:
        thread = await self._threads.thread_of(recall.message_id)
        conversation = Conversation(self.name, self._context.bot, tenant, recall.chat_id, thread)
        return Recall(conversation, recall.message_id, _ACK)

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
