"""The WeChat platform: which request is what, and which of the ways of answering takes it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import ClassVar

from parley_gateway.messages import Conversation, InboundMessage, MessageKind
from parley_gateway.platforms.base import (
    Capability,
    Challenge,
    Farewell,
    Handled,
    Ignored,
    Messages,
    PartLimits,
    PlatformServices,
    Query,
    RawRequest,
    RawResponse,
    Redelivery,
    ReplySession,
    Support,
)
from parley_gateway.platforms.outgoing import create_transport
from parley_gateway.platforms.shared import SharedValue
from parley_gateway.platforms.wechat.api import WeChatAPI
from parley_gateway.platforms.wechat.inline import NOTHING, Arrival, InlineReplies, InlineTimings
from parley_gateway.platforms.wechat.passive import SUCCESS, PassiveReply
from parley_gateway.platforms.wechat.payloads import EventPush, TextPush, parse_push
from parley_gateway.platforms.wechat.push import PushMemory
from parley_gateway.platforms.wechat.send import InlineSession, Messenger, PushSession
from parley_gateway.platforms.wechat.sentences import part_room, sentences_for
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.platforms.wechat.texts import compose
from parley_gateway.platforms.wechat.token import shared_token
from parley_gateway.platforms.wechat.webhook import FRESH_S, Gate
from parley_gateway.store.base import AcceptOutcome, Receipt

INLINE_TIME_TO_LIVE_S = 600.0
PUSH_TIME_TO_LIVE_S = 1800.0
REDELIVERED_S = 15.0
"""WeChat delivers something for the last time within this many seconds: three tries of 5 s."""


class WeChatPlatform:
    """One Official Account."""

    name: ClassVar[str] = "wechat"
    dialect: ClassVar[str] = "wechat_text"
    # WeChat is done after 15 s, but a captured request stays acceptable for as long as its timestamp is fresh.
    redelivery: ClassVar[Redelivery] = Redelivery(after_s=(5.0, 5.0), span_s=2 * FRESH_S)
    capabilities: ClassVar[Mapping[str, Capability]] = {
        "text_in": Capability(Support.DONE),
        "image_in": Capability(Support.NOT_YET, "needs the media API, which verified accounts only have"),
        "voice_in": Capability(Support.NOT_YET, "WeChat's own recognition is going away; needs the media API"),
        "group_mention": Capability(Support.NOT_POSSIBLE, "an Official Account has no groups"),
        "inline_reply": Capability(Support.DONE),
        "pushed_reply": Capability(Support.DONE),
        "streaming": Capability(Support.NOT_POSSIBLE, "a message can't be changed once it is sent"),
        "cards": Capability(Support.NOT_POSSIBLE, "WeChat has no cards for free text"),
        "files": Capability(Support.NOT_POSSIBLE, "neither way of answering takes files"),
        "quote": Capability(Support.NOT_POSSIBLE, "WeChat doesn't say which message one replies to"),
        "recall": Capability(Support.NOT_POSSIBLE, "WeChat doesn't tell an account of recalled messages"),
    }

    def __init__(self, settings: WeChatSettings, services: PlatformServices, timings: InlineTimings) -> None:
        """Build everything for one bot. Raises OSError when `ca_file` can't be read as certificates."""
        context, clock = services.context, services.clock
        self._bot = context.bot
        self._commands = context.commands
        self._clock = clock
        self._reply = settings.reply_mode
        self._sentences = sentences_for(context.locale)
        self._welcome = settings.welcome or self._sentences.welcome
        self._room = part_room(self._sentences)
        self._gate = Gate(settings, services.cache, bot=context.bot, clock=clock)
        self._memory = PushMemory(
            services.cache, bot=context.bot, app_id=settings.app_id, clock=clock, on_event=services.on_event
        )
        self._inline = InlineReplies(services.kept, self._memory, self._sentences, clock=clock, timings=timings)
        transport = create_transport(
            settings.base_url, proxy=settings.proxy, ca_file=settings.ca_file, environ=services.environ
        )
        self._api = WeChatAPI(settings.base_url, transport, services.on_call)
        self._messenger: Messenger | None = None
        self._tokens: SharedValue | None = None
        if settings.app_secret is not None:
            secret = settings.app_secret.get_secret_value()
            self._tokens = shared_token(
                self._api, services.cache, app_id=settings.app_id, app_secret=secret, clock=clock
            )
            self._messenger = Messenger(self._api, self._tokens, self._memory, switches=self._reply == "auto")

    async def handle(self, request: RawRequest) -> Handled:
        """Prove, decrypt and parse one request. Raises WebhookError, StoreUnavailableError."""
        arrived_at = self._clock()
        if request.method == "GET":
            echo = await self._gate.check_url(request.query)
            return Challenge(RawResponse(body=echo.encode()))
        opened = await self._gate.open(request)
        push = parse_push(opened.xml)
        passive = PassiveReply(push.parties, opened.seal, self._clock)
        if isinstance(push, TextPush):
            return await self._handle_text(push, passive, arrived_at) if push.text else _ignored("text")
        if isinstance(push, EventPush):
            if push.name == "subscribe":
                return Query("subscribe", partial(self._say, passive, self._welcome))
            if push.name == "unsubscribe":
                # A redelivery, or a late one, erases nothing of somebody who follows again meanwhile.
                erase_before = min(arrived_at, push.parties.sent_at + REDELIVERED_S)
                return Farewell(self._conversation(push.parties.user), erase_before, SUCCESS)
            return _ignored("other")
        return Query(push.type, partial(self._say, passive, self._sentences.unsupported))

    async def unavailable(self) -> RawResponse:
        """Leave the request open until WeChat gives it up: only then does WeChat deliver it again."""
        await self._inline.stay_open(self._clock())
        return RawResponse(status=503)

    def part_limits(self, message: InboundMessage) -> PartLimits:
        """Return what a part may hold: its message must have room for our own lines too, pushed or kept."""
        return self._room

    def open_reply(self, message: InboundMessage, state: Mapping[str, str], *, generation: int = 1) -> ReplySession:
        """Return the session for the way that was chosen when the message arrived."""
        if message.target.get("reply") != "push" or self._messenger is None:
            return InlineSession()
        return PushSession(self._messenger, message, self._sentences, clock=self._clock)

    async def check_credentials(self) -> None:
        """Make the token call. Raises DeliveryError that says what to change in the console."""
        if self._tokens is not None:
            await self._tokens.make()

    async def close(self) -> None:
        """Close the connections to WeChat."""
        await self._api.close()

    async def _handle_text(self, push: TextPush, passive: PassiveReply, arrived_at: float) -> Handled:
        inline = await self._answers_inline()
        message = self._message(push, inline=inline)
        arrival = Arrival(message, arrived_at)
        if message.kind is MessageKind.QUESTION:
            fetch = await self._inline.find_fetch(arrival, push.menu_id, inline=inline)
            if fetch is not None:
                return Query("fetch", partial(self._show, passive, fetch))
        event = "command" if message.kind is MessageKind.COMMAND else "text"
        return Messages(
            (message,),
            event,
            partial(self._respond, arrival, passive),
            refused=SUCCESS,
            say=partial(self._say, passive),
            say_meanwhile=partial(self._say_meanwhile, passive, message),
        )

    async def _answers_inline(self) -> bool:
        if self._reply == "auto":
            return not await self._memory.may_push()
        return self._reply == "inline"

    def _message(self, push: TextPush, *, inline: bool) -> InboundMessage:
        user = push.parties.user
        first_word = push.text.split(maxsplit=1)[0].lower()
        return InboundMessage(
            conversation=self._conversation(user),
            message_id=push.message_id,
            sender=user,
            kind=MessageKind.COMMAND if first_word in self._commands else MessageKind.QUESTION,
            text=push.text,
            sent_at=push.parties.sent_at,
            time_to_live_s=INLINE_TIME_TO_LIVE_S if inline else PUSH_TIME_TO_LIVE_S,
            target={"openid": user, "reply": "inline" if inline else "push"},
        )

    def _conversation(self, user: str) -> Conversation:
        return Conversation(self.name, self._bot, tenant="", chat=user)

    async def _respond(self, arrival: Arrival, passive: PassiveReply, receipt: Receipt) -> RawResponse:
        """Acknowledge a stored message; inline, hold the request until there is something to answer."""
        if receipt.outcome is AcceptOutcome.FULL:
            return passive.text(self._sentences.busy)
        inline = arrival.message.target["reply"] == "inline"
        text = await self._inline.bring_owed(arrival, more_to_come=inline)
        if text is None:
            text = await self._inline.answer(arrival, receipt) if inline else NOTHING
        if text is None:
            return RawResponse(status=503)  # Nobody reads it: WeChat has closed the connection.
        return passive.text(text) if text != NOTHING else SUCCESS

    async def _say(self, passive: PassiveReply, sentence: str) -> RawResponse:
        return passive.text(sentence)

    async def _say_meanwhile(self, passive: PassiveReply, message: InboundMessage, sentence: str) -> RawResponse:
        """Say the sentence; where nothing is pushed, with the line to tap for the answer."""
        inline = message.target["reply"] == "inline"
        link = self._sentences.link_to_next(message.message_id) if inline else ""
        return passive.text(compose("", sentence, link))

    async def _show(self, passive: PassiveReply, fetch: Callable[[], Awaitable[str]]) -> RawResponse:
        return passive.text(await fetch())


def _ignored(event: str) -> Ignored:
    return Ignored(event, SUCCESS)
