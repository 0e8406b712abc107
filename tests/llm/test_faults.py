"""Failures of the upstream in detail, over all four fronts; `test_fault_rows.py` has the table of the plain cases."""

import asyncio
import time
from typing import Any

import pytest

from tests.fakes.openai_upstream import (
    DONE,
    FINISH,
    ROLE,
    USAGE_CHUNK,
    OpenAIUpstream,
    Reply,
    completion,
    cut,
    delta,
    event,
    plain,
    stall,
    status,
    stream,
    words,
)
from tests.llm.conftest import API_KEY, Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, PLAIN_FRONTS, STREAM_FRONTS, ask

fronts = pytest.mark.parametrize("front", ALL_FRONTS)
plain_fronts = pytest.mark.parametrize("front", PLAIN_FRONTS)
stream_fronts = pytest.mark.parametrize("front", STREAM_FRONTS)


def good(front: str) -> Reply:
    """Answer well, in the form that the front makes the service ask for."""
    return stream(*words("Hel", "lo!")) if front in STREAM_FRONTS else completion("Hello!")


@fronts
async def test_a_good_answer_passes(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [good(front)]
    seen = await ask(front, service)
    assert (seen.text, seen.finish, seen.code, seen.attempts) == ("Hello!", "stop", "", 1)
    assert seen.headers["x-parley-upstream"] == "up0"
    assert seen.headers["x-parley-model"] == "fake-model"
    assert upstream.requests[0].target == "/v1/chat/completions"
    assert upstream.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


@fronts
@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 504])
async def test_passing_errors_are_retried(front: str, code: int, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(code), status(code), good(front)]
    seen = await ask(front, service)
    assert (seen.text, seen.attempts) == ("Hello!", 3)
    assert len(upstream.requests) == 3


@fronts
@pytest.mark.parametrize(
    ("code", "error", "http", "grpc", "reason"),
    [
        (400, {"message": "bad temperature", "param": "temperature"}, 400, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (422, {}, 422, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (400, {"code": "context_length_exceeded"}, 400, "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED"),
        (400, {"code": "content_filter"}, 400, "INVALID_ARGUMENT", "CONTENT_FILTERED"),
        (404, {}, 404, "NOT_FOUND", "MODEL_NOT_FOUND"),
        (401, {}, 502, "FAILED_PRECONDITION", "UPSTREAM_AUTH"),
        (403, {}, 502, "FAILED_PRECONDITION", "UPSTREAM_AUTH"),
        (402, {}, 429, "RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA"),
        (429, {"code": "insufficient_quota"}, 429, "RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA"),
        (400, {"code": "Arrearage"}, 429, "RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA"),
        (501, {}, 501, "UNAVAILABLE", "UPSTREAM_STATUS"),
        (302, {}, 502, "UNAVAILABLE", "UPSTREAM_PROTOCOL"),
    ],
)
async def test_lasting_errors_are_not_retried(
    front: str,
    code: int,
    error: dict[str, Any],
    http: int,
    grpc: str,
    reason: str,
    service: Running,
    upstream: OpenAIUpstream,
) -> None:
    upstream.replies = [status(code, **error)]
    seen = await ask(front, service)
    assert (seen.code, seen.reason) == (str(http) if front in ("http", "sse") else grpc, reason)
    assert seen.attempts == len(upstream.requests) == 1
    assert seen.retry_after_s is None
    if front in ("http", "sse"):
        assert seen.headers["x-should-retry"] == "false"


@fronts
async def test_a_retry_after_beyond_the_callers_deadline_is_passed_on(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(503, {"retry-after": "20"})]
    seen = await ask(front, service, timeout_s=15)
    assert seen.code in ("503", "UNAVAILABLE")
    assert seen.retry_after_s == 20
    assert len(upstream.requests) == 1


@fronts
async def test_the_caller_may_limit_attempts(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503)]
    seen = await ask(front, service, {"x-parley-max-attempts": "1"})
    assert seen.attempts == len(upstream.requests) == 1


@fronts
async def test_the_callers_deadline_ends_the_call(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    begun = time.monotonic()
    seen = await ask(front, service, timeout_s=0.4)
    assert time.monotonic() - begun < 4
    assert seen.code in ("504", "DEADLINE_EXCEEDED")
    assert len(upstream.requests) == 1
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@stream_fronts
@pytest.mark.parametrize("content", [delta(reasoning_content="Hm"), delta(reasoning="Hm")])
async def test_reasoning_is_content_after_which_nothing_is_retried(
    front: str, content: bytes, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, content, "cut")]
    seen = await ask(front, service)
    assert (seen.reasoning, seen.reason, seen.done) == ("Hm", "STREAM_BROKEN", False)
    assert len(upstream.requests) == 1


@stream_fronts
@pytest.mark.parametrize(
    "bad",
    [
        event({"error": {"message": "boom", "code": None}}),
        b"event: error\ndata: {}\n\n",
        b"data: {broken\n\n",
        b"data: [1]\n\n",
        b'data: {"id":"x"}\n\n',
        b'data: {"choices":[{"index":0,"delta":7}]}\n\n',
        DONE,
    ],
)
async def test_nonsense_inside_a_stream_is_an_error(
    front: str, bad: bytes, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, delta("Hel") + bad, FINISH, DONE)]
    seen = await ask(front, service)
    assert (seen.text, seen.reason, seen.done) == ("Hel", "STREAM_BROKEN", False)
    assert "broken" not in seen.raw.replace("stream_broken", "").replace("STREAM_BROKEN", "")


