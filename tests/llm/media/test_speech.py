"""Speech over HTTP: sound passed on as it comes, and its true end."""

import asyncio
import json
import time

import httpx2
import pytest

from tests.fakes.openai_upstream import OpenAIUpstream, Peer, cut, event, plain, status, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.media.calls import SOUND, error_of, said

MP3 = {"content-type": "audio/mpeg"}
DELTA = event({"type": "speech.audio.delta", "audio": "AAAA"})
USAGE = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
END = event({"type": "speech.audio.done", "usage": USAGE})


async def speak(service: Running, **members: object) -> httpx2.Response:
    body = {"model": "chat", "input": "Hello, 世界!", "voice": "alloy", **members}
    return await service.http.post("/v1/audio/speech", json=body)


@pytest.mark.parametrize("media_type", ["audio/mpeg", "audio/ogg; codecs=opus", "application/octet-stream"])
async def test_sound_leaves_as_it_came(media_type: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [plain(200, SOUND, {"content-type": media_type})]
    answer = await speak(service, unknown=1.50)
    assert (answer.status_code, answer.content) == (200, SOUND)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-parley-upstream"] == "up0"
    request = upstream.requests[0]
    assert (request.target, request.headers["accept"]) == ("/v1/audio/speech", "*/*")
    assert b'"unknown":1.5' in request.body
    assert request.json["model"] == "fake-model"


async def test_the_first_bytes_do_not_wait_for_the_last(service: Running, upstream: OpenAIUpstream) -> None:
    gate = asyncio.Event()

    async def reply(peer: Peer) -> None:
        await peer.head(200, {**MP3, "transfer-encoding": "chunked"})
        await peer.chunk(b"first")
        await gate.wait()
        await peer.chunk(b"last")
        await peer.send(b"0\r\n\r\n")

    upstream.replies = [reply]
    body = {"model": "chat", "input": "Hello"}
    async with service.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"first"
        gate.set()
        assert b"".join([piece async for piece in pieces]) == b"last"


@pytest.mark.parametrize("end", ["cut", "fin"])
async def test_sound_that_breaks_off_is_seen_to_break_off(end: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(SOUND, 0.05, end, headers=MP3)]
    with pytest.raises(httpx2.RemoteProtocolError):
        await speak(service)
    assert len(upstream.requests) == 1


async def test_a_length_that_is_not_kept_is_a_break(service: Running, upstream: OpenAIUpstream) -> None:
    async def short(peer: Peer) -> None:
        await peer.head(200, {**MP3, "content-length": "1000"})
        await peer.send(b"x" * 999)
        peer.keep = False

    upstream.replies = [short]
    with pytest.raises(httpx2.RemoteProtocolError):
        await speak(service)


async def test_a_break_before_the_first_byte_is_tried_again(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [cut(), stream("fin", headers=MP3), plain(200, SOUND, MP3)]
    answer = await speak(service)
    assert (answer.content, answer.headers["x-parley-attempts"]) == (SOUND, "3")


async def test_nothing_is_no_sound(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [plain(200, b"", MP3)]
    assert error_of(await speak(service)) == (502, "STREAM_BROKEN")


@pytest.mark.parametrize(
    ("body", "media_type", "reason"),
    [
        (b'{"error":{"message":"no such voice","code":"x"}}', "application/json", "STREAM_BROKEN"),
        (b'{"audio":"AAAA"}', "application/json", "UPSTREAM_PROTOCOL"),
        (b"<html></html>", "text/html", "UPSTREAM_PROTOCOL"),
        (b"data: {}\n\n", "text/event-stream", "UPSTREAM_PROTOCOL"),
    ],
)
async def test_what_is_not_sound_never_passes_for_sound(
    body: bytes, media_type: str, reason: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [plain(200, body, {"content-type": media_type})]
    assert error_of(await speak(service))[1] == reason


async def test_an_error_of_the_upstream_is_told(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(400, code="invalid_voice")]
    answer = await speak(service)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_voice"


async def test_events(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, END)]
    answer = await speak(service, stream_format="sse")
    assert answer.content == DELTA + END
    assert upstream.requests[0].headers["accept"] == "text/event-stream"
    upstream.replies = [stream(DELTA, "end")]
    events = said(await speak(service, stream_format="sse"))
    assert events[-1]["error"]["reason"] == "STREAM_BROKEN"
    upstream.replies = [plain(200, SOUND, MP3)]
    assert error_of(await speak(service, stream_format="sse"))[1] == "UPSTREAM_PROTOCOL"


async def test_a_caller_that_leaves_ends_the_speech(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(b"x" * 1000, "stall", headers=MP3)]
    _, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    body = json.dumps({"model": "chat", "input": "Hello"}).encode()
    head = b"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    while not upstream.requests:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    left_at = time.monotonic()
    writer.transport.abort()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert upstream.requests[0].closed_at - left_at < 1.0


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"input": ""}, "input must be the text"),
        ({"input": ["a"]}, "input must be the text"),
        ({"model": ""}, "model is required"),
        ({"reference": {"audio": "http://10.0.0.1/voice.wav"}}, "host is not allowed"),
    ],
)
async def test_what_is_refused(
    members: dict[str, object], wrong: str, service: Running, upstream: OpenAIUpstream
) -> None:
    answer = await speak(service, **members)
    assert answer.status_code == 400
    assert wrong in answer.json()["error"]["message"]
    assert not upstream.requests


async def test_what_was_used_is_counted(upstream: OpenAIUpstream) -> None:
    def tokens(kind: str, source: str) -> float:
        labels = {"caller": "anonymous", "model": "chat", "type": kind, "source": source}
        return service.metric("parley_llm_tokens_total", **labels)

    async with run_service(settings_for(upstream)) as service:
        upstream.replies = [stream(DELTA, END)]
        await speak(service, stream_format="sse")
        assert (tokens("input", "upstream"), tokens("output", "upstream")) == (14, 101)
        upstream.replies = [plain(200, SOUND, MP3)]
        await speak(service, input="x" * 400)
        assert (tokens("input", "estimated"), tokens("output", "estimated")) == (100, 0)
        labels = {"caller": "anonymous", "operation": "speech", "model": "chat", "outcome": "ok"}
        assert service.metric("parley_llm_requests_total", **labels) == 2
