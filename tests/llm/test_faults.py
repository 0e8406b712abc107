"""What callers see, and what the upstream gets, when the upstream fails: over all four fronts."""

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
    Peer,
    Reply,
    completion,
    cut,
    delta,
    event,
    plain,
    raw,
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
async def test_lost_connections_are_retried(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [cut(), raw(b"HTTP/1.1 200 OK\r\ncontent-le"), good(front)]
    seen = await ask(front, service)
    assert (seen.text, seen.attempts) == ("Hello!", 3)


@fronts
async def test_giving_up_reports_the_upstreams_own_error(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(500, {"x-request-id": "req-up-1"}, message="engine on fire")]
    seen = await ask(front, service)
    assert seen.code == {"http": "500", "sse": "500"}.get(front, "UNAVAILABLE")
    assert seen.reason == "UPSTREAM_UNAVAILABLE"
    assert "engine on fire" in seen.message
    assert seen.attempts == len(upstream.requests) == 3


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
async def test_retry_after_is_obeyed(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(429, {"retry-after-ms": "300"}), good(front)]
    seen = await ask(front, service)
    assert (seen.text, seen.attempts) == ("Hello!", 2)
    assert upstream.requests[1].at - upstream.requests[0].at >= 0.3


@fronts
async def test_a_retry_after_that_does_not_fit_is_passed_on_at_once(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [status(429, {"retry-after": "120"})]
    begun = time.monotonic()
    seen = await ask(front, service)
    assert time.monotonic() - begun < 3
    assert seen.code in ("429", "RESOURCE_EXHAUSTED")
    assert seen.retry_after_s == 120
    assert seen.attempts == len(upstream.requests) == 1


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
async def test_a_silent_upstream_is_not_tried_twice(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(b": busy\n\n", ROLE, b"\n\n", "stall")]
    async with run_service(settings_for(upstream, timeouts={"first_token": 0.3, "total": 20})) as service:
        seen = await ask(front, service)
        assert (seen.code, seen.reason) == ("504" if front == "sse" else "DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT")
        assert seen.attempts == len(upstream.requests) == 1
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@stream_fronts
@pytest.mark.parametrize("ending", ["end", "cut", "fin"])
async def test_a_stream_that_ends_before_its_content_is_retried(
    front: str, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(b": keep-alive\n\n", b"\n\n", ROLE, ending), good(front)]
    seen = await ask(front, service)
    assert (seen.text, seen.attempts, seen.done) == ("Hello!", 2, True)


@stream_fronts
@pytest.mark.parametrize("content", [delta("Hel"), delta(reasoning_content="Hm"), delta(reasoning="Hm")])
@pytest.mark.parametrize("ending", ["end", "cut", "fin"])
async def test_a_stream_that_breaks_later_is_an_error_and_not_retried(
    front: str, content: bytes, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, content, ending)]
    seen = await ask(front, service)
    assert seen.text + seen.reasoning in ("Hel", "Hm")
    assert seen.code == ("in-band" if front == "sse" else "UNAVAILABLE")
    assert seen.reason == "STREAM_BROKEN"
    assert not seen.done
    assert not seen.finish
    assert len(upstream.requests) == 1
    if front == "grpc-stream":
        assert seen.raw == "STREAM_BROKEN", "the error event comes before the status"


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
async def test_an_error_event_before_content_is_retried(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, event({"error": {"message": "overloaded", "code": 503}})), good(front)]
    assert (await ask(front, service)).attempts == 2


@stream_fronts
async def test_an_error_event_that_names_a_lasting_cause_is_not_retried(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(event({"error": {"message": "too long", "code": "context_length_exceeded"}}))]
    seen = await ask(front, service)
    assert (seen.reason, seen.attempts) == ("CONTEXT_LENGTH_EXCEEDED", 1)


@stream_fronts
async def test_a_stalled_stream_is_an_error(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), "stall")]
    async with run_service(settings_for(upstream, timeouts={"idle": 0.3, "total": 20})) as service:
        seen = await ask(front, service)
    assert (seen.text, seen.reason, seen.done) == ("Hel", "UPSTREAM_TIMEOUT", False)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


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
@pytest.mark.parametrize("ending", ["end", "cut", "fin"])
async def test_a_missing_done_after_a_real_finish_is_completed(
    front: str, ending: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, delta("Hello!"), FINISH, ending)]
    seen = await ask(front, service)
    assert (seen.text, seen.finish, seen.code, seen.done) == ("Hello!", "stop", "", True)


@stream_fronts
async def test_nobody_waits_long_for_what_may_follow_a_finish(
    front: str, service: Running, upstream: OpenAIUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley_llm.streams.AFTERWORD_S", 0.2)
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
async def test_a_huge_event_is_an_error(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    flood: list[bytes | float | str] = [b"x" * 1_000_000] * 9
    upstream.replies = [stream(ROLE, delta("Hel"), b"data: ", *flood, "stall")]
    seen = await ask(front, service)
    assert (seen.text, seen.reason, seen.done) == ("Hel", "STREAM_BROKEN", False)
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


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
        plain(200, b"<html>login</html>", {"content-type": "text/html"}),
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


@plain_fronts
async def test_a_false_200_that_names_a_passing_cause_is_retried(
    front: str, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [plain(200, b'{"error":{"message":"busy","code":429}}'), completion("Hello!")]
    assert (await ask(front, service)).attempts == 2


@plain_fronts
async def test_an_answer_cut_in_its_body_is_retried(front: str, service: Running, upstream: OpenAIUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
    upstream.replies = [raw(head + b'{"choices":['), completion("Hello!")]
    assert (await ask(front, service)).attempts == 2


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


@plain_fronts
async def test_an_answer_that_stalls_in_its_body_is_an_error(front: str, upstream: OpenAIUpstream) -> None:
    async def begin_and_stall(peer: Peer) -> None:
        await peer.head(200, {"content-type": "application/json", "content-length": "500"})
        await peer.send(b'{"choices":[')
        await stall()(peer)

    upstream.replies = [begin_and_stall]
    async with run_service(settings_for(upstream, timeouts={"idle": 0.3, "total": 20})) as service:
        seen = await ask(front, service)
    assert (seen.reason, seen.attempts) == ("UPSTREAM_TIMEOUT", 1)


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
