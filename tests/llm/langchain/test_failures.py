"""What goes wrong in a Runnable reaches the core as an upstream's error, and callers without what it says inside."""

import json
from typing import Any

import httpx2
import openai
import pytest
from langchain_core.exceptions import ContextOverflowError, ModelRateLimitError
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.fakes.openai_upstream import DONE, ROLE, OpenAIUpstream, completion, delta, event, status, stream, words
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import chunk, scripted

INSIDE = "secret detail 123"


def vendor_error(status: int, headers: dict[str, str] | None = None, **body: Any) -> Exception:
    """Return an error as OpenAI's client raises it."""
    request = httpx2.Request("POST", "http://vendor.example")
    response = httpx2.Response(status, headers=headers, request=request)
    return openai.APIStatusError("Error code", response=response, body=body or None)


class ReadTimeout(Exception):  # noqa: N818 - named as in httpx
    """As HTTP clients raise it."""


FAILURES: list[tuple[Exception, str, bool]] = [
    (ValueError(INSIDE), "UPSTREAM_UNAVAILABLE", True),
    (KeyError(INSIDE), "UPSTREAM_UNAVAILABLE", True),
    (TimeoutError(INSIDE), "UPSTREAM_UNAVAILABLE", True),
    (ReadTimeout(INSIDE), "UPSTREAM_UNAVAILABLE", True),
    (ConnectionRefusedError(INSIDE), "UPSTREAM_UNAVAILABLE", True),
    (NotImplementedError(INSIDE), "UPSTREAM_STATUS", False),
    (ModelRateLimitError(INSIDE), "UPSTREAM_RATE_LIMITED", True),
    (ContextOverflowError(INSIDE), "CONTEXT_LENGTH_EXCEEDED", False),
    (vendor_error(503), "UPSTREAM_UNAVAILABLE", True),
    (vendor_error(429, code="insufficient_quota", message="You exceeded"), "UPSTREAM_QUOTA", False),
    (vendor_error(400, message="maximum context length is 8192"), "CONTEXT_LENGTH_EXCEEDED", False),
    (vendor_error(400, message="bad temperature", param="temperature"), "INVALID_REQUEST", False),
    (vendor_error(401, error={"message": f"wrong key {INSIDE}"}), "UPSTREAM_AUTH", False),
    (vendor_error(404), "MODEL_NOT_FOUND", False),
]


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize(("failure", "reason", "again"), FAILURES, ids=lambda value: type(value).__name__)
async def test_failures_are_classified_and_repeated(
    failure: Exception, reason: str, again: bool, front: str, serve: Serve
) -> None:
    seen = await ask(front, serve(scripted(failure), retry={"max_attempts": 2, "budget": 1}))
    assert (seen.reason, seen.attempts) == (reason, 2 if again else 1)
    assert INSIDE not in seen.raw + seen.message
    assert not seen.text


@pytest.mark.parametrize("status", [502, 504])
async def test_the_status_of_a_failure(status: int, serve: Serve) -> None:
    failure = ConnectionError() if status == 502 else TimeoutError()
    assert (await ask("http", serve(scripted(failure)))).code == str(status)


async def test_the_next_target_takes_over(serve: Serve) -> None:
    running = serve(scripted(ValueError(INSIDE)), retry={"max_attempts": 2, "budget": 1})
    core = running.service.core
    route = core.routing.routes["chat"]
    good = serve(scripted("fine")).service.core.routing.routes["chat"].targets
    core.routing.routes["chat"] = type(route)(
        route.alias, (*route.targets, *good), route.timeouts, route.retry, route.hedge, route.context_fallback
    )
    seen = await ask("http", running)
    assert (seen.text, seen.attempts) == ("fine", 2)


async def test_a_wait_that_the_vendor_asks_for_is_passed_on(serve: Serve) -> None:
    limited = vendor_error(429, {"retry-after": "7"}, message="Slow down")
    seen = await ask("http", serve(scripted(limited), timeouts={"total": "2s"}))
    assert (seen.code, seen.retry_after_s) == ("429", 7.0)


