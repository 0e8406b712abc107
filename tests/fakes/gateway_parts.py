"""Stand-ins around the pipeline: a platform that records what a user sees, a model, a formatter."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from parley_gateway.errors import GatewayError
from parley_gateway.messages import Conversation, InboundMessage, MessageKind, OutboundPart, Turn
from parley_gateway.platforms.base import (
    CAPABILITIES,
    Capability,
    Handled,
    Ignored,
    PartLimits,
    RawRequest,
    RawResponse,
    Redelivery,
    ReplySession,
    SendKey,
    Support,
)
from parley_gateway.ports import AnswerDelta, AnswerEvent, AnswerFinish, FormattedReply, PartState, PromptMessage
from parley_gateway.store.records import QueuedMessage
from parley_gateway.trails import Fact, Trail

NOW = 1_700_000_000.0
COMMANDS = frozenset({"/help", "/reset", "/stop", "/forget", "/model", "/prompt"})


class NoTrail(Trail):
    """Notes nothing."""

    def note(self, item: QueuedMessage, step: str, **facts: Fact) -> None:
        return None


class FakeClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def question(
    text: str = "hello",
    *,
    message_id: str = "m1",
    chat: str = "c1",
    kind: MessageKind = MessageKind.QUESTION,
    sent_at: float = NOW,
    platform: str = "fake",
    bot: str = "default",
) -> InboundMessage:
    """Return a message of one user."""
    return InboundMessage(
        conversation=Conversation(platform, bot, "", chat),
        message_id=message_id,
        sender="user",
        kind=kind,
        text=text,
        sent_at=sent_at,
        time_to_live_s=1800.0,
    )


@dataclass
class Phone:
    """What the platform accepted, in order; a repeated key is accepted once, as Feishu does."""

    idempotent: bool = True
    shown: list[tuple[str, str]] = field(default_factory=list)
    """(chat, text)"""
    keys: list[str] = field(default_factory=list)
    targets: list[Mapping[str, str]] = field(default_factory=list)
    """Where each accepted message went."""
    failures: list[GatewayError] = field(default_factory=list)
    """Raised one by one instead of accepting."""
    hold: asyncio.Event | None = None
    """When set, a send that was accepted doesn't return before this."""
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    keeps: bool = False

    @property
    def texts(self) -> list[str]:
        """Just the texts."""
        return [text for _chat, text in self.shown]


class FakeSession(ReplySession):
    """Sends to a phone."""

    def __init__(self, phone: Phone, message: InboundMessage) -> None:
        self.keeps_answers = phone.keeps
        self.shows_progress = False
        self._phone = phone
        self._chat = message.conversation.chat
        self._target = message.target

    async def begin(self) -> None:
        return None

    async def update(self, text: str) -> None:
        return None

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        if self._phone.failures:
            raise self._phone.failures.pop(0)
        if not (self._phone.idempotent and key.uuid in self._phone.keys):
            self._phone.shown.append((self._chat, part.text or part.payload))
            self._phone.targets.append(self._target)
        self._phone.keys.append(key.uuid)
        self._phone.accepted.set()
        if self._phone.hold is not None:
            await self._phone.hold.wait()
        return f"remote-{len(self._phone.shown)}"

    async def finish(self) -> None:
        return None

    async def abort(self, sentence: str, key: SendKey) -> None:
        await self.send(OutboundPart(text=sentence), key)

    def state(self) -> Mapping[str, str]:
        return {}


class FakePlatform:
    """A platform whose requests are answered by `handled`."""

    name: ClassVar[str] = "fake"
    dialect: ClassVar[str] = "plain"
    redelivery: ClassVar[Redelivery] = Redelivery((5.0, 5.0), 600.0)
    capabilities: ClassVar[Mapping[str, Capability]] = {
        name: Capability(Support.NOT_YET, "a stand-in") for name in CAPABILITIES
    }

    def __init__(self) -> None:
        self.phone = Phone()
        self.handled: Handled | GatewayError = Ignored("other", RawResponse())

    async def handle(self, request: RawRequest) -> Handled:
        if isinstance(self.handled, GatewayError):
            raise self.handled
        return self.handled

    async def unavailable(self) -> RawResponse:
        return RawResponse(503, b"later")

    def part_limits(self, message: InboundMessage) -> PartLimits:
        return PartLimits(max_parts=5)

    def open_reply(self, message: InboundMessage, state: Mapping[str, str], *, generation: int = 1) -> ReplySession:
        return FakeSession(self.phone, message)

    async def check_credentials(self) -> None:
        return None

    async def close(self) -> None:
        return None


class FakeLLM:
    """Answers `answer to <question>`, or does what the script says, one entry for each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[PromptMessage, ...]] = []
        self.max_attempts: list[int | None] = []
        self.models: list[str] = []
        self.script: list[GatewayError | list[AnswerEvent] | asyncio.Event] = []
        self.cancelled = 0

    async def stream(
        self,
        messages: Sequence[PromptMessage],
        *,
        model: str,
        app: str,
        request_id: str,
        timeout_s: float,
        max_attempts: int | None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        self.calls.append(tuple(messages))
        self.max_attempts.append(max_attempts)
        self.models.append(model)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, GatewayError):
            raise step
        if isinstance(step, list):
            for event in step:
                yield event
            return
        yield AnswerDelta("answer to ")
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled += 1
                raise
        yield AnswerDelta(messages[-1].content)
        yield AnswerFinish("stop")


class FakeFormatter:
    """Splits an answer at `|`; a script of errors is raised one by one."""

    def __init__(self) -> None:
        self.errors: list[GatewayError] = []
        self.stream_errors: list[GatewayError] = []
        self.prompts: list[str] = []
        self.budgets: list[int] = []

    async def build_prompt(
        self, prompt: str, history: Sequence[Turn], question: str, *, max_tokens: int, locale: str
    ) -> tuple[PromptMessage, ...]:
        self.prompts.append(prompt)
        self.budgets.append(max_tokens)
        earlier = [
            message
            for turn in history
            for message in (PromptMessage("user", turn.question), PromptMessage("assistant", turn.answer))
        ]
        return (*earlier, PromptMessage("user", question))

    async def format_reply(
        self, markdown: str, *, dialect: str, limits: PartLimits, locale: str, ai_label: bool
    ) -> FormattedReply:
        if self.errors:
            raise self.errors.pop(0)
        pieces = markdown.split("|")
        return FormattedReply(tuple(OutboundPart(text=piece, fallback_text=piece) for piece in pieces), False)

    @asynccontextmanager
    async def open_stream(self, *, dialect: str, limits: PartLimits, locale: str) -> AsyncIterator["FakeStream"]:
        yield FakeStream(self)


class FakeStream:
    """Shows every word at once; a `|` begins the next part."""

    def __init__(self, formatter: FakeFormatter) -> None:
        self._formatter = formatter
        self._text = ""

    async def render(self, words: str) -> tuple[PartState, ...]:
        if self._formatter.stream_errors:
            raise self._formatter.stream_errors.pop(0)
        self._text += words
        return tuple(PartState(index, text) for index, text in enumerate(self._text.split("|")) if text)
