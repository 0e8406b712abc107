"""The interface between the gateway and a chat platform.

A platform proves and parses requests, says how they are acknowledged, and sends parts. Order, retries, storing and
deduplication are the gateway's and never a platform's. Verifying and parsing are plain functions on bytes inside each
platform's folder; what `handle` returns says all the gateway needs to know.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from parley_gateway.messages import Conversation, InboundMessage, OutboundPart
from parley_gateway.store.base import Cache, KeptAnswers, Receipt


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A webhook request as it arrived: signatures cover the raw bytes."""

    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What to answer a webhook request with."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The platform checks the URL: answer at once."""

    response: RawResponse


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages to claim and enqueue, then to acknowledge with `respond`."""

    messages: tuple[InboundMessage, ...]
    event: str
    """The `event` label of the metric: `text`, `command`, …"""
    respond: Callable[[Receipt], Awaitable[RawResponse]]
    """Builds the HTTP answer once the last message is stored; may hold the request open (WeChat inline replies)."""
    refused: RawResponse = RawResponse()
    """Acknowledges the request when its sender may not use the bot, or not so often."""
    refusal: str = ""
    """Set when the platform itself knows that the sender may not use the bot: the `outcome` label of the metric."""
    say: Callable[[str], Awaitable[RawResponse]] | None = None
    """Tells the sender one sentence in the answer to the request, where the platform can do that."""
    say_meanwhile: Callable[[str], Awaitable[RawResponse]] | None = None
    """The same while the message waits for its answer: tells also how to get at that, where it isn't pushed."""


@dataclass(frozen=True, slots=True)
class Query:
    """Answered now, without the queue: a greeting, a stored answer that the user fetches."""

    event: str
    respond: Callable[[], Awaitable[RawResponse]]


@dataclass(frozen=True, slots=True)
class Ignored:
    """Understood, acknowledged, nothing to do."""

    event: str
    response: RawResponse
    outcome: str = "unsupported"
    """The `outcome` label of the metric."""


@dataclass(frozen=True, slots=True)
class Recall:
    """A user took a message back."""

    conversation: Conversation
    message_id: str
    response: RawResponse


@dataclass(frozen=True, slots=True)
class Farewell:
    """A user left the bot: what is stored of the conversation is erased, then the request is acknowledged."""

    conversation: Conversation
    at: float
    """What was sent before this goes, seconds since 1970."""
    response: RawResponse


class Click(StrEnum):
    """What a user can do with an answer by a click."""

    STOP = "stop"
    REGENERATE = "regenerate"
    GOOD = "good"
    BAD = "bad"


class ClickOutcome(StrEnum):
    """What came of a click."""

    DONE = "done"
    ALREADY = "already"
    """The same was done before: clicking twice does no more."""
    NOT_ASKER = "not_asker"
    """Only who asked may do this."""
    REFUSED = "refused"
    """Who clicked may not use the bot, or sends too much."""
    GONE = "gone"
    """The question isn't known any more."""
    UNAVAILABLE = "unavailable"
    """It can't be done now; a later click may work."""


@dataclass(frozen=True, slots=True)
class Clicked:
    """A user clicked on something that an answer shows."""

    click: Click
    message: InboundMessage
    """The question that was answered, so far as the click tells: its text is empty, its sender is who asked.

    Its target leads to the user's own message, also when it was asked again under another id since.
    """
    user: str
    """Who clicked."""
    user_tenant: str
    respond: Callable[[ClickOutcome], RawResponse]


Handled = Challenge | Messages | Query | Ignored | Recall | Farewell | Clicked


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What one outbound message of the platform can hold. 0 means: the dialect's own limit."""

    max_bytes: int = 0
    max_chars: int = 0
    max_elements: int = 0
    max_tables: int = 0
    max_parts: int = 0
    """How many messages one answer may be split into; 0 means no limit."""


@dataclass(frozen=True, slots=True)
class Redelivery:
    """How a platform repeats a delivery that wasn't acknowledged."""

    after_s: tuple[float, ...]
    """Seconds between one try and the next."""
    span_s: float
    """How long after the first try another may still arrive: delivery keys are kept at least as long."""


class Support(StrEnum):
    """How far a capability goes."""

    DONE = "done"
    NOT_YET = "not yet"
    NOT_POSSIBLE = "not possible"


@dataclass(frozen=True, slots=True)
class Capability:
    """One row of a platform's capability table."""

    support: Support
    reason: str = ""
    """Why it is not `done`."""


CAPABILITIES = (
    "text_in", "image_in", "voice_in", "group_mention", "inline_reply", "pushed_reply", "streaming", "cards", "files",
    "quote", "recall",
)  # fmt: skip
"""Every capability a platform declares; a test checks that none is left out."""