@stream_fronts
async def test_an_error_event_that_names_a_lasting_cause_is_not_retried(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(event({"error": {"message": "too long", "code": "context_length_exceeded"}}))]
    seen = await ask(front, service)
    assert (seen.reason, seen.attempts) == ("CONTEXT_LENGTH_EXCEEDED", 1)


@stream_fronts
async def test_comments_do_not_keep_a_stalled_stream_alive(front: str, upstream: OpenAIUpstream) -> None:
    comments: list[bytes | float | str] = [b": ping\n\n", 0.05] * 200
    upstream.replies = [stream(ROLE, delta("Hel"), *comments)]
    async with run_service(settings_for(upstream, timeouts={"idle": 0.3, "total": 20})) as service:
        seen = await ask(front, service)
    assert (seen.text, seen.reason) == ("Hel", "UPSTREAM_TIMEOUT")


@stream_fronts
async def test_the_total_limit_ends_a_long_stream(front: str, upstream: OpenAIUpstream) -> None:
    pieces: list[bytes | float | str] = [delta("x"), 0.05] * 200
    upstream.replies = [stream(ROLE, *pieces)]
    async with run_service(settings_for(upstream, timeouts={"total": 0.5})) as service:
        seen = await ask(front, service)
    assert seen.text.startswith("x")
    assert (seen.reason, seen.done) == ("DEADLINE_EXCEEDED", False)


