"""Translates between the wire and the formatter's own types; decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import grpc.aio
from parley.formatter.v1 import content_pb2, formatter_service_pb2, formatter_service_pb2_grpc

from parley_formatter.errors import InvalidLimitsError, InvalidStreamError, PromptFailedError, UnknownDialectError
from parley_formatter.metrics import NO_PLATFORM, FormatterMetrics
from parley_formatter.prompts.build import Turn, build_prompt
from parley_formatter.prompts.library import DEFAULT_PROMPT, Library
from parley_formatter.prompts.tokens import TokenCounter, estimate_tokens
from parley_formatter.render.dialect import Dialect, Part
from parley_formatter.render.limits import Size, Violation, narrow
from parley_formatter.render.registry import DIALECTS
from parley_formatter.render.reply import Reply, ReplyFormatter, ReplyOptions
from parley_formatter.stream.reply_stream import PartState, ReplyStream

# Longer answers are formatted in a thread, so that the event loop goes on answering health checks.
_THREAD_FROM = 4_000


class FormatterServicer(formatter_service_pb2_grpc.FormatterServiceServicer):
    """Serves `parley.formatter.v1.FormatterService`."""

    def __init__(
        self,
        library: Library,
        metrics: FormatterMetrics,
        *,
        max_prompt_tokens: int,
        count: TokenCounter = estimate_tokens,
    ) -> None:
        self.library = library
        """The prompts in use; may be replaced at any time."""
        self._metrics = metrics
        self.max_prompt_tokens = max_prompt_tokens
        """The token budget of calls that set none; may be replaced at any time."""
        self._count = count
        self._formatter = ReplyFormatter()

    async def BuildPrompt(  # noqa: N802 - the name of the RPC.
        self, request: formatter_service_pb2.BuildPromptRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> formatter_service_pb2.BuildPromptResponse:
        """Build the messages of a prompt."""
        prompt = self.library.find(request.prompt_id, request.locale)
        with self._timed("build_prompt", NO_PLATFORM):
            try:
                built = build_prompt(
                    prompt,
                    dict(request.variables),
                    [Turn(turn.question, turn.answer) for turn in request.history],
                    [part.text for part in request.parts],
                    max_tokens=request.budget.max_tokens or self.max_prompt_tokens,
                    locale=request.locale,
                    count=self._count,
                )
            except PromptFailedError:
                self._metrics.template_errors.labels(prompt.name or DEFAULT_PROMPT).inc()
                raise
        return formatter_service_pb2.BuildPromptResponse(
            messages=[content_pb2.PromptMessage(role=item.role, content=item.content) for item in built.messages],
            estimated_tokens=built.estimated_tokens,
            dropped_turns=built.dropped_turns,
            truncated=built.truncated,
        )

    async def FormatReply(  # noqa: N802 - the name of the RPC.
        self, request: formatter_service_pb2.FormatReplyRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> formatter_service_pb2.FormatReplyResponse:
        """Format an answer for a platform."""
        options = _options(request)
        platform = options.dialect.platform
        self._metrics.input_bytes.observe(len(request.markdown.encode()))
        with self._timed("format_reply", platform):
            if len(request.markdown) < _THREAD_FROM:
                reply = self._formatter.format(request.markdown, options)
            else:
                reply = await asyncio.to_thread(self._formatter.format, request.markdown, options)
        return self._response(reply, platform)

    async def StreamReply(  # noqa: N802 - the name of the RPC.
        self,
        request_iterator: AsyncIterator[formatter_service_pb2.StreamReplyRequest],
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[formatter_service_pb2.StreamReplyResponse]:
        """Format an answer while it is being written."""
        stream: ReplyStream | None = None
        platform = NO_PLATFORM
        size = 0
        async for request in request_iterator:
            starts = request.WhichOneof("step") == "start"
            if starts == (stream is not None):
                raise InvalidStreamError("StreamReply takes `start` first, once, and then deltas.")
            if stream is None:
                options = _options(request.start)
                platform = options.dialect.platform
                stream = ReplyStream(self._formatter, options)
            piece = request.start.markdown if starts else request.delta
            size += len(piece.encode())
            with self._timed("stream_reply", platform):
                states = stream.feed(piece)
            if not starts:
                yield formatter_service_pb2.StreamReplyResponse(states=_states(states))
        if stream is None:
            raise InvalidStreamError("StreamReply got no `start`.")
        self._metrics.input_bytes.observe(size)
        with self._timed("stream_reply", platform):
            reply = await asyncio.to_thread(stream.finish)
        yield formatter_service_pb2.StreamReplyResponse(reply=self._response(reply, platform))

    def _response(self, reply: Reply, platform: str) -> formatter_service_pb2.FormatReplyResponse:
        """Count a finished rendering and put it on the wire."""
        self._metrics.output_parts.labels(platform).observe(len(reply.parts))
        for feature, count in reply.degraded.items():
            self._metrics.degraded.labels(platform, feature.value).inc(count)
        return formatter_service_pb2.FormatReplyResponse(
            parts=[_part(part) for part in reply.parts],
            truncated=reply.truncated,
            degraded={feature.value: count for feature, count in reply.degraded.items()},
        )

    @contextmanager
    def _timed(self, operation: str, platform: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.duration.labels(operation, platform).observe(time.perf_counter() - start)


def _options(request: formatter_service_pb2.FormatReplyRequest) -> ReplyOptions:
    dialect = DIALECTS.get(request.dialect)
    if dialect is None:
        known = ", ".join(DIALECTS)
        raise UnknownDialectError(
            f"There is no dialect {request.dialect[:64]!r}. There are: {known}.",
            metadata={"dialect": request.dialect, "known": known},
        )
    if request.max_parts < 0:
        raise InvalidLimitsError("max_parts must not be negative.", metadata={"limit": "max_parts"})
    return ReplyOptions(
        dialect=dialect,
        limits=_limits(dialect, request.limits),
        max_parts=request.max_parts,
        locale=request.locale or "en",
        ai_label=request.ai_label,
    )


def _limits(dialect: Dialect, wanted: content_pb2.PartLimits) -> Size:
    size = Size(wanted.max_bytes, wanted.max_chars, wanted.max_elements, wanted.max_tables)
    limits = narrow(dialect.limits, dialect.lowest, size)
    if isinstance(limits, Violation):
        raise InvalidLimitsError(
            f"{limits.name} is {limits.wanted}; {dialect.name} allows {limits.lowest} to {limits.highest}.",
            metadata={"limit": limits.name, "lowest": str(limits.lowest), "highest": str(limits.highest)},
        )
    return limits


def _part(part: Part) -> content_pb2.FormattedPart:
    if part.payload_json:
        return content_pb2.FormattedPart(payload_json=part.payload_json, fallback_text=part.fallback_text)
    return content_pb2.FormattedPart(text=part.text, fallback_text=part.fallback_text)


def _states(states: Iterable[PartState]) -> formatter_service_pb2.ReplyStates:
    return formatter_service_pb2.ReplyStates(
        states=[
            formatter_service_pb2.ReplyState(part_index=state.part_index, element_text=state.text) for state in states
        ]
    )