@dataclass(frozen=True, slots=True)
class SendKey:
    """Identifies one part for idempotent sending: made once, stored, the same on every repeat."""

    uuid: str
    """At most 50 characters."""
    first_tried_at: float
    """When the first try began, seconds since 1970: a platform forgets keys after a while."""
    index: int = 0
    """Which part of the answer this is, from 0."""
    total: int = 1
    """How many parts the answer has."""

    @property
    def last(self) -> bool:
        """True for the answer's last part."""
        return self.index == self.total - 1


class ReplySession(Protocol):
    """Delivers the answer to one message. Opened again with the stored state after a crash."""

    keeps_answers: bool
    """True: nothing is sent, the parts are kept in the store for the user's held or next request."""

    shows_progress: bool
    """True: `update` shows something. False: the answer appears when it is complete."""

    async def begin(self) -> None:
        """Get ready to show that the message is being answered; what `state` returns then must be stored at once.

        Called again after a crash or a failure, it goes on with what the state says is there already. Never raises
        DeliveryError: an answer that can't be shown unfinished is shown complete.
        """

    async def update(self, text: str) -> None:
        """Show an unfinished state of the first part, in the platform's dialect; empty: nothing is there yet.

        Returns when the next state may be shown. Never raises DeliveryError, like `begin`.
        """

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        """Send one final part.

        Returns the platform's id of the message, empty when it gives none.

        Raises
            DeliveryError: one of its kinds; a TransientDeliveryError may mean that the outcome is unknown.
        """

    async def finish(self) -> None:
        """Close the reply after its last part."""

    async def abort(self, sentence: str, key: SendKey) -> None:
        """Tell the user one sentence instead of an answer. Raises DeliveryError."""

    def state(self) -> Mapping[str, str]:
        """Return what must be stored so that another process can resume (a card's id)."""


class Platform(Protocol):
    """One bot on one platform."""

    name: ClassVar[str]
    dialect: ClassVar[str]
    """The formatter's dialect for outbound text."""
    redelivery: ClassVar[Redelivery]
    capabilities: ClassVar[Mapping[str, Capability]]

    async def handle(self, request: RawRequest) -> Handled:
        """Prove, decrypt and parse one webhook request.

        Raises
            WebhookError: the request is refused.
            DeliveryError: the platform's API is needed to tell and doesn't answer; the platform shall deliver again.
        """

    async def unavailable(self) -> RawResponse:
        """Answer when nothing could be stored, in the way that makes the platform deliver again."""

    def part_limits(self, message: InboundMessage) -> PartLimits:
        """Say what one part of the answer to this message may hold."""

    def open_reply(self, message: InboundMessage, state: Mapping[str, str], *, generation: int = 1) -> ReplySession:
        """Open (state empty) or resume the reply to a message.

        `generation` is that of the lease under which it is written: higher than that of every earlier writer.
        """

    async def check_credentials(self) -> None:
        """Make the platform's token call. Raises DeliveryError whose message says what to change in its console."""

    async def close(self) -> None:
        """Release connections."""


@runtime_checkable
class QuoteSource(Protocol):
    """What a platform has besides `Platform` when it can say what a message replies to."""

    async def quoted_text(self, message: InboundMessage) -> str:
        """Return the text of the message that this one replies to (`quotes`), empty when it holds none.

        Raises
            DeliveryError: it can't be had.
        """


class EventSink(Protocol):
    """Where events go that come over a platform's own connection."""

    async def take(self, read: Callable[[], Awaitable[Handled]]) -> RawResponse:
        """Do with one event what is done with a webhook request; `read` parses it and raises what `handle` raises.

        Returns the answer for the platform. A status other than 200 means that the event has to come again.
        """

    def connected(self, up: bool) -> None:
        """Be told whether events can arrive now."""


@runtime_checkable
class ConnectionSource(Protocol):
    """What a platform has besides `Platform` when its events may come over a connection of its own.

    Every replica runs it: the platform delivers each event over one of the connections.
    """

    async def run(self, stop: asyncio.Event, sink: EventSink) -> None:
        """Connect, hand events to `sink`, and connect again after a loss, until `stop` is set.

        Then take no more events, finish those in hand, and close. Returns at once when the bot's settings want no
        connection.
        """


@dataclass(frozen=True, slots=True)
class BotContext:
    """What a platform is told about its bot besides its own settings."""

    bot: str
    locale: str
    commands: frozenset[str]
    """Words that make a message a command when it starts with one."""


CallReport = Callable[[str, str, str], None]
"""Told of each call to a platform's API: api (`send`, `token`, `info`, …), outcome (`ok`, `error`), error type."""


EventReport = Callable[[str], None]
"""Told of what an operator should know: `inline_only`, a WeChat account turned out to have no right to push."""


@dataclass(frozen=True, slots=True)
class PlatformServices:
    """What the gateway lends to a platform."""

    context: BotContext
    kept: KeptAnswers
    cache: Cache
    clock: Callable[[], float]
    """Returns the time, seconds since 1970."""
    on_call: CallReport
    on_event: EventReport = lambda _name: None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """Where proxy variables are looked up."""
