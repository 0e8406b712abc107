"""OpenAI's own Python client with sound and pictures: files as uploads, streams, speech as it comes."""

import base64
import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from tests.fakes.openai_upstream import OpenAIUpstream, event, plain, stream
from tests.llm.conftest import Running
from tests.llm.media.calls import PICTURE, SOUND, TEXT, named, transcript
from tests.llm.media.test_images import END, PARTIAL, pictures

TOKENS = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}


@pytest_asyncio.fixture(loop_scope="session")
async def client(service: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        api_key="unused", base_url=service.base_url, max_retries=0, http_client=http_client
    ) as api:
        yield api


def a_wav(seconds: float = 0.5) -> bytes:
    """Return a sound file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(b"\x01\x02" * int(16_000 * seconds))
    return file.getvalue()


async def test_a_transcription_of_a_file(client: openai.AsyncOpenAI, upstream: OpenAIUpstream, tmp_path: Path) -> None:
    upstream.replies = [transcript(usage={"type": "duration", "seconds": 1}, unknown="kept")]
    path = tmp_path / "录音.wav"
    path.write_bytes(a_wav())
    answer = await client.audio.transcriptions.create(
        model="chat", file=path, language="zh", extra_body={"vad_filter": "true"}
    )
    assert answer.text == TEXT
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.model_extra == {"unknown": "kept"}
    form = {part.name: part for part in upstream.requests[0].form}
    assert (form["vad_filter"].data, form["model"].data) == (b"true", b"fake-model")
    assert (form["file"].filename, form["file"].data) == ("录音.wav", path.read_bytes())


async def test_formats_and_granularities(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    verbose: dict[str, Any] = {
        "task": "transcribe",
        "language": "english",
        "duration": 8.5,
        "segments": [],
        "words": [],
    }
    upstream.replies = [transcript(**verbose)]
    answer = await client.audio.transcriptions.create(
        model="chat",
        file=("a.wav", a_wav()),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.duration, answer.text) == (8.5, TEXT)
    values = [part.data for part in upstream.requests[0].form if part.name == "timestamp_granularities[]"]
    assert values == [b"word", b"segment"]
    upstream.replies = [plain(200, b"WEBVTT\n", {"content-type": "text/plain; charset=utf-8"})]
    text = await client.audio.transcriptions.create(model="chat", file=("a.wav", a_wav()), response_format="vtt")
    assert text == "WEBVTT\n"


async def test_a_streamed_transcription(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    delta = event({"type": "transcript.text.delta", "delta": "Hello"})
    done = event({"type": "transcript.text.done", "text": "Hello", "usage": TOKENS})
    upstream.replies = [stream(delta, done)]
    streamed = await client.audio.transcriptions.create(model="chat", file=("a.wav", a_wav()), stream=True)
    events = [one async for one in streamed]
    assert [one.type for one in events] == ["transcript.text.delta", "transcript.text.done"]
    upstream.replies = [stream(delta, "cut")]
    streamed = await client.audio.transcriptions.create(model="chat", file=("a.wav", a_wav()), stream=True)
    with pytest.raises(openai.APIError, match="broke its stream"):
        [one async for one in streamed]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_a_translation(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript("In English.")]
    answer = await client.audio.translations.create(model="chat", file=("a.wav", a_wav()), prompt="names")
    assert answer.text == "In English."


async def test_speech(client: openai.AsyncOpenAI, upstream: OpenAIUpstream, tmp_path: Path) -> None:
    upstream.replies = [plain(200, SOUND, {"content-type": "audio/mpeg"})]
    async with client.audio.speech.with_streaming_response.create(
        model="chat", voice="alloy", input="Hello", response_format="mp3"
    ) as response:
        await response.stream_to_file(tmp_path / "speech.mp3")
    assert (tmp_path / "speech.mp3").read_bytes() == SOUND
    whole = await client.audio.speech.create(model="chat", voice="alloy", input="Hello")
    assert whole.content == SOUND


async def test_speech_that_breaks_off_raises(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(SOUND, 0.05, "cut", headers={"content-type": "audio/mpeg"})]
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        async with client.audio.speech.with_streaming_response.create(
            model="chat", voice="alloy", input="Hello"
        ) as response:
            await response.read()


async def test_pictures(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures(unknown="kept")]
    answer = await client.images.generate(model="chat", prompt="A cat", n=1, extra_body={"seed": 7})
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "") == PICTURE
    assert answer.model_extra == {"unknown": "kept"}
    assert upstream.requests[0].json["seed"] == 7


async def test_streamed_pictures(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(PARTIAL, END)]
    streamed = await client.images.generate(model="chat", prompt="A cat", stream=True, partial_images=1)
    assert [one.type async for one in streamed] == ["image_generation.partial_image", "image_generation.completed"]
    upstream.replies = [stream(PARTIAL, named("error", error={"message": "blocked", "code": "moderation_blocked"}))]
    streamed = await client.images.generate(model="chat", prompt="A cat", stream=True, partial_images=1)
    with pytest.raises(openai.APIError, match="blocked"):
        [one async for one in streamed]


async def test_an_edit_of_several_pictures(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [pictures()]
    answer = await client.images.edit(
        model="chat",
        prompt="Together",
        image=[("a.png", PICTURE, "image/png"), ("b.png", PICTURE * 2, "image/png")],
        mask=("mask.png", b"mask", "image/png"),
    )
    assert answer.data is not None
    files = [(part.name, part.data) for part in upstream.requests[0].form if part.filename]
    assert files == [("image[]", PICTURE), ("image[]", PICTURE * 2), ("mask", b"mask")]
