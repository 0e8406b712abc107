"""Client of the formatter: builds prompts, renders answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from parley.formatter.v1 import content_pb2, formatter_service_pb2, formatter_service_pb2_grpc
from parley_common.errors import error_from_rpc

from parley_gateway.errors import FormatterError
from parley_gateway.messages import OutboundPart, Turn
from parley_gateway.platforms.base import PartLimits
from parley_gateway.ports import FormattedReply, PartState, PromptMessage

SERVICE = "parley.formatter.v1.FormatterService"
RETRIED = ((SERVICE, "BuildPrompt"), (SERVICE, "FormatReply"))
"""Calls without effects: the channel may repeat them."""

_PERMANENT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}


class FormatterClient:
    """Speaks to the formatter over one channel, which stays the caller's to close."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        """`timeout_s` bounds each call."""
        self._stub = formatter_service_pb2_grpc.FormatterServiceStub(channel)
        self.change(timeout_s=timeout_s)

    def change(self, *, timeout_s: float) -> None:
        """Use another time limit for calls that begin from now on."""
        self._timeout_s = timeout_s

    async def build_prompt(
        self, prompt: str, history: Sequence[Turn], question: str, *, max_tokens: int, locale: str
    ) -> tuple[PromptMessage, ...]:
        """Return the messages to send to the model. Raises FormatterError."""
        request = formatter_service_pb2.BuildPromptRequest(
            prompt_id=prompt,
            history=[content_pb2.Turn(question=turn.question, answer=turn.answer) for turn in history],
            parts=[content_pb2.InputPart(text=question)],
            budget=content_pb2.Budget(max_tokens=max_tokens),
            locale=locale,
        )
        async with _formatter_errors():
            response = await self._stub.BuildPrompt(request, timeout=self._timeout_s)
        return tuple(PromptMessage(message.role, message.content) for message in response.messages)

    async def format_reply(
        self, markdown: str, *, dialect: str, limits: PartLimits, locale: str, ai_label: bool
    ) -> FormattedReply:
        """Return the parts to send. Raises FormatterError."""
        request = formatter_service_pb2.FormatReplyRequest(
            markdown=markdown,
            dialect=dialect,
            limits=_limits(limits),
            max_parts=limits.max_parts,
            locale=locale,
            ai_label=ai_label,
        )
        async with _formatter_errors():
            response = await self._stub.FormatReply(request, timeout=self._timeout_s)
        parts = tuple(
            OutboundPart(text=part.text, payload=part.payload_json.decode(), fallback_text=part.fallback_text)
            for part in response.parts
        )
        return FormattedReply(parts, response.truncated)

    @asynccontextmanager
    async def open_stream(self, *, dialect: str, limits: PartLimits, locale: str) -> AsyncIterator["RenderStream"]:
        """Begin to render an answer that is being written; leaving the block ends the call. Raises FormatterError."""
        call = self._stub.StreamReply()
        start = formatter_service_pb2.FormatReplyRequest(
            dialect=dialect, limits=_limits(limits), max_parts=limits.max_parts, locale=locale
        )
        try:
            async with _formatter_errors():
                await call.write(formatter_service_pb2.StreamReplyRequest(start=start))
            yield RenderStream(call, timeout_s=self._timeout_s)
        finally:
            call.cancel()


class RenderStream:
    """One open call of StreamReply. The call has no time limit of its own, each step has."""

    def __init__(self, call: Any, *, timeout_s: float) -> None:
        """The call stays its owner's to end."""
        self._call = call
        self._timeout_s = timeout_s

    async def render(self, words: str) -> tuple[PartState, ...]:
        """Take the next words and return the parts that grew. Raises FormatterError."""
        try:
            async with _formatter_errors(), asyncio.timeout(self._timeout_s):
                await self._call.write(formatter_service_pb2.StreamReplyRequest(delta=words))
                response = await self._call.read()
        except (TimeoutError, asyncio.InvalidStateError) as exc:
            raise FormatterError("UNAVAILABLE", "the formatter didn't go on rendering", retryable=True) from exc
        if response is grpc.aio.EOF:
            raise FormatterError("UNAVAILABLE", "the formatter ended the rendering", retryable=True)
        return tuple(PartState(state.part_index, state.element_text) for state in response.states.states)


def _limits(limits: PartLimits) -> content_pb2.PartLimits:
    return content_pb2.PartLimits(
        max_bytes=limits.max_bytes,
        max_chars=limits.max_chars,
        max_elements=limits.max_elements,
        max_tables=limits.max_tables,
    )


@asynccontextmanager
async def _formatter_errors() -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        error = error_from_rpc(exc)
        reason = error.reason or error.code.name
        raise FormatterError(reason, error.message, retryable=error.code not in _PERMANENT) from exc
