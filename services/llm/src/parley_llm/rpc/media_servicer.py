"""The gRPC methods for embeddings, pictures and audio: they translate, and decide nothing about models."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from typing import Any

from parley.llm.v1 import llm_service_pb2, llm_service_pb2_grpc, media_pb2

from parley_llm.calls.core import Core
from parley_llm.exchange import Answer, Call
from parley_llm.forms.form import Form, FormLimits
from parley_llm.jsontext import JSONObject
from parley_llm.operations.base import Operation
from parley_llm.operations.registry import (
    EMBEDDINGS,
    IMAGE_EDIT,
    IMAGE_GENERATION,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
)
from parley_llm.rpc.calls import Context, make_call, set_trailers
from parley_llm.rpc.media_messages import (
    answer_pieces,
    audio_body,
    embeddings_body,
    embeddings_message,
    event_pieces,
    form_fields,
    image_body,
    images_message,
    speech_body,
    transcription_message,
)
from parley_llm.rpc.request_streams import Piece, read_files, read_params
from parley_llm.upstream.events import StreamEvent

PATIENCE_S = 3600.0


class MediaServicer(llm_service_pb2_grpc.LLMServiceServicer):
    """The methods of `parley.llm.v1.LLMService` that are about more than text. `forms` limits uploads."""

    def __init__(self, core: Core, forms: FormLimits) -> None:
        self._core = core
        self._forms = forms

    async def CreateEmbeddings(  # noqa: N802
        self, request: llm_service_pb2.CreateEmbeddingsRequest, context: Context
    ) -> llm_service_pb2.CreateEmbeddingsResponse:
        """Create embeddings."""
        answer = await self._answer(context, EMBEDDINGS, embeddings_body(request.params))
        return llm_service_pb2.CreateEmbeddingsResponse(embeddings=embeddings_message(answer))

    async def GenerateImages(  # noqa: N802
        self, request: llm_service_pb2.GenerateImagesRequest, context: Context
    ) -> llm_service_pb2.GenerateImagesResponse:
        """Make pictures from a description."""
        answer = await self._answer(context, IMAGE_GENERATION, image_body(request.params))
        return llm_service_pb2.GenerateImagesResponse(images=images_message(answer))

    async def EditImage(  # noqa: N802
        self, request_iterator: AsyncIterator[llm_service_pb2.EditImageRequest], context: Context
    ) -> AsyncIterator[llm_service_pb2.EditImageResponse]:
        """Make pictures from pictures; unfinished states come too when `partial_images` asks for them."""
        params: media_pb2.ImageParams = await read_params(request_iterator)
        body = image_body(params)
        with closing(Form(self._forms)) as form:
            await _fill(form, body, request_iterator, "image[]")
            if not body.values.get("partial_images"):
                answer = await self._answer(context, IMAGE_EDIT, body, form)
                for piece in answer_pieces(answer):
                    yield llm_service_pb2.EditImageResponse(piece=piece)
                return
            await form.add("stream", "true")
            call = make_call(self._core, context, IMAGE_EDIT, body, stream=True, form=form)
            async with aclosing(self._events(context, call)) as events:
                async for event in events:
                    for piece in event_pieces(event.chunk):
                        yield llm_service_pb2.EditImageResponse(piece=piece)

    async def CreateSpeech(  # noqa: N802
        self, request: llm_service_pb2.CreateSpeechRequest, context: Context
    ) -> AsyncIterator[llm_service_pb2.CreateSpeechResponse]:
        """Speak a text; audio that breaks off ends with an error."""
        call = make_call(self._core, context, SPEECH, speech_body(request.params), stream=True)
        first = True
        async with aclosing(self._events(context, call)) as events:
            async for event in events:
                content_type = call.course.content_type if first else ""
                first = False
                yield llm_service_pb2.CreateSpeechResponse(content_type=content_type, data=event.data)

    async def CreateTranscription(  # noqa: N802
        self, request_iterator: AsyncIterator[llm_service_pb2.CreateTranscriptionRequest], context: Context
    ) -> llm_service_pb2.CreateTranscriptionResponse:
        """Write down what an audio file says."""
        answer = await self._about_audio(context, TRANSCRIPTION, request_iterator)
        return llm_service_pb2.CreateTranscriptionResponse(transcription=transcription_message(answer))

    async def CreateTranslation(  # noqa: N802
        self, request_iterator: AsyncIterator[llm_service_pb2.CreateTranslationRequest], context: Context
    ) -> llm_service_pb2.CreateTranslationResponse:
        """Write down in English what an audio file says."""
        answer = await self._about_audio(context, TRANSLATION, request_iterator)
        return llm_service_pb2.CreateTranslationResponse(translation=transcription_message(answer))

    async def _about_audio(self, context: Context, operation: Operation, pieces: AsyncIterator[Piece[Any]]) -> Answer:
        params: media_pb2.AudioParams = await read_params(pieces)
        body = audio_body(params)
        with closing(Form(self._forms)) as form:
            await _fill(form, body, pieces, "file")
            return await self._answer(context, operation, body, form)

    async def _answer(
        self, context: Context, operation: Operation, body: JSONObject, form: Form | None = None
    ) -> Answer:
        call = make_call(self._core, context, operation, body, form=form)
        try:
            return await self._core.answer(call)
        finally:
            set_trailers(context, call)

    async def _events(self, context: Context, call: Call) -> AsyncGenerator[StreamEvent, None]:
        try:
            stream = await self._core.stream(call)
            call.course.content_type = stream.content_type
            try:
                while (events := await stream.read(PATIENCE_S)) is not None:
                    for event in events:
                        yield event
            finally:
                stream.close()
        finally:
            set_trailers(context, call)


async def _fill(form: Form, body: JSONObject, pieces: AsyncIterator[Piece[Any]], field: str) -> None:
    for name, value in form_fields(body):
        await form.add(name, value)
    await read_files(pieces, form, field)