@pytest.mark.parametrize("front", STREAM_FRONTS)
@pytest.mark.parametrize("failure", [ValueError(INSIDE), vendor_error(500), ConnectionError(INSIDE)])
async def test_a_stream_that_fails_midway_breaks(failure: Exception, front: str, serve: Serve) -> None:
    seen = await ask(front, serve(scripted("Hel", failure), retry={"max_attempts": 3}))
    assert (seen.text, seen.finish, seen.reason, seen.attempts) == ("Hel", "", "STREAM_BROKEN", 1)
    assert not seen.done
    assert INSIDE not in seen.raw + seen.message


async def test_langchains_own_failing_model(serve: Serve) -> None:
    model = FakeListChatModel(responses=["abcdef"], error_on_chunk_number=3)
    seen = await ask("sse", serve(model))
    assert (seen.text, seen.finish, seen.code, seen.reason) == ("abc", "", "in-band", "STREAM_BROKEN")


async def test_the_operator_finds_the_failure_without_what_it_says(serve: Serve) -> None:
    def fail(_: object) -> str:
        raise LookupError(INSIDE)

    running = serve(RunnableLambda(fail))
    with capture_logs() as lines:
        await ask("http", running, {"x-request-id": "req-7"})
    (line,) = [line for line in lines if line["event"] == "runnable_failed"]
    assert (line["error"], line["request_id"], line["upstream"]) == ("builtins.LookupError", "req-7", "agent")
    assert line["frames"][-1].endswith(" fail")
    assert INSIDE not in json.dumps(lines, default=str)


def chat_openai(upstream: OpenAIUpstream) -> ChatOpenAI:
    return ChatOpenAI(
        model="m", base_url=upstream.base_url, api_key=SecretStr("sk-key"), max_retries=0, stream_usage=True
    )


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_real_integration(front: str, serve: Serve, upstream: OpenAIUpstream) -> None:
    streaming = front in STREAM_FRONTS
    upstream.replies = [stream(*words("Hel", "lo")) if streaming else completion("Hello")]
    extra: dict[str, Any] = {"top_p": 0.5} if front in ("http", "sse") else {}
    if front == "sse":
        extra["stream_options"] = {"include_usage": True}
    seen = await ask(front, serve(chat_openai(upstream)), **extra)
    assert (seen.text, seen.finish, seen.usage["total_tokens"]) == ("Hello", "stop", 12)
    sent = upstream.requests[0].json
    assert sent.get("top_p") == extra.get("top_p")
    assert (sent["model"], sent["messages"][0]["role"]) == ("m", "user")


@pytest.mark.parametrize("front", STREAM_FRONTS)
@pytest.mark.parametrize("how", ["cut", "fin", "end", "done"])
async def test_a_cut_off_stream_of_a_real_integration_is_never_complete(
    how: str, front: str, serve: Serve, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), DONE if how == "done" else how)]
    seen = await ask(front, serve(chat_openai(upstream)))
    assert (seen.text, seen.finish, seen.reason) == ("Hel", "", "STREAM_BROKEN")


async def test_an_error_event_of_a_real_integration(serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hel"), event({"error": {"message": "Slow down", "code": 429}}))]
    seen = await ask("sse", serve(chat_openai(upstream)))
    assert (seen.text, seen.code, seen.reason) == ("Hel", "in-band", "UPSTREAM_RATE_LIMITED")


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (status(429, code="rate_limit_exceeded"), "UPSTREAM_RATE_LIMITED"),
        (status(400, code="context_length_exceeded"), "CONTEXT_LENGTH_EXCEEDED"),
        (status(401), "UPSTREAM_AUTH"),
        (status(503), "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_errors_of_a_real_integration(
    reply: Any, reason: str, front: str, serve: Serve, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [reply]
    assert (await ask(front, serve(chat_openai(upstream)))).reason == reason


async def test_an_empty_stream_is_an_empty_answer_only_if_a_model_said_so(serve: Serve) -> None:
    seen = await ask("sse", serve(scripted(chunk("", response_metadata={"finish_reason": "stop"}))))
    assert (seen.text, seen.finish, seen.done) == ("", "stop", True)