@stream_fronts
async def test_nobody_waits_long_for_what_may_follow_a_finish(
    front: str, service: Running, upstream: OpenAIUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley_llm.calls.streams.AFTERWORD_S", 0.2)
    upstream.replies = [stream(ROLE, delta("Hello!"), FINISH, "stall")]
    seen = await ask(front, service)
    assert (seen.text, seen.finish, seen.code, seen.done) == ("Hello!", "stop", "", True)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@stream_fronts
async def test_each_choice_needs_its_finish(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(delta("a"), delta("b", index=1), FINISH, DONE)]
    seen = await ask(front, service, n=2)
    assert (seen.reason, seen.done) == ("STREAM_BROKEN", False)


@stream_fronts
async def test_chunk_borders_do_not_matter(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    whole = b"".join(words("Hel", "lo, 世界!")).replace(b"\n", b"\r\n")
    upstream.replies = [stream(*(whole[at : at + 7] for at in range(0, len(whole), 7)))]
    seen = await ask(front, service)
    assert (seen.text, seen.finish, seen.done) == ("Hello, 世界!", "stop", True)


@stream_fronts
async def test_usage_is_asked_for_and_reaches_only_who_wants_it(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [good(front)]
    seen = await ask(front, service)
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert seen.usage == ({"total_tokens": 12} if front == "grpc-stream" else None)
    if front == "sse":
        assert '"choices": []' not in seen.raw
        seen = await ask(front, service, stream_options={"include_usage": True})
        assert seen.usage["total_tokens"] == 12
    labels = {"caller": "anonymous", "model": "chat", "type": "output", "source": "upstream"}
    assert service.metric("parley_llm_tokens_total", **labels) >= 5


@fronts
@pytest.mark.parametrize(
    "reply",
    [
        plain(200, b'{"error":{"message":"not today"}}'),
        plain(200, b'{"choices":[]}'),
        plain(200, b'{"base_resp":{"status_code":1004}}'),
        plain(200, b"{"),
    ],
)
async def test_a_false_200_is_an_error(front: str, reply: Reply, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [reply]
    seen = await ask(front, service)
    assert seen.code in ("502", "UNAVAILABLE")
    assert seen.reason in ("UPSTREAM_PROTOCOL", "STREAM_BROKEN")


@fronts
async def test_an_unreachable_upstream_is_unavailable(front: str) -> None:
    async with OpenAIUpstream() as gone:
        pass
    async with run_service(settings_for(gone)) as service:
        seen = await ask(front, service)
    assert (seen.code, seen.attempts) == ("502" if front in ("http", "sse") else "UNAVAILABLE", 3)


async def test_keep_alive_comments_fill_the_wait(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(0.4, ROLE, delta("Hel"), 0.4, delta("lo!"), FINISH, DONE)]
    async with run_service({**settings_for(upstream), "keep_alive": 0.1}) as service:
        seen = await ask_waiting(service)
    before, _, after = seen.partition("Hel")
    assert ": keep-alive\n\n" in before
    assert ": keep-alive\n\n" in after
    assert seen.endswith("data: [DONE]\n\n")


async def test_an_error_after_keep_alive_comments_is_in_band(upstream: OpenAIUpstream) -> None:
    async def late(peer: object) -> None:
        await asyncio.sleep(0.3)
        await status(400, message="bad")(peer)  # type: ignore[arg-type]

    upstream.replies = [late]
    async with run_service({**settings_for(upstream), "keep_alive": 0.1}) as service:
        seen = await ask_waiting(service)
    assert '"reason":"INVALID_REQUEST"' in seen
    assert "[DONE]" not in seen


async def ask_waiting(service: Running) -> str:
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    response = await service.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    return response.text


async def test_stale_connections_are_replaced_without_counting(service: Running, upstream: OpenAIUpstream) -> None:
    async def answer_then_drop_the_next(peer: object) -> None:
        await completion("Hello!")(peer)  # type: ignore[arg-type]

    upstream.replies = [answer_then_drop_the_next, cut(), completion("again")]
    assert (await ask("http", service)).attempts == 1
    seen = await ask("http", service)
    assert (seen.text, seen.attempts) == ("again", 1)
    assert [request.connection for request in upstream.requests] == [1, 1, 2]


async def test_connections_are_kept_alive_after_answers_and_streams(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion(), stream(*words("a")), completion()]
    await ask("http", service)
    await ask("sse", service)
    await ask("http", service)
    assert upstream.connections == 1


async def test_the_usage_chunk_alone_is_no_content(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, USAGE_CHUNK), stream(*words("Hello!"))]
    assert (await ask("sse", service)).attempts == 2


@fronts
async def test_a_wait_named_by_a_lasting_error_is_no_invitation(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(400, {"retry-after": "1"})]
    seen = await ask(front, service)
    assert (seen.retry_after_s, seen.attempts) == (None, 1)


async def test_an_absurd_number_of_choices_is_left_to_the_upstream(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*words("Hello!"))]
    body = b'{"model":"chat","stream":true,"n":1e999,"messages":[{"role":"user","content":"x"}]}'
    headers = {"content-type": "application/json"}
    response = await service.http.post("/v1/chat/completions", content=body, headers=headers)
    assert response.text.endswith("data: [DONE]\n\n")
    assert b'"n":1e999' in upstream.requests[0].body
