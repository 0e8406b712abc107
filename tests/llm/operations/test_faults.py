"""Each JSON endpoint when the upstream fails: what the caller sees, how often the upstream was asked."""

import asyncio
import json
import time
from typing import Any

import openai
import pytest

from tests.fakes.openai_upstream import DONE, OpenAIUpstream, Peer, Reply, cut, event, plain, raw, stall, status, stream
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import (
    ALL,
    COMPLETIONS,
    EMBEDDINGS,
    FORMS,
    MODERATIONS,
    RESPONSES,
    STREAMING,
    Endpoint,
    attempts,
    events_of,
    form_id,
    told,
)

endpoints = pytest.mark.parametrize("endpoint", ALL, ids=str)
streaming_endpoints = pytest.mark.parametrize("endpoint", STREAMING, ids=str)
forms = pytest.mark.parametrize(("endpoint", "streaming"), FORMS, ids=form_id)
endings = pytest.mark.parametrize("ending", ["end", "fin", "cut"])


@forms
@pytest.mark.parametrize("code", [408, 429, 503])
async def test_passing_errors_are_retried(
    endpoint: Endpoint, streaming: bool, code: int, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(code), status(code), endpoint.reply(streaming=streaming)]
    answer = await endpoint.ask(service, streaming=streaming)
    assert (answer.status_code, attempts(answer), len(upstream.requests)) == (200, 3, 3)
    assert "Hello!" in answer.text or not streaming


@forms
@pytest.mark.parametrize(
    ("code", "error", "seen", "reason"),
    [
        (400, {"param": "x"}, 400, "INVALID_REQUEST"),
        (400, {"code": "context_length_exceeded"}, 400, "CONTEXT_LENGTH_EXCEEDED"),
        (401, {}, 502, "UPSTREAM_AUTH"),
        (402, {}, 429, "UPSTREAM_QUOTA"),
        (404, {}, 404, "MODEL_NOT_FOUND"),
        (422, {}, 422, "INVALID_REQUEST"),
        (501, {}, 501, "UPSTREAM_STATUS"),
    ],
)
async def test_lasting_errors_are_passed_on_at_once(
    endpoint: Endpoint,
    streaming: bool,
    code: int,
    error: dict[str, Any],
    seen: int,
    reason: str,
    service: Running,
    upstream: OpenAIUpstream,
) -> None:
    upstream.replies = [status(code, **error)]
    answer = await endpoint.ask(service, streaming=streaming)
    assert (answer.status_code, told(answer)["reason"]) == (seen, reason)
    assert told(answer)["param"] == error.get("param")
    assert answer.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


@forms
async def test_a_long_retry_after_is_passed_on_at_once(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(429, {"retry-after": "120"})]
    begun = time.monotonic()
    answer = await endpoint.ask(service, streaming=streaming)
    assert time.monotonic() - begun < 3
    assert (answer.status_code, answer.headers["retry-after"], len(upstream.requests)) == (429, "120", 1)


@forms
async def test_another_target_is_asked_without_a_wait(
    endpoint: Endpoint, streaming: bool, serve: Serve, upstream: OpenAIUpstream
) -> None:
    async with OpenAIUpstream(endpoint.reply(streaming=streaming)) as second:
        upstream.replies = [status(503, {"retry-after": "20"})]
        answer = await endpoint.ask(serve(settings_for(upstream, second)), streaming=streaming)
        assert (answer.status_code, answer.headers["x-parley-upstream"], attempts(answer)) == (200, "up1", 2)
        assert second.requests[0].at - upstream.requests[0].at < 3


