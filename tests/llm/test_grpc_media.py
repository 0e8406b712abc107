"""Embeddings, pictures and audio over gRPC, in front of a scripted upstream."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio
import pytest
from parley.llm.v1 import llm_service_pb2 as pb
from parley.llm.v1 import media_pb2
from parley_common.errors import RemoteError, error_from_rpc

from tests.fakes.openai_upstream import OpenAIUpstream, Peer, Reply, event, plain, status, stream
from tests.llm.conftest import Running

PICTURE = bytes(range(256)) * 600
AUDIO = b"RIFF" + bytes(range(256)) * 12_000
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "input_tokens_details": {"text_tokens": 5}}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answer(**members: Any) -> Reply:
    return plain(200, json.dumps(members).encode())


async def failure(call: Any) -> RemoteError:
    """Return the error a call ends with."""
    ending = _read_to_end(call) if hasattr(call, "__aiter__") else call
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ending
    return error_from_rpc(caught.value)


async def _read_to_end(call: Any) -> None:
    async for _ in call:
        pass


async def embed(service: Running, *inputs: str | list[int], **params: Any) -> Any:
    asked = [
        media_pb2.EmbeddingInput(text=one)
        if isinstance(one, str)
        else media_pb2.EmbeddingInput(tokens=media_pb2.TokenList(tokens=one))
        for one in inputs
    ]
    request = pb.CreateEmbeddingsRequest(params=media_pb2.EmbeddingsParams(model="chat", inputs=asked, **params))
    return (await service.stub.CreateEmbeddings(request)).embeddings


async def test_embeddings_come_in_the_order_of_the_inputs(service: Running, upstream: OpenAIUpstream) -> None:
    packed = b64(struct.pack("<2f", 0.5, -2))
    upstream.replies = [
        answer(
            object="list",
            model="embed-3",
            data=[
                {"object": "embedding", "index": 1, "embedding": packed},
                {"object": "embedding", "index": 0, "embedding": [1, 0.25]},
            ],
            usage={"prompt_tokens": 4, "total_tokens": 4},
            region="eu",
        )
    ]
    found = await embed(service, "one", [1, 2], dimensions=2, extra_body_json=b'{"task":1e400}')
    assert [(one.index, list(one.values)) for one in found.embeddings] == [(0, [1.0, 0.25]), (1, [0.5, -2.0])]
    assert (found.model, found.usage.prompt_tokens, found.usage.total_tokens) == ("embed-3", 4, 4)
    assert json.loads(found.extra_body_json) == {"region": "eu"}
    request = upstream.requests[0]
    assert request.target == "/v1/embeddings"
    assert request.body == b'{"model":"fake-model","input":["one",[1,2]],"dimensions":2,"task":1e400}'
    assert service.metric(
        "parley_llm_requests_total", caller="anonymous", operation="embeddings", model="chat", outcome="ok"
    )


async def test_mistakes_in_embeddings_are_named(service: Running, upstream: OpenAIUpstream) -> None:
    empty = pb.CreateEmbeddingsRequest(params=media_pb2.EmbeddingsParams(model="chat", inputs=[{}]))
    error = await failure(service.stub.CreateEmbeddings(empty))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "inputs[0] is empty" in error.message
    error = await failure(service.stub.CreateEmbeddings(pb.CreateEmbeddingsRequest()))
    assert "model is required" in error.message
    upstream.replies = [answer(data=[{"embedding": "not base64!"}])]
    one = media_pb2.EmbeddingsParams(model="chat", inputs=[media_pb2.EmbeddingInput(text="x")])
    error = await failure(service.stub.CreateEmbeddings(pb.CreateEmbeddingsRequest(params=one)))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_PROTOCOL")


async def test_pictures_are_generated(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [
        status(503),
        answer(
            created=1700000000,
            data=[{"b64_json": b64(PICTURE), "revised_prompt": "a cat, oil"}, {"url": "https://x/1.png", "seed": 7}],
            usage=USAGE,
            size="1024x1024",
        ),
    ]
    params = media_pb2.ImageParams(model="chat", prompt="a cat", n=2, size="1024x1024", extra_body_json=b'{"style":1}')
    call = service.stub.GenerateImages(pb.GenerateImagesRequest(params=params))
    images = (await call).images
    assert [image.WhichOneof("image") for image in images.images] == ["data", "url"]
    assert images.images[0].data == PICTURE
    assert images.images[0].revised_prompt == "a cat, oil"
    assert json.loads(images.images[1].extra_body_json) == {"seed": 7}
    assert (images.created, images.usage.prompt_tokens, images.usage.completion_tokens) == (1700000000, 5, 7)
    assert json.loads(images.extra_body_json) == {"size": "1024x1024"}
    assert upstream.requests[1].target == "/v1/images/generations"
    assert upstream.requests[1].json == {
        "prompt": "a cat", "model": "fake-model", "n": 2, "size": "1024x1024", "style": 1,
    }  # fmt: skip
    trailers = dict(await call.trailing_metadata())
    assert (trailers["x-parley-attempts"], trailers["x-parley-upstream"]) == ("2", "up0")


def edits(params: media_pb2.ImageParams, *files: tuple[str, str, bytes]) -> Iterable[pb.EditImageRequest]:
    """Spell a request stream; each file is its field, its name and its bytes."""
    yield pb.EditImageRequest(params=params)
    for field, name, data in files:
        for at in range(0, len(data), 50_000):
            head = {"filename": name, "content_type": "image/png"} if at == 0 else {}
            chunk = media_pb2.FileChunk(field=field, data=data[at : at + 50_000], **head)
            yield pb.EditImageRequest(chunk=chunk)


async def pieces_of(call: Any) -> list[tuple[media_pb2.ImageStart, bytes]]:
    """Return the pictures of a stream, each with its start; the stream must have its end, once."""
    pictures: list[tuple[media_pb2.ImageStart, bytes]] = []
    ends = 0
    async for response in call:
        piece = response.piece
        kind = piece.WhichOneof("piece")
        if kind == "start":
            pictures.append((piece.start, b""))
        elif kind == "data":
            assert len(piece.data) <= 64 * 1024
            pictures[-1] = (pictures[-1][0], pictures[-1][1] + piece.data)
        else:
            ends += 1
    assert ends == 1
    return pictures


async def test_pictures_are_edited(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(500), answer(created=1, data=[{"b64_json": b64(PICTURE)}], usage=USAGE)]
    params = media_pb2.ImageParams(model="chat", prompt="add a hat", extra_body_json=b'{"tags":["a","b"],"x":2}')
    request = edits(params, ("image[]", "a.png", PICTURE), ("image[]", "b.png", b"second"), ("mask", "m.png", b"mask"))
    ((start, data),) = await pieces_of(service.stub.EditImage(request))
    assert (start.index, start.partial, data) == (0, False, PICTURE)
    first, second = (request.form for request in upstream.requests)
    assert first == second, "a repeated attempt sends the same form"
    texts = [(part.name, part.data.decode()) for part in second if part.filename is None]
    assert sorted(texts) == [
        ("model", "fake-model"), ("prompt", "add a hat"), ("tags[]", "a"), ("tags[]", "b"), ("x", "2"),
    ]  # fmt: skip
    files = [(part.name, part.filename, part.content_type, part.data) for part in second if part.filename]
    assert files == [
        ("image[]", "a.png", "image/png", PICTURE),
        ("image[]", "b.png", "image/png", b"second"),
        ("mask", "m.png", "image/png", b"mask"),
    ]


async def test_unfinished_states_of_an_edited_picture_come_too(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [
        stream(
            event({"type": "image_edit.partial_image", "b64_json": b64(b"rough"), "partial_image_index": 0}),
            event({"type": "image_edit.completed", "b64_json": b64(PICTURE), "usage": USAGE, "created_at": 5}),
        )
    ]
    params = media_pb2.ImageParams(model="chat", prompt="hat", extra_body_json=b'{"partial_images":1}')
    call = service.stub.EditImage(edits(params, ("", "a.png", b"picture")))
    (rough, done) = await pieces_of(call)
    assert (rough[0].partial, rough[1]) == (True, b"rough")
    assert (done[0].partial, done[1]) == (False, PICTURE)
    fields = {part.name: part.data for part in upstream.requests[0].form}
    assert (fields["stream"], fields["image[]"]) == (b"true", b"picture")


async def test_a_request_stream_must_begin_with_params_and_hold_a_file(
    service: Running, upstream: OpenAIUpstream
) -> None:
    chunk = pb.EditImageRequest(chunk=media_pb2.FileChunk(data=b"x"))
    params = pb.EditImageRequest(params=media_pb2.ImageParams(model="chat", prompt="x"))
    for request, told in (
        ([chunk], "first message of the stream must hold params"),
        ([], "first message of the stream must hold params"),
        ([params], "A file is required"),
        ([params, chunk, params], "must hold a chunk"),
    ):
        error = await failure(service.stub.EditImage(iter(request)))
        assert (error.code, told in error.message) == (grpc.StatusCode.INVALID_ARGUMENT, True), error.message
    assert upstream.requests == []


def chunked(*steps: bytes | float, cut: bool = False, content_type: str = "audio/mpeg") -> Reply:
    """Answer with raw bytes in pieces."""

    async def reply(peer: Peer) -> None:
        await peer.head(200, {"content-type": content_type, "transfer-encoding": "chunked"})
        for step in steps:
            if isinstance(step, bytes):
                await peer.chunk(step)
            else:
                await asyncio.sleep(step)
        if cut:
            await asyncio.sleep(0.02)
            peer.cut()
        else:
            await peer.send(b"0\r\n\r\n")

    return reply


def speech(**params: Any) -> pb.CreateSpeechRequest:
    return pb.CreateSpeechRequest(params=media_pb2.SpeechParams(model="chat", input="Hello.", voice="alloy", **params))


async def test_speech_comes_as_it_is_made(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503), chunked(b"ID3", 0.05, AUDIO[:70_000])]
    call = service.stub.CreateSpeech(speech(speed=1.5, extra_body_json=b'{"emotion":"glad"}'))
    responses = [response async for response in call]
    assert b"".join(response.data for response in responses) == b"ID3" + AUDIO[:70_000]
    assert [response.content_type for response in responses if response.content_type] == ["audio/mpeg"]
    assert len(upstream.requests) == 2
    assert upstream.requests[1].json == {
        "input": "Hello.", "model": "fake-model", "voice": "alloy", "speed": 1.5, "emotion": "glad",
    }  # fmt: skip
    assert dict(await call.trailing_metadata())["x-parley-attempts"] == "2"


async def test_speech_that_breaks_off_is_an_error(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [chunked(b"ID3", cut=True)]
    error = await failure(service.stub.CreateSpeech(speech()))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_BROKEN")
    assert len(upstream.requests) == 1, "audio that was passed on is not begun again"


async def test_leaving_speech_stops_the_upstream(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [chunked(b"ID3", 30.0)]
    call = service.stub.CreateSpeech(speech())
    await call.read()
    call.cancel()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def sound(kind: Any, params: media_pb2.AudioParams, data: bytes = AUDIO, **head: str) -> AsyncIterator[Any]:
    yield kind(params=params)
    for at in range(0, len(data), 64 * 1024):
        yield kind(chunk=media_pb2.FileChunk(data=data[at : at + 64 * 1024], **(head if at == 0 else {})))


async def test_audio_is_written_down(service: Running, upstream: OpenAIUpstream) -> None:
    said = {"text": "Hi.", "language": "english", "duration": 1.5, "segments": [{"id": 0, "start": 0.0}]}
    upstream.replies = [status(503), answer(**said, usage={"type": "duration", "seconds": 2})]
    params = media_pb2.AudioParams(
        model="chat", language="en", response_format="verbose_json", temperature=0,
        extra_body_json=b'{"timestamp_granularities":["word","segment"]}',
    )  # fmt: skip
    request = sound(pb.CreateTranscriptionRequest, params, filename="hi.wav", content_type="audio/wav")
    heard = (await service.stub.CreateTranscription(request)).transcription
    assert (heard.text, heard.language, heard.duration) == ("Hi.", "english", 1.5)
    extras = json.loads(heard.extra_body_json)
    assert extras == {"segments": said["segments"], "usage": {"type": "duration", "seconds": 2}}
    assert not heard.HasField("usage")
    first, second = (request.form for request in upstream.requests)
    assert first == second
    (file,) = [part for part in second if part.filename]
    assert (file.name, file.filename, file.content_type, file.data) == ("file", "hi.wav", "audio/wav", AUDIO)
    fields = [(part.name, part.data) for part in second if part.name.startswith("timestamp")]
    assert fields == [("timestamp_granularities[]", b"word"), ("timestamp_granularities[]", b"segment")]
    assert upstream.requests[1].target == "/v1/audio/transcriptions"


async def test_subtitles_are_text(service: Running, upstream: OpenAIUpstream) -> None:
    srt = "1\n00:00:00,000 --> 00:00:01,000\n你好\n"
    upstream.replies = [plain(200, srt.encode(), {"content-type": "text/plain; charset=utf-8"})]
    request = sound(pb.CreateTranscriptionRequest, media_pb2.AudioParams(model="chat", response_format="srt"), b"x")
    assert (await service.stub.CreateTranscription(request)).transcription.text == srt


async def test_audio_is_translated(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [answer(text="Good day.")]
    request = sound(pb.CreateTranslationRequest, media_pb2.AudioParams(model="chat"), b"x", filename="a.mp3")
    assert (await service.stub.CreateTranslation(request)).translation.text == "Good day."
    assert upstream.requests[0].target == "/v1/audio/translations"


async def test_errors_of_uploads_carry_their_reason(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(429, {"retry-after": "120"})]
    request = sound(pb.CreateTranscriptionRequest, media_pb2.AudioParams(model="chat"), b"x")
    error = await failure(service.stub.CreateTranscription(request))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED")
    assert error.retry_after_s is not None
    assert 119 <= error.retry_after_s <= 121
