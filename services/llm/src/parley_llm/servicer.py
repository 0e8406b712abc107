"""The gRPC front: translates between messages and the core; decides nothing about models."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import structlog
from parley.llm.v1 import llm_service_pb2, llm_service_pb2_grpc

from parley_llm.catalog import Catalog
from parley_llm.completions import Completions
from parley_llm.convert import EventConverter, completion_message, request_body
from parley_llm.errors import LLMError
from parley_llm.exchange import (
    MAX_ATTEMPTS,
    MAX_TIMEOUT_MS,
    ChatCall,
    printable,
    request_id_from,
    whole_number,
)
from parley_llm.streams import ChatStream

SERVICE = llm_service_pb2.DESCRIPTOR.services_by_name["LLMService"].full_name
PATIENCE_S = 3600.0

Context = grpc.aio.ServicerContext[Any, Any]
Event = llm_service_pb2.StreamChatCompletionResponse


class LLMServicer(llm_service_pb2_grpc.LLMServiceServicer):
    """`parley.llm.v1.LLMService`."""

    def __init__(self, completions: Completions, catalog: Catalog) -> None:
        self._completions = completions
        self._catalog = catalog

    async def CreateChatCompletion(  # noqa: N802
        self, request: llm_service_pb2.CreateChatCompletionRequest, context: Context
    ) -> llm_service_pb2.CreateChatCompletionResponse:
        """Create a chat completion and answer when it is complete."""
        call = self._call(request.params, context, stream=False)
        try:
            completion = await self._completions.complete(call)
        finally:
            _set_trailers(context, call)
        message = completion_message(completion.data, completion.decoded)
        return llm_service_pb2.CreateChatCompletionResponse(completion=message)

    async def StreamChatCompletion(  # noqa: N802
        self, request: llm_service_pb2.StreamChatCompletionRequest, context: Context
    ) -> AsyncIterator[Event]:
        """Stream a chat completion; an incomplete one ends with an error event and an error status."""
        call = self._call(request.params, context, stream=True)
        stream: ChatStream | None = None
        converter = EventConverter()
        begun = False
        try:
            stream = await self._completions.stream(call)
            while (chunks := await stream.read(PATIENCE_S)) is not None:
                for chunk in chunks:
                    for event in converter.events(chunk):
                        begun = True
                        yield Event(event=event)
        except LLMError as error:
            if begun:
                response = Event()
                response.event.error.reason = error.reason
                response.event.error.message = error.message
                yield response
            raise
        finally:
            if stream is not None:
                stream.close()
            _set_trailers(context, call)

    async def ListModels(  # noqa: N802
        self, request: llm_service_pb2.ListModelsRequest, context: Context
    ) -> llm_service_pb2.ListModelsResponse:
        """List the models that the caller may use."""
        metadata = _metadata(context)
        caller = self._completions.routing.callers.authenticate(metadata.get("authorization", ""))
        models = await self._catalog.models(caller)
        return llm_service_pb2.ListModelsResponse(
            models=[
                llm_service_pb2.Model(id=model.id, owned_by=model.owned_by, created=model.created) for model in models
            ]
        )

    def _call(self, params: Any, context: Context, *, stream: bool) -> ChatCall:
        metadata = _metadata(context)
        caller = self._completions.routing.callers.authenticate(metadata.get("authorization", ""))
        timeout_ms = whole_number("x-parley-timeout-ms", metadata.get("x-parley-timeout-ms", ""), MAX_TIMEOUT_MS)
        limits = [context.time_remaining(), timeout_ms / 1000 if timeout_ms is not None else None]
        body = request_body(params, stream=stream)
        return ChatCall(
            caller,
            # The interceptor made one when the caller sent none; both must be the same in the log.
            request_id_from(structlog.contextvars.get_contextvars().get("request_id") or metadata.get("x-request-id")),
            body.values,
            body.texts,
            timeout_s=min((limit for limit in limits if limit is not None), default=None),
            max_attempts=whole_number("x-parley-max-attempts", metadata.get("x-parley-max-attempts", ""), MAX_ATTEMPTS),
            upstream=metadata.get("x-parley-upstream", ""),
        )


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _set_trailers(context: Context, call: ChatCall) -> None:
    course = call.course
    trailers = [("x-request-id", call.request_id), ("x-parley-attempts", str(course.attempts))]
    if course.attempts:
        trailers += [("x-parley-upstream", course.upstream), ("x-parley-model", printable(course.model))]
    if course.adapted:
        trailers.append(("x-parley-adapted", printable(", ".join(course.adapted))))
    context.set_trailing_metadata(tuple(trailers))
