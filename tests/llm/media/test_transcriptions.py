"""Sound written down over HTTP: forms, formats, streams and their ends, retries, what is refused."""

import json
from typing import Any

import pytest

from tests.fakes.openai_upstream import DONE, OpenAIUpstream, cut, event, plain, status, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.media.calls import SOUND, TEXT, error_of, said, transcribe, transcript

DELTA = event({"type": "transcript.text.delta", "delta": "I see ", "logprobs": [{"token": "I"}]})
MORE = event({"type": "transcript.text.delta", "delta": "skies"})
TOKENS = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"audio_tokens": 10},
    "output_tokens": 45,
    "total_tokens": 59,
}
END = event({"type": "transcript.text.done", "text": "I see skies", "usage": TOKENS})


async def test_a_form_reaches_the_model_behind_the_alias(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript(usage={"type": "duration", "seconds": 3}, unknown=[1, "ü"])]
    fields: dict[str, Any] = {
        "language": "en",
        "temperature": "0.50",
        "timestamp_granularities[]": ["word", "segment"],
        "new_field": "1",
    }
    answer = await transcribe(service, **fields)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-parley-model"] == "fake-model"
    assert answer.json() == {"text": TEXT, "usage": {"type": "duration", "seconds": 3}, "unknown": [1, "ü"]}
    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/v1/audio/transcriptions")
    assert request.headers["authorization"].startswith("Bearer sk-upstream")
    parts = [(part.name, part.data) for part in request.form if part.filename is None]
    assert parts == [
        ("model", b"fake-model"),
        ("language", b"en"),
        ("temperature", b"0.50"),
        ("timestamp_granularities[]", b"word"),
        ("timestamp_granularities[]", b"segment"),
        ("new_field", b"1"),
    ]
    (file,) = (part for part in request.form if part.filename is not None)
    assert (file.name, file.filename, file.content_type, file.data) == ("file", "speech.wav", "audio/wav", SOUND)


@pytest.mark.parametrize(
    ("form", "media_type", "body"),
    [
        ("text", "text/plain; charset=utf-8", b"I see skies.\n"),
        ("srt", "text/plain; charset=utf-8", b"1\n00:00:00,000 --> 00:00:01,000\nI see skies.\n"),
        ("vtt", "text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\nI see skies.\n"),
        ("srt", "application/x-subrip", b"1\n"),
        ("text", "text/plain", b""),
        ("verbose_json", "application/json", b'{"task":"transcribe","duration":8.47,"text":"","segments":[]}'),
        ("diarized_json", "application/json", b'{"text":"a","segments":[{"speaker":"A"}]}'),
    ],
)
async def test_formats(form: str, media_type: str, body: bytes, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [plain(200, body, {"content-type": media_type})]
    answer = await transcribe(service, response_format=form)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == media_type


async def test_text_that_came_as_json_leaves_as_text(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [plain(200, '"Say \\"蓝天\\"."'.encode())]
    answer = await transcribe(service, response_format="text")
    assert answer.text == 'Say "蓝天".'
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_translation(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript()]
    answer = await transcribe(service, path="translations", stream="true")
    assert answer.json() == {"text": TEXT}
    assert upstream.requests[0].target == "/v1/audio/translations"


async def test_a_stream(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, MORE, END, DONE)]
    answer = await transcribe(service, stream="true")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == DELTA + MORE + END
    form = {part.name: part.data for part in upstream.requests[0].form}
    assert (form["stream"], form["model"]) == (b"true", b"fake-model")
    assert upstream.requests[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("end", ["cut", "fin", "end"])
async def test_a_stream_that_ends_too_early_says_so(end: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, end)]
    events = said(await transcribe(service, stream="true"))
    assert [one["type"] for one in events] == ["transcript.text.delta", "error"]
    assert events[1]["error"]["reason"] == "STREAM_BROKEN"
    assert len(upstream.requests) == 1, "content was passed on, so nothing may be repeated"


async def test_done_without_an_end_is_no_end(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, DONE)]
    events = said(await transcribe(service, stream="true"))
    assert events[-1]["error"]["reason"] == "STREAM_BROKEN"


@pytest.mark.parametrize(
    "error",
    [
        event({"error": {"message": "no more", "type": "server_error"}}),
        event({"type": "error", "message": "no more", "code": "server_error"}),
        b'event: error\ndata: {"message":"no more"}\n\n',
    ],
)
async def test_an_error_inside_a_stream_is_an_error(error: bytes, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, error, END)]
    events = said(await transcribe(service, stream="true"))
    assert [one["type"] for one in events] == ["transcript.text.delta", "error"]
    assert "no more" in events[1]["error"]["message"]


