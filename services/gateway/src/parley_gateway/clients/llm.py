"""Client of the LLM service: one streamed answer."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc.aio
from parley.llm.v1 import chat_pb2, llm_service_pb2, llm_service_pb2_grpc
from parley_common.errors import error_from_rpc
from parley_common.grpc_client import cancelling

from parley_gateway.errors import UpstreamAnswerError
from parley_gateway.ports import (
    AnswerCourse,
    AnswerDelta,
    AnswerEvent,
    AnswerFinish,
    AnswerReset,
    AnswerUsage,
    PromptMessage,
)

_COURSE = {
    "x-request-id": "request_id",
    "x-parley-attempts": "attempts",
    "x-parley-upstream": "upstream",
    "x-parley-model": "model",
}
_ERROR_FACTS = ("upstream", "upstream_status", "upstream_code", "upstream_request_id")
"""What an error's metadata may tell; none of it is text that anybody wrote."""


class LLMClient:
    """Speaks to the LLM service over one channel, which stays the caller's to close."""

    def __init__(self, channel: grpc.aio.Channel, *, key: str | None, timeout_s: float) -> None:
        """`key` is the gateway's caller key; `timeout_s` bounds one answer."""
        self._stub = llm_service_pb2_grpc.LLMServiceStub(channel)
        self.change(key=key, timeout_s=timeout_s)

    def change(self, *, key: str | None, timeout_s: float) -> None:
        """Use another key and time limit for calls that begin from now on."""
        self._key = key
        self._timeout_s = timeout_s

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
        """Yield the answer as it comes; close the generator to cancel the call down to the upstream.

        `timeout_s` is what the message's time to live leaves. A call that a draining server refused before any try is
        sent once more; another replica takes it.

        Raises
            UpstreamAnswerError: the answer can't be had, or broke off.
        """
        params = chat_pb2.ChatCompletionParams(
            model=model,
            messages=[chat_pb2.ChatMessage(role=message.role, content=message.content) for message in messages],
        )
        request = llm_service_pb2.StreamChatCompletionRequest(params=params)
        metadata = self._metadata(app, request_id, max_attempts)
        timeout_s = min(timeout_s, self._timeout_s)
        for again in (True, False):
            try:
                async with cancelling(
                    self._stub.StreamChatCompletion(request, timeout=timeout_s, metadata=metadata)
                ) as call:
                    async for response in call:
                        event = _event(response.event)
                        if event is not None:
                            yield event
                    yield AnswerCourse(_course(await call.trailing_metadata()))
                return
            except grpc.aio.AioRpcError as exc:
                error = _translate(exc)
                if not (again and error.reason == "DRAINING"):
                    raise error from exc

    def _metadata(self, app: str, request_id: str, max_attempts: int | None) -> tuple[tuple[str, str], ...]:
        metadata = [("x-parley-app", app), ("x-request-id", request_id)]
        if self._key:
            metadata.append(("authorization", f"Bearer {self._key}"))
        if max_attempts is not None:
            metadata.append(("x-parley-max-attempts", str(max_attempts)))
        return tuple(metadata)


def _event(event: chat_pb2.ChatCompletionEvent) -> AnswerEvent | None:
    match event.WhichOneof("event"):
        case "delta":
            return AnswerDelta(event.delta.content or event.delta.refusal)
        case "finish":
            return AnswerFinish(event.finish.finish_reason)
        case "usage":
            usage = event.usage
            return AnswerUsage(usage.total_tokens or usage.prompt_tokens + usage.completion_tokens)
        case "reset":
            return AnswerReset()
        case _:
            return None


def _course(trailers: Any) -> dict[str, str]:
    """Return how a call went, by the trailing metadata that the LLM service sends with every answer and error."""
    told = {key: value for key, value in trailers or () if isinstance(value, str)}
    return {name: told[key] for key, name in _COURSE.items() if key in told}


def _translate(exc: grpc.aio.AioRpcError) -> UpstreamAnswerError:
    error = error_from_rpc(exc)
    facts = {name: error.metadata[name] for name in _ERROR_FACTS if name in error.metadata}
    # Without ErrorInfo the call never reached a service that could judge it: an unreachable service may come back.
    retryable = error.retryable if error.reason else error.code is grpc.StatusCode.UNAVAILABLE
    return UpstreamAnswerError(
        error.reason or error.code.name,
        error.message,
        retryable,
        error.retry_after_s,
        {"code": error.code.name, **facts, **_course(exc.trailing_metadata())},
    )
