"""What the pipeline needs of the other two services, in its own words; `clients/` implements it over gRPC."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from parley_gateway.messages import OutboundPart, Turn
from parley_gateway.platforms.base import PartLimits


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message of a prompt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class FormattedReply:
    """An answer as a platform will show it."""

    parts: tuple[OutboundPart, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """Text to append to the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerReset:
    """Everything so far is taken back: the answer begins again."""


@dataclass(frozen=True, slots=True)
class AnswerFinish:
    """The model ended its answer."""

    reason: str
    """`stop`, `length`, `content_filter`, …"""


@dataclass(frozen=True, slots=True)
class AnswerUsage:
    """What the answer took, as the upstream counted it."""

    tokens: int
    """Question and answer together."""


@dataclass(frozen=True, slots=True)
class AnswerCourse:
    """How the call went, told last, when the answer is complete."""

    facts: Mapping[str, str]
    """Ids, names and counts: `request_id`, `upstream`, `model`, `attempts`; nothing that anybody wrote."""


AnswerEvent = AnswerDelta | AnswerReset | AnswerFinish | AnswerUsage | AnswerCourse


@dataclass(frozen=True, slots=True)
class PartState:
    """What a part that isn't finished can show: all of it so far, each state an extension of the one before."""

    part_index: int
    text: str


class RenderStream(Protocol):
    """One answer being rendered while it is written."""

    async def render(self, words: str) -> Sequence[PartState]:
        """Take the next words and return the parts that grew. Raises FormatterError."""


class Formatter(Protocol):
    """Builds prompts and renders answers."""

    async def build_prompt(
        self, prompt: str, history: Sequence[Turn], question: str, *, max_tokens: int, locale: str
    ) -> tuple[PromptMessage, ...]:
        """Return the messages to send to the model. Raises FormatterError."""

    async def format_reply(
        self, markdown: str, *, dialect: str, limits: PartLimits, locale: str, ai_label: bool
    ) -> FormattedReply:
        """Return the parts to send. Raises FormatterError."""

    def open_stream(
        self, *, dialect: str, limits: PartLimits, locale: str
    ) -> AbstractAsyncContextManager[RenderStream]:
        """Begin to render an answer that is being written; leaving the block ends that. Raises FormatterError."""


class LLM(Protocol):
    """Answers prompts."""

    def stream(
        self,
        messages: Sequence[PromptMessage],
        *,
        model: str,
        app: str,
        request_id: str,
        timeout_s: float,
        max_attempts: int | None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the answer as it comes; closing the generator cancels it. Raises UpstreamAnswerError."""
