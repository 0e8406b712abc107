"""The generated gRPC client, as synchronous code uses it; the asynchronous one is in all the other tests."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from parley.llm.v1 import chat_pb2, llm_service_pb2, llm_service_pb2_grpc, media_pb2

from tests.llm.clients.conftest import KEY, LIMITED_KEY, Door
from tests.llm.clients.endpoints import SAID, SOUND, vector
from tests.llm.clients.scenes import GREETING


class Client:
    """A stub with a key and a deadline."""

    def __init__(self, door: Door, channel: grpc.Channel) -> None:
        self.stub: Any = llm_service_pb2_grpc.LLMServiceStub(channel)
        self.key = KEY

    def call(self, method: str, request: Any) -> Any:
        """Make a call; return its answer, or for a stream the call itself."""
        metadata = [("authorization", f"Bearer {self.key}")]
        return getattr(self.stub, method)(request, timeout=20, metadata=metadata)

    def complete(self, question: str, **more: Any) -> chat_pb2.ChatCompletion:
        """Ask for a whole answer."""
        request = llm_service_pb2.CreateChatCompletionRequest(params=params(question, **more))
        completion: chat_pb2.ChatCompletion = self.call("CreateChatCompletion", request).completion
        return completion

    def stream(self, question: str, **more: Any) -> Any:
        """Ask for a streamed answer."""
        request = llm_service_pb2.StreamChatCompletionRequest(params=params(question, **more))
        return self.call("StreamChatCompletion", request)


def params(question: str, **more: Any) -> chat_pb2.ChatCompletionParams:
    messages = [chat_pb2.ChatMessage(role="user", content=question)]
    return chat_pb2.ChatCompletionParams(model="chat", messages=messages, **more)


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    """A client on a channel of its own."""
    with grpc.insecure_channel(door.grpc_target, [("grpc.enable_http_proxy", 0)]) as channel:
        yield Client(door, channel)


def details(error: Any, *kinds: Message) -> list[Message]:
    """Fill the messages from an error's details of their kinds, as any gRPC library can; return those it has."""
    (packed,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    found = []
    for detail in status.details:
        found += [kind for kind in kinds if detail.Unpack(kind)]
    return found


async def test_an_answer_and_the_fields_nobody_knows(door: Door, client: Client) -> None:
    extra = json.dumps({"top_k": 5, "vendor": {"big": 2**60 + 1}}).encode()
    answer = await asyncio.to_thread(client.complete, "greet", extra_body_json=extra)
    assert answer.choices[0].message.content == "".join(GREETING)
    assert answer.usage.total_tokens == 12
    assert json.loads(answer.extra_body_json)["vendor_note"] == {"big": 2**60 + 1}
    sent = door.asked("greet")[-1].json
    assert (sent["top_k"], sent["vendor"]) == (5, {"big": 2**60 + 1})


async def test_a_stream_in_order_to_its_end(client: Client) -> None:
    events = await asyncio.to_thread(lambda: [response.event for response in client.stream("greet")])
    kinds = [event.WhichOneof("event") for event in events]
    assert [event.delta.content for event in events if event.HasField("delta")] == list(GREETING)
    assert kinds[0] == "start"
    assert {"finish", "usage"} <= set(kinds)
    assert [event.usage.total_tokens for event in events if event.HasField("usage")] == [12]


async def test_tools(client: Client) -> None:
    tool = chat_pb2.Tool(json=b'{"type":"function","function":{"name":"get_weather"}}')
    answer = await asyncio.to_thread(client.complete, "weather", tools=[tool])
    (call,) = answer.choices[0].message.tool_calls
    assert (call.name, json.loads(call.arguments)["city"]) == ("get_weather", "Paris")
    events = await asyncio.to_thread(lambda: [one.event for one in client.stream("weather", tools=[tool])])
    pieces = "".join(event.tool_call.arguments for event in events if event.HasField("tool_call"))
    assert pieces == call.arguments


async def test_a_wrong_key(client: Client) -> None:
    client.key = "wrong"
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(client.complete, "greet")
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    info = error_details_pb2.ErrorInfo()
    assert details(caught.value, info)
    assert (info.domain, info.reason) == ("parley.llm", "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("key", "question", "reason", "wait_s"),
    [(KEY, "exhausted", "UPSTREAM_RATE_LIMITED", 7), (LIMITED_KEY, "greet", "RATE_LIMITED", None)],
    ids=["the upstream's", "the caller's own"],
)
async def test_limits_say_how_long(key: str, question: str, reason: str, wait_s: int | None, client: Client) -> None:
    client.key = key
    if key == LIMITED_KEY:
        await asyncio.to_thread(client.complete, question)
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(client.complete, question)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert len(details(caught.value, info, retry)) == 2
    assert info.reason == reason
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= (wait_s or 60)


async def test_a_stream_broken_midway_raises(client: Client) -> None:
    events: list[Any] = []
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(lambda: events.extend(one.event for one in client.stream("break")))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "".join(event.delta.content for event in events) == "Hel"
    assert events[-1].error.reason == "STREAM_BROKEN"


async def test_cancelling_reaches_the_upstream(door: Door, client: Client) -> None:
    def leave() -> float:
        call = client.stream("endless")
        while not next(call).event.delta.content:
            pass
        left_at = time.monotonic()
        call.cancel()
        return left_at

    await door.assert_cancelled("endless", await asyncio.to_thread(leave))


async def test_a_deadline_ends_the_call_and_reaches_the_upstream(door: Door, client: Client) -> None:
    request = llm_service_pb2.CreateChatCompletionRequest(params=params("silent"))
    metadata = [("authorization", f"Bearer {KEY}")]
    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(client.stub.CreateChatCompletion, request, timeout=0.3, metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await door.assert_cancelled("silent", time.monotonic())


async def test_models_and_own_use(client: Client) -> None:
    listed = await asyncio.to_thread(client.call, "ListModels", llm_service_pb2.ListModelsRequest())
    assert [model.id for model in listed.models] == ["chat"]
    await asyncio.to_thread(client.call, "GetUsage", llm_service_pb2.GetUsageRequest())


async def test_embeddings(client: Client) -> None:
    inputs = [media_pb2.EmbeddingInput(text=text) for text in ("one", "three")]
    request = llm_service_pb2.CreateEmbeddingsRequest(params=media_pb2.EmbeddingsParams(model="chat", inputs=inputs))
    answer = await asyncio.to_thread(client.call, "CreateEmbeddings", request)
    assert [list(one.values) for one in answer.embeddings.embeddings] == [vector("one"), vector("three")]


async def test_sound_up_and_down(door: Door, client: Client, sound_file: bytes) -> None:
    def pieces() -> Iterator[llm_service_pb2.CreateTranscriptionRequest]:
        request = llm_service_pb2.CreateTranscriptionRequest
        yield request(params=media_pb2.AudioParams(model="chat"))
        yield request(chunk=media_pb2.FileChunk(filename="hello.wav", data=sound_file[:1000]))
        yield request(chunk=media_pb2.FileChunk(data=sound_file[1000:]))

    heard = await asyncio.to_thread(client.call, "CreateTranscription", pieces())
    assert heard.transcription.text == SAID
    (part,) = [part for part in door.reached("/audio/transcriptions")[-1].form if part.filename]
    assert (part.filename, part.data) == ("hello.wav", sound_file)
    request = llm_service_pb2.CreateSpeechRequest(
        params=media_pb2.SpeechParams(model="chat", input="Hi", voice="alloy")
    )
    spoken = await asyncio.to_thread(lambda: list(client.call("CreateSpeech", request)))
    assert b"".join(piece.data for piece in spoken) == SOUND
    assert spoken[0].content_type == "audio/mpeg"