@pytest.mark.parametrize("broken", [b"data: {nonsense\n\n", event({"delta": "x"}), event(["x"])])
async def test_malformed_events_never_pass(broken: bytes, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(DELTA, broken, END)]
    events = said(await transcribe(service, stream="true"))
    assert [one["type"] for one in events] == ["transcript.text.delta", "error"]


async def test_a_stream_that_breaks_before_its_content_is_tried_again(
    service: Running, upstream: OpenAIUpstream
) -> None:
    empty = event({"type": "transcript.text.delta", "delta": ""})
    upstream.replies = [stream(b": wait\n\n", empty, "cut"), stream("fin"), stream(DELTA, END)]
    answer = await transcribe(service, stream="true")
    assert answer.content == DELTA + END
    assert answer.headers["x-parley-attempts"] == "3"
    assert len({part.data for request in upstream.requests for part in request.form if part.filename}) == 1


async def test_an_upstream_that_does_not_stream_is_made_to(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript("Hello.", usage={"type": "duration", "seconds": 2}, unknown=0.10)]
    answer = await transcribe(service, stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert said(answer) == [
        {"type": "transcript.text.delta", "delta": "Hello."},
        {
            "type": "transcript.text.done",
            "text": "Hello.",
            "usage": {"type": "duration", "seconds": 2},
            "unknown": 0.1,
        },
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error":{"message":"busy"}}', "STREAM_BROKEN"),
        (b'{"txt":"x"}', "UPSTREAM_PROTOCOL"),
        (b'"x"', "UPSTREAM_PROTOCOL"),
        (b"{", "UPSTREAM_PROTOCOL"),
    ],
)
async def test_a_whole_answer_to_a_stream_is_checked_too(
    body: bytes, reason: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [plain(200, body)]
    assert error_of(await transcribe(service, stream="true"))[1] == reason


async def test_chunks_like_a_chats(service: Running, upstream: OpenAIUpstream) -> None:
    def chunk(finish: str | None = None, **delta: str) -> bytes:
        return event({"object": "transcription.chunk", "choices": [{"delta": delta, "finish_reason": finish}]})

    upstream.replies = [stream(chunk(content="Hel"), chunk("stop", content="lo"), DONE)]
    assert [one["choices"][0]["delta"] for one in said(await transcribe(service, stream="true"))] == [
        {"content": "Hel"},
        {"content": "lo"},
    ]
    upstream.replies = [stream(chunk(content="Hel"), DONE)]
    assert said(await transcribe(service, stream="true"))[-1]["error"]["reason"] == "STREAM_BROKEN"
    upstream.replies = [stream(chunk(content="Hel"), event({"choices": ["x"]}))]
    assert said(await transcribe(service, stream="true"))[-1]["error"]["reason"] == "STREAM_BROKEN"


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"<html>Hello</html>", {"content-type": "text/html"}, "UPSTREAM_PROTOCOL"),
        (b'{"error":{"message":"busy"}}', {}, "STREAM_BROKEN"),
        (b'{"task":"transcribe"}', {}, "UPSTREAM_PROTOCOL"),
        (b'{"text":7}', {}, "UPSTREAM_PROTOCOL"),
        (b"[]", {}, "UPSTREAM_PROTOCOL"),
    ],
)
async def test_a_status_of_200_proves_nothing(
    body: bytes, headers: dict[str, str], reason: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [plain(200, body, headers)]
    assert error_of(await transcribe(service))[1] == reason
    if headers:
        assert error_of(await transcribe(service, response_format="srt"))[1] == reason


async def test_a_failed_attempt_is_repeated_with_the_same_form(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [cut(), status(503), transcript()]
    sound = SOUND * 300
    answer = await transcribe(service, sound)
    assert answer.status_code == 200
    assert answer.headers["x-parley-attempts"] == "3"
    files = [part for request in upstream.requests for part in request.form if part.filename]
    assert [file.data == sound for file in files] == [True] * 3


async def test_another_target_gets_the_form_with_its_own_model_and_params(upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(500)]
    async with OpenAIUpstream(transcript()) as second:
        settings = settings_for(upstream, second, retry={"max_attempts": 2})
        settings["models"]["chat"]["targets"][1] |= {
            "model": "other-model",
            "params": {
                "rename": {"prompt": "initial_prompt", "timestamp_granularities[]": "granularities"},
                "drop": ["temperature", "extra"],
                "set": {"language": "de", "vad": True},
                "default": {"response_format": "json", "hint": "h"},
            },
        }
        async with run_service(settings) as service:
            answer = await service.http.post(
                "/v1/audio/transcriptions",
                data={
                    "model": "chat",
                    "prompt": "p",
                    "temperature": "0",
                    "language": "en",
                    "hint": "mine",
                    "timestamp_granularities[]": ["word", "segment"],
                },
                files=[("file", ("a.wav", SOUND, "audio/wav")), ("extra", ("b.bin", b"x", "application/x-any"))],
            )
        assert answer.status_code == 200
        adapted = {"prompt", "timestamp_granularities[]", "temperature", "language", "extra"}
        assert set(answer.headers["x-parley-adapted"].split(", ")) == adapted
        first = {part.name: part.data for part in upstream.requests[0].form}
        assert first["model"] == b"fake-model"
        assert {"prompt", "temperature", "extra"} <= first.keys()
        parts = sorted((part.name, part.data) for part in second.requests[0].form if part.name != "file")
        assert parts == [
            ("granularities", b"segment"),
            ("granularities", b"word"),
            ("hint", b"mine"),
            ("initial_prompt", b"p"),
            ("language", b"de"),
            ("model", b"other-model"),
            ("response_format", b"json"),
            ("vad", b"true"),
        ]


@pytest.mark.parametrize(
    ("fields", "files", "status_code", "wrong"),
    [
        ({}, {"file": ("a", b"x")}, 400, "model is required"),
        ({"model": "chat"}, {"other": ("a", b"x")}, 400, "file is required"),
        ({"model": ["chat", "chat"]}, {"file": ("a", b"x")}, 400, "model must be a string"),
        ({}, {"file": ("a", b"x"), "model": ("m", b"chat")}, 400, "model must be a text field"),
        ({"model": "chat", "stream": "perhaps"}, {"file": ("a", b"x")}, 400, "stream must be true or false"),
        ({"model": "unknown"}, {"file": ("a", b"x")}, 404, "does not exist"),
        ({"model": "chat", "url": "http://10.0.0.1/a.wav"}, {"file": ("a", b"x")}, 400, "host is not allowed"),
        ({"model": "chat", "opt": '{"a":["http://10.0.0.1"]}'}, {"file": ("a", b"x")}, 400, "host is not allowed"),
        ({"model": "chat", "opt": '{"a":"http://10.0.0.1","a":1}'}, {"file": ("a", b"x")}, 400, "object twice"),
        ({"model": "chat", "a[]": ["x", "http://10.0.0.1"]}, {"file": ("a", b"x")}, 400, "host is not allowed"),
    ],
)
async def test_what_is_refused(
    fields: dict[str, Any],
    files: Any,
    status_code: int,
    wrong: str,
    service: Running,
    upstream: OpenAIUpstream,
) -> None:
    answer = await service.http.post("/v1/audio/transcriptions", data=fields, files=files)
    assert (answer.status_code, wrong in answer.json()["error"]["message"]) == (status_code, True)
    assert not upstream.requests


async def test_a_prompt_may_look_like_a_url(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript()]
    assert (await transcribe(service, prompt="http://10.0.0.1/ is an address")).status_code == 200


async def test_an_upstream_that_takes_addresses_gets_those_that_are_allowed(upstream: OpenAIUpstream) -> None:
    upstream.replies = [transcript()]
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["media_hosts"] = ["sounds.example.com"]
    async with run_service(settings) as service:
        body = {"model": "chat", "url": "https://sounds.example.com/a.mp3"}
        assert (await service.http.post("/v1/audio/transcriptions", json=body)).status_code == 200
        assert upstream.requests[0].json == {"model": "fake-model", "url": "https://sounds.example.com/a.mp3"}
        body["url"] = "https://elsewhere.example.com/a.mp3"
        answer = await service.http.post("/v1/audio/transcriptions", json=body)
        assert error_of(answer) == (400, "INVALID_REQUEST")
        nested = '{"model":"chat","file":{"url":"https://elsewhere.example.com","url":"https://sounds.example.com"}}'
        answer = await service.http.post(
            "/v1/audio/transcriptions", content=nested, headers={"content-type": "application/json"}
        )
        assert "must not name a member of an object twice" in answer.json()["error"]["message"]


async def test_what_was_used_is_counted(upstream: OpenAIUpstream) -> None:
    def tokens(kind: str, source: str = "upstream") -> float:
        labels = {"caller": "anonymous", "model": "chat", "type": kind, "source": source}
        return service.metric("parley_llm_tokens_total", **labels)

    async with run_service(settings_for(upstream)) as service:
        upstream.replies = [stream(DELTA, MORE, END)]
        await transcribe(service, stream="true")
        assert (tokens("input"), tokens("output")) == (14, 45)
        upstream.replies = [transcript(usage=TOKENS)]
        await transcribe(service)
        assert (tokens("input"), tokens("output")) == (28, 90)
        upstream.replies = [transcript("Hello there.")]
        await transcribe(service)
        assert tokens("output", "estimated") == 3
        assert json.loads((await transcribe(service)).content).keys() == {"text"}, "an estimate is never told as a fact"
