"""OpenAI's Python client, as most applications use it: synchronous, with its own retries."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.llm.clients.conftest import KEY, LIMITED_KEY, Door
from tests.llm.clients.endpoints import ANSWER, BREAK, PICTURE, SAID, SOUND, vector
from tests.llm.clients.scenes import BUSY_MS, GREETING

TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
]


def ask(question: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question}]


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    """The client with its defaults, except that no proxy of the environment comes between."""
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=door.base_url, api_key=KEY, http_client=http_client) as api:
        yield api


async def test_an_answer_and_the_fields_nobody_knows(door: Door, client: openai.OpenAI) -> None:
    answer = await asyncio.to_thread(
        client.chat.completions.create,
        model="chat",
        messages=ask("greet"),
        temperature=0.3,
        extra_body={"top_k": 5, "vendor": {"big": 2**60 + 1, "deep": [None, 1.50]}},
    )
    assert answer.choices[0].message.content == "".join(GREETING)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer.model_extra == {"vendor_note": {"big": 2**60 + 1}}
    assert answer._request_id
    sent = door.asked("greet")[-1]
    assert (sent.json["top_k"], sent.json["vendor"]) == (5, {"big": 2**60 + 1, "deep": [None, 1.5]})
    assert sent.json["model"] == "fake-model"
    assert sent.headers["authorization"] != f"Bearer {KEY}"


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_stream_in_order_to_its_end(wants_usage: bool, client: openai.OpenAI) -> None:
    def read() -> list[openai.types.chat.ChatCompletionChunk]:
        options = {"include_usage": True} if wants_usage else openai.omit
        return list(
            client.chat.completions.create(
                model="chat",
                messages=ask("greet"),
                stream=True,
                stream_options=options,  # type: ignore[arg-type]
            )
        )

    chunks = await asyncio.to_thread(read)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [text for text in texts if text] == list(GREETING)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([12] if wants_usage else [])
    assert [chunk.model_extra for chunk in chunks if chunk.model_extra] == [{"vendor_note": {"big": 2**60 + 1}}]


async def test_tools_whole_and_in_pieces(client: openai.OpenAI) -> None:
    whole = await asyncio.to_thread(client.chat.completions.create, model="chat", messages=ask("weather"), tools=TOOLS)
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris", "degrees": 21}')
    assert whole.choices[0].finish_reason == "tool_calls"

    def stream() -> openai.types.chat.ParsedChatCompletion[None]:
        with client.chat.completions.stream(model="chat", messages=ask("weather"), tools=TOOLS) as events:
            kinds = {event.type for event in events}
            assert "tool_calls.function.arguments.delta" in kinds
            return events.get_final_completion()

    final = await asyncio.to_thread(stream)
    (called,) = final.choices[0].message.tool_calls or []
    assert called.function.arguments == call.function.arguments


async def test_a_wrong_key(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        await asyncio.to_thread(
            client.with_options(api_key="wrong").chat.completions.create, model="chat", messages=ask("greet")
        )
    assert caught.value.code == "unauthenticated"
    assert caught.value.request_id


async def test_the_callers_own_limit(door: Door, client: openai.OpenAI) -> None:
    limited = client.with_options(api_key=LIMITED_KEY, max_retries=0)
    create = limited.chat.completions.create
    await asyncio.to_thread(create, model="chat", messages=ask("greet"))
    with pytest.raises(openai.RateLimitError) as caught:
        await asyncio.to_thread(create, model="chat", messages=ask("greet"))
    assert caught.value.code == "rate_limited"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


async def test_the_upstreams_limit_tells_how_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await asyncio.to_thread(
            client.with_options(max_retries=0).chat.completions.create, model="chat", messages=ask("exhausted")
        )
    assert caught.value.response.headers["retry-after"] == "7"


async def test_the_clients_retry_waits_as_long_as_it_is_told(door: Door, client: openai.OpenAI) -> None:
    answer = await asyncio.to_thread(client.chat.completions.create, model="chat", messages=ask("busy"))
    assert answer.choices[0].message.content == "".join(GREETING)
    first, second = door.asked("busy")
    assert second.at - first.at >= BUSY_MS / 1000


async def test_the_client_does_not_repeat_what_can_not_succeed(door: Door, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await asyncio.to_thread(client.chat.completions.create, model="chat", messages=ask("revoked"))
    assert caught.value.body["reason"] == "UPSTREAM_AUTH"  # type: ignore[index]
    assert len(door.asked("revoked")) == 1


async def test_a_stream_broken_midway_raises(door: Door, client: openai.OpenAI) -> None:
    texts: list[str] = []

    def read() -> None:
        chunks = client.chat.completions.create(model="chat", messages=ask("break"), stream=True)
        texts.extend(chunk.choices[0].delta.content or "" for chunk in chunks)

    with pytest.raises(openai.APIError):
        await asyncio.to_thread(read)
    assert "".join(texts) == "Hel"
    assert len(door.asked("break")) == 1, "what was begun is not asked again"


async def test_leaving_a_stream_reaches_the_upstream(door: Door, client: openai.OpenAI) -> None:
    def leave() -> float:
        stream = client.chat.completions.create(model="chat", messages=ask("endless"), stream=True)
        while not next(stream).choices[0].delta.content:
            pass
        left_at = time.monotonic()
        stream.close()
        return left_at

    await door.assert_cancelled("endless", await asyncio.to_thread(leave))


async def test_cancelling_a_task_reaches_the_upstream(door: Door) -> None:
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    begun = asyncio.Event()

    async def read() -> None:
        async with openai.AsyncOpenAI(base_url=door.base_url, api_key=KEY, http_client=http_client) as api:
            async for _ in await api.chat.completions.create(model="chat", messages=ask("endless"), stream=True):
                begun.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 10)
    left_at = time.monotonic()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await door.assert_cancelled("endless", left_at)


async def test_models(client: openai.OpenAI) -> None:
    models = await asyncio.to_thread(lambda: list(client.models.list()))
    assert [model.id for model in models] == ["chat"]
    assert (await asyncio.to_thread(client.models.retrieve, "chat")).object == "model"


async def test_text_completions(client: openai.OpenAI) -> None:
    whole = await asyncio.to_thread(client.completions.create, model="chat", prompt="Say")
    assert whole.choices[0].text == "".join(ANSWER)
    chunks = await asyncio.to_thread(lambda: list(client.completions.create(model="chat", prompt="Say", stream=True)))
    assert [chunk.choices[0].text for chunk in chunks] == list(ANSWER)


async def test_responses(client: openai.OpenAI) -> None:
    whole = await asyncio.to_thread(client.responses.create, model="chat", input="Say")
    assert whole.output_text == "".join(ANSWER)
    assert whole.usage is not None

    def stream() -> openai.types.responses.Response:
        with client.responses.stream(model="chat", input="Say") as events:
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            assert deltas == list(ANSWER)
            return events.get_final_response()

    assert (await asyncio.to_thread(stream)).output_text == "".join(ANSWER)


async def test_embeddings(door: Door, client: openai.OpenAI) -> None:
    answer = await asyncio.to_thread(client.embeddings.create, model="chat", input=["one", "three"])
    assert [one.embedding for one in answer.data] == [vector("one"), vector("three")]
    assert door.reached("/embeddings")[-1].json["encoding_format"] == "base64", "what the client asks for by itself"
    numbers = await asyncio.to_thread(client.embeddings.create, model="chat", input="three", encoding_format="float")
    assert numbers.data[0].embedding == vector("three")


async def test_images(door: Door, client: openai.OpenAI) -> None:
    made = await asyncio.to_thread(client.images.generate, model="chat", prompt="A fox")
    assert made.data is not None
    assert made.data[0].b64_json is not None
    edited = await asyncio.to_thread(
        client.images.edit, model="chat", image=[("a.png", PICTURE), ("b.png", PICTURE + b"2")], prompt="Bluer"
    )
    assert edited.data is not None
    parts = door.reached("/images/edits")[-1].form
    assert [(part.filename, part.data) for part in parts if part.filename] == [
        ("a.png", PICTURE),
        ("b.png", PICTURE + b"2"),
    ]
    assert {part.name: part.data for part in parts if not part.filename} == {"model": b"fake-model", "prompt": b"Bluer"}
    kinds = await asyncio.to_thread(
        lambda: [event.type for event in client.images.generate(model="chat", prompt="A fox", stream=True)]
    )
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's client says so of translations.
async def test_audio(door: Door, client: openai.OpenAI, sound_file: bytes) -> None:
    transcriptions, file = client.audio.transcriptions, ("hello.wav", sound_file)
    assert (await asyncio.to_thread(transcriptions.create, model="chat", file=file)).text == SAID
    (part,) = [part for part in door.reached("/audio/transcriptions")[-1].form if part.name == "file"]
    assert (part.filename, part.data) == ("hello.wav", sound_file)
    text = await asyncio.to_thread(transcriptions.create, model="chat", file=file, response_format="text")
    assert text == SAID + "\n"
    events = await asyncio.to_thread(lambda: list(transcriptions.create(model="chat", file=file, stream=True)))
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert (await asyncio.to_thread(client.audio.translations.create, model="chat", file=file)).text == SAID
    spoken = await asyncio.to_thread(client.audio.speech.create, model="chat", input="Hi", voice="alloy")
    assert spoken.read() == SOUND
    assert spoken.response.headers["content-type"] == "audio/mpeg"


def _speak(client: openai.OpenAI) -> Iterator[bytes]:
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="chat", input=BREAK, voice="alloy") as answer:
        yield from answer.iter_bytes()


@pytest.mark.parametrize("kind", ["completions", "responses", "images", "transcriptions", "speech"])
async def test_every_kind_of_stream_broken_midway_raises(kind: str, client: openai.OpenAI, sound_file: bytes) -> None:
    seen: list[object] = []

    def read() -> None:
        stream: Any
        match kind:
            case "completions":
                stream = client.completions.create(model="chat", prompt=BREAK, stream=True)
            case "responses":
                stream = client.responses.create(model="chat", input=BREAK, stream=True)
            case "images":
                stream = client.images.generate(model="chat", prompt=BREAK, stream=True)
            case "transcriptions":
                file = ("hello.wav", sound_file)
                stream = client.audio.transcriptions.create(model="chat", file=file, prompt=BREAK, stream=True)
            case _:
                stream = _speak(client)
        seen.extend(iter(stream))

    # A sound file has no place for an error, so its connection is cut instead.
    with pytest.raises(httpx2.RemoteProtocolError if kind == "speech" else openai.APIError):
        await asyncio.to_thread(read)
    assert seen, "what had come was passed on"


async def test_moderations(client: openai.OpenAI) -> None:
    judged = await asyncio.to_thread(client.moderations.create, model="chat", input=["one", "two"])
    assert [(one.flagged, one.categories.violence, one.categories.hate) for one in judged.results] == [
        (True, True, False)
    ] * 2
