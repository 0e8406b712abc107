"""The gRPC front: translates between messages and the core; decides nothing about models."""

from collections.abc import AsyncIterator

from parley.llm.v1 import llm_service_pb2

from parley_llm.calls.core import Core
from parley_llm.calls.idempotency import SharedStream
from parley_llm.calls.streams import Stream
from parley_llm.catalog import Catalog
from parley_llm.errors import LLMError
from parley_llm.forms.form import FormLimits
from parley_llm.operations.registry import CHAT
from parley_llm.rpc.calls import Context, caller_of, make_call, set_trailers
from parley_llm.rpc.chat_messages import EventConverter, completion_message, request_body
from parley_llm.rpc.media_servicer import PATIENCE_S, MediaServicer
from parley_llm.rpc.usage_messages import usage_report

SERVICE = llm_service_pb2.DESCRIPTOR.services_by_name["LLMService"].full_name

Event = llm_service_pb2.StreamChatCompletionResponse


class LLMServicer(MediaServicer):
    """`parley.llm.v1.LLMService`."""

    def __init__(self, core: Core, catalog: Catalog, forms: FormLimits) -> None:
        super().__init__(core, forms)
        self._catalog = catalog

    async def CreateChatCompletion(  # noqa: N802
        self, request: llm_service_pb2.CreateChatCompletionRequest, context: Context
    ) -> llm_service_pb2.CreateChatCompletionResponse:
        """Create a chat completion and answer when it is complete."""
        call = make_call(self._core, context, CHAT, request_body(request.params, stream=False))
        try:
            answer = await self._core.answer(call)
        finally:
            set_trailers(context, call)
        message = completion_message(answer.data, answer.decoded)
        return llm_service_pb2.CreateChatCompletionResponse(completion=message)

    async def StreamChatCompletion(  # noqa: N802
        self, request: llm_service_pb2.StreamChatCompletionRequest, context: Context
    ) -> AsyncIterator[Event]:
        """Stream a chat completion; an incomplete one ends with an error event and an error status."""
        call = make_call(self._core, context, CHAT, request_body(request.params, stream=True), stream=True)
        stream: Stream | SharedStream | None = None
        converter = EventConverter()
        begun = False
        try:
            stream = await self._core.stream(call)
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
            set_trailers(context, call)

    async def GetUsage(  # noqa: N802
        self, request: llm_service_pb2.GetUsageRequest, context: Context
    ) -> llm_service_pb2.GetUsageResponse:
        """Tell the caller its limits and use; needs no place within the limits itself."""
        caller = caller_of(self._core, context)
        return usage_report(caller.name, await caller.account.report())

    async def ListModels(  # noqa: N802
        self, request: llm_service_pb2.ListModelsRequest, context: Context
    ) -> llm_service_pb2.ListModelsResponse:
        """List the models that the caller may use."""
        models = await self._catalog.models(caller_of(self._core, context))
        return llm_service_pb2.ListModelsResponse(
            models=[
                llm_service_pb2.Model(id=model.id, owned_by=model.owned_by, created=model.created) for model in models
            ]
        )