@forms
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (plain(200, b'{"error":{"message":"not today"}}'), "STREAM_BROKEN"),
        (plain(200, b'{"error":{"message":"too long","code":"context_length_exceeded"}}'), "CONTEXT_LENGTH_EXCEEDED"),
        (plain(200, b"<html>login</html>", {"content-type": "text/html"}), "UPSTREAM_PROTOCOL"),
        (plain(200, b'{"id":"x","object":"else"}'), "UPSTREAM_PROTOCOL"),
        (plain(200, b"{}"), "UPSTREAM_PROTOCOL"),
        (plain(200, b'["x"]'), "UPSTREAM_PROTOCOL"),
        (plain(200, b"{"), "UPSTREAM_PROTOCOL"),
    ],
)
async def test_a_false_200_is_an_error(
    endpoint: Endpoint, streaming: bool, reply: Reply, reason: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [reply]
    answer = await endpoint.ask(service, streaming=streaming)
    assert answer.status_code == (400 if reason == "CONTEXT_LENGTH_EXCEEDED" else 502)
    assert told(answer)["reason"] == reason
    assert len(upstream.requests) == (3 if reason == "STREAM_BROKEN" else 1)


WRONG: list[tuple[Endpoint, str, list[Any]]] = [
    (COMPLETIONS, "choices", [None, {}, [], [None], [{}], [{"message": {"content": "x"}}]]),
    (RESPONSES, "output", [None, {}, "x"]),
    (RESPONSES, "object", ["chat.completion"]),
    (RESPONSES, "status", ["failed"]),
    (EMBEDDINGS, "data", [None, {}, [], [None], [{}], [{"embedding": [1], "index": "0"}]]),
    (MODERATIONS, "results", [None, {}, [], [None]]),
]


@pytest.mark.parametrize(
    ("endpoint", "wrong"), [(one, {name: value}) for one, name, values in WRONG for value in values]
)
async def test_a_false_answer_of_the_right_kind_is_an_error(
    endpoint: Endpoint, wrong: dict[str, Any], service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [plain(200, json.dumps({**endpoint.answer, **wrong}).encode())]
    answer = await endpoint.ask(service)
    assert answer.status_code == 502
    assert told(answer)["reason"] == ("STREAM_BROKEN" if "status" in wrong else "UPSTREAM_PROTOCOL")


@endpoints
async def test_an_answer_cut_in_its_body_is_retried(
    endpoint: Endpoint, service: Running, upstream: OpenAIUpstream
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
    upstream.replies = [raw(head + b'{"id":'), cut(), endpoint.reply()]
    assert attempts(await endpoint.ask(service)) == 3


@endpoints
async def test_an_answer_that_stalls_in_its_body_is_an_error(
    endpoint: Endpoint, serve: Serve, upstream: OpenAIUpstream
) -> None:
    async def begin_and_stall(peer: Peer) -> None:
        await peer.head(200, {"content-type": "application/json", "content-length": "500"})
        await peer.send(b'{"id":')
        await stall()(peer)

    upstream.replies = [begin_and_stall]
    answer = await endpoint.ask(serve(settings_for(upstream, timeouts={"idle": 0.2, "total": 20})))
    assert (answer.status_code, told(answer)["reason"], attempts(answer)) == (504, "UPSTREAM_TIMEOUT", 1)


@forms
async def test_the_callers_deadline_ends_the_call(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stall()]
    answer = await endpoint.ask(service, {"x-parley-timeout-ms": "200"}, streaming=streaming)
    assert (answer.status_code, told(answer)["reason"]) == (504, "DEADLINE_EXCEEDED")
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@forms
async def test_a_caller_that_leaves_stops_the_upstream(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*endpoint.start, endpoint.content, "stall") if streaming else stall()]
    asking = asyncio.create_task(endpoint.ask(service, streaming=streaming))
    while not upstream.requests:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    left_at = time.monotonic()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert upstream.requests[0].closed_at - left_at < 1


@streaming_endpoints
@endings
async def test_a_stream_that_ends_before_its_content_is_retried(
    endpoint: Endpoint, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(b": hold on\n\n", *endpoint.start, ending), endpoint.streamed()]
    answer = await endpoint.ask(service, streaming=True)
    assert (answer.status_code, attempts(answer)) == (200, 2)
    # Of the first attempt nothing was passed on.
    names = [name for name, _ in events_of(answer)]
    assert len(names) == len(endpoint.start) + 1 + (1 if endpoint is RESPONSES else 2)


@streaming_endpoints
@endings
async def test_a_stream_that_breaks_later_says_so(
    endpoint: Endpoint, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    labels = {"caller": "anonymous", "operation": endpoint.name, "model": "chat", "outcome": "error"}
    before = service.metric("parley_llm_requests_total", **labels)
    upstream.replies = [stream(*endpoint.start, endpoint.content, ending)]
    answer = await endpoint.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"
    assert "Hello!" in answer.text
    assert "data: [DONE]" not in answer.text
    assert len(upstream.requests) == 1
    assert service.metric("parley_llm_requests_total", **labels) == before + 1


@streaming_endpoints
async def test_a_stalled_stream_is_an_error(endpoint: Endpoint, serve: Serve, upstream: OpenAIUpstream) -> None:
    service = serve(settings_for(upstream, timeouts={"idle": 0.2, "total": 20}))
    comments: list[bytes | float | str] = [b": ping\n\n", 0.05] * 100
    for rest in (["stall"], comments):
        upstream.replies = [stream(*endpoint.start, endpoint.content, *rest)]
        answer = await endpoint.ask(service, streaming=True)
        assert told(answer)["reason"] == "UPSTREAM_TIMEOUT"
        await asyncio.wait_for(upstream.requests[-1].closed.wait(), 5)


@streaming_endpoints
async def test_a_silent_upstream_is_not_asked_twice(endpoint: Endpoint, serve: Serve, upstream: OpenAIUpstream) -> None:
    service = serve(settings_for(upstream, timeouts={"first_token": 0.2, "total": 20}))
    upstream.replies = [stream(b": busy\n\n", *endpoint.start, "stall")]
    answer = await endpoint.ask(service, streaming=True)
    assert (answer.status_code, told(answer)["reason"], attempts(answer)) == (504, "UPSTREAM_TIMEOUT", 1)


NONSENSE = [
    event({"error": {"message": "boom", "code": None}}),
    b"event: error\ndata: {}\n\n",
    b"data: {broken\n\n",
    b"data: [1]\n\n",
    b"data: 7\n\n",
    DONE,
]
WRONG_PIECES = [
    b'data: {"id":"x"}\n\n',
    event({"choices": [7]}),
    event({"choices": [{"index": "0", "text": "x"}]}),
    event({"choices": [{"index": 0, "text": 7}]}),
    event({"choices": [{"index": 0, "text": "", "finish_reason": 7}]}),
    event({"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]}),
]
WRONG_EVENTS = [
    b'data: {"id":"x"}\n\n',
    event({"type": 7}),
    event({"type": "error", "code": "server_error", "message": "boom", "param": None, "sequence_number": 3}),
    b'event: error\ndata: {"type":"error","code":"server_error","message":"boom","param":null}\n\n',
]


@pytest.mark.parametrize(
    ("endpoint", "bad"),
    [
        *((one, bad) for one in STREAMING for bad in NONSENSE),
        *((COMPLETIONS, bad) for bad in WRONG_PIECES),
        *((RESPONSES, bad) for bad in WRONG_EVENTS),
    ],
)
async def test_nonsense_inside_a_stream_is_an_error(
    endpoint: Endpoint, bad: bytes, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*endpoint.start, endpoint.content + bad, *endpoint.end)]
    answer = await endpoint.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"
    assert len(events_of(answer)) == len(endpoint.start) + 2, "nothing of what is bad or follows it was passed on"
    upstream.replies = [stream(*endpoint.start, bad, *endpoint.end), endpoint.streamed()]
    assert attempts(await endpoint.ask(service, streaming=True)) == 2, "before any content another attempt is made"


@streaming_endpoints
async def test_an_error_event_that_names_a_lasting_cause_is_not_retried(
    endpoint: Endpoint, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*endpoint.start, event({"error": {"code": "context_length_exceeded"}}))]
    answer = await endpoint.ask(service, streaming=True)
    assert (answer.status_code, told(answer)["reason"]) == (400, "CONTEXT_LENGTH_EXCEEDED")
    assert len(upstream.requests) == 1


@streaming_endpoints
async def test_a_huge_event_is_an_error(endpoint: Endpoint, service: Running, upstream: OpenAIUpstream) -> None:
    flood: list[bytes | float | str] = [b"x" * 1_000_000] * 9
    upstream.replies = [stream(*endpoint.start, endpoint.content, b"data: ", *flood, "stall")]
    answer = await endpoint.ask(service, streaming=True)
    assert told(answer)["reason"] == "STREAM_BROKEN"
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@streaming_endpoints
@endings
async def test_the_end_is_complete_without_formalities(
    endpoint: Endpoint, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*endpoint.start, endpoint.content, endpoint.end[0], ending)]
    answer = await endpoint.ask(service, streaming=True)
    assert "error" not in [name for name, _ in events_of(answer)]
    assert answer.text.endswith("data: [DONE]\n\n") is (endpoint is COMPLETIONS)


@streaming_endpoints
async def test_chunk_borders_and_line_ends_do_not_matter(
    endpoint: Endpoint, service: Running, upstream: OpenAIUpstream
) -> None:
    whole = b"".join([*endpoint.start, endpoint.content, *endpoint.end])
    odd = whole.replace(b"\n", b"\r\n")
    upstream.replies = [endpoint.streamed(), stream(*(odd[at : at + 7] for at in range(0, len(odd), 7)))]
    plain_text = (await endpoint.ask(service, streaming=True)).text
    assert (await endpoint.ask(service, streaming=True)).text == plain_text


@streaming_endpoints
async def test_comments_are_a_sign_of_life(endpoint: Endpoint, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(0.3, *endpoint.start, endpoint.content, 0.3, *endpoint.end)]
    async with run_service({**settings_for(upstream), "keep_alive": 0.1}) as service:
        text = (await endpoint.ask(service, streaming=True)).text
    before, _, after = text.partition("Hello!")
    assert before.startswith(": keep-alive\n\n")
    assert ": keep-alive\n\n" in after


@pytest.mark.parametrize("ending", ["end", "cut"])
async def test_openais_client_raises_on_a_truncated_response(
    ending: str, client: openai.AsyncOpenAI, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*RESPONSES.start, RESPONSES.content, ending)]
    events = await client.responses.create(model="chat", input="x", stream=True)
    seen: list[str] = []

    async def read() -> None:
        async for one in events:
            seen.append(one.type)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(openai.APIError, match="broke its stream"):
        await read()
    assert seen[-1] == "response.output_text.delta"


async def test_openais_client_raises_on_a_truncated_completion(
    client: openai.AsyncOpenAI, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(*COMPLETIONS.start, COMPLETIONS.content)]
    pieces = await client.completions.create(model="chat", prompt="x", stream=True)
    with pytest.raises(openai.APIError, match="broke its stream"):
        assert [one.choices[0].text async for one in pieces]
