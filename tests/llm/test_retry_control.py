"""What callers and operators can say about repetition, over all four fronts, and what failed attempts cost."""

import email.utils
import time

import pytest
from parley_llm.upstream.errors import retry_after

from tests.fakes.openai_upstream import ROLE, OpenAIUpstream, Reply, completion, delta, stall, status, stream, words
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.test_hedging import late

fronts = pytest.mark.parametrize("front", ALL_FRONTS)


def good(front: str) -> Reply:
    return stream(*words("Hello!")) if front in STREAM_FRONTS else completion("Hello!")


def in_seconds(seconds: float) -> str:
    """Return an HTTP date."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": " 0.5 "}, 0.5, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7, 7),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], low: float, high: float) -> None:
    wait = retry_after(headers)
    assert wait is not None
    assert low <= wait <= high


@pytest.mark.parametrize(("ahead", "low", "high"), [(90, 60, 90), (-90, 0, 0)])
def test_a_retry_after_date_is_read(ahead: float, low: float, high: float) -> None:
    wait = retry_after({"retry-after": in_seconds(ahead)})
    assert wait is not None
    assert low <= wait <= high


@pytest.mark.parametrize("text", ["", "soon", "-1", "inf", "nan", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_nonsense_is_no_retry_after(text: str) -> None:
    assert retry_after({"retry-after": text}) is None


@pytest.mark.parametrize("front", ["http", "grpc-stream"])
async def test_a_retry_after_date_is_obeyed(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(429, {"retry-after": in_seconds(2)}), good(front)]
    async with run_service(settings_for(upstream)) as service:
        seen = await ask(front, service)
    assert (seen.text, seen.attempts) == ("Hello!", 2)
    # A date has whole seconds, so the wait may be up to one shorter.
    assert upstream.requests[1].at - upstream.requests[0].at >= 0.9


@fronts
async def test_a_retry_after_date_that_does_not_fit_is_passed_on(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503, {"retry-after": in_seconds(300)})]
    async with run_service(settings_for(upstream)) as service:
        seen = await ask(front, service)
    assert (seen.reason, seen.attempts) == ("UPSTREAM_UNAVAILABLE", 1)
    assert seen.retry_after_s is not None
    assert 270 <= seen.retry_after_s <= 300


@fronts
async def test_the_callers_time_limit_counts_as_header_and_metadata(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    async with run_service(settings_for(upstream)) as service:
        begun = time.monotonic()
        seen = await ask(front, service, {"x-parley-timeout-ms": "300"})
        assert time.monotonic() - begun < 4
    assert seen.reason == "DEADLINE_EXCEEDED"


@fronts
async def test_the_time_limit_is_for_all_attempts_and_waits(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [late(status(503), 0.15)]
    slow = {"backoff_initial": 0.1, "backoff_max": 0.1, "max_attempts": 20}
    async with run_service(settings_for(upstream, retry=slow, circuit={"failures": 100})) as service:
        seen = await ask(front, service, {"x-parley-timeout-ms": "600"})
    assert seen.reason in ("UPSTREAM_UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert 2 <= len(upstream.requests) == seen.attempts <= 4
    assert upstream.requests[-1].at - upstream.requests[0].at < 0.6


@fronts
async def test_the_caller_may_allow_more_attempts(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503)] * 4 + [good(front)]
    async with run_service(settings_for(upstream, retry={"max_attempts": 1})) as service:
        seen = await ask(front, service, {"x-parley-max-attempts": "5"})
    assert (seen.text, seen.attempts) == ("Hello!", 5)


@fronts
async def test_the_caller_may_name_the_upstream(front: str, upstream: OpenAIUpstream) -> None:
    async with OpenAIUpstream(good(front)) as second, run_service(settings_for(upstream, second)) as service:
        seen = await ask(front, service, {"x-parley-upstream": "up1"})
        assert (seen.text, seen.headers["x-parley-upstream"]) == ("Hello!", "up1")
        refused = await ask(front, service, {"x-parley-upstream": "elsewhere"})
        assert refused.reason == "PERMISSION_DENIED"
    assert not upstream.requests


@fronts
@pytest.mark.parametrize("refusal", [status(400, code="content_filter"), status(400), status(422)])
async def test_refusals_go_nowhere_else(front: str, refusal: Reply, upstream: OpenAIUpstream) -> None:
    upstream.replies = [refusal]
    async with OpenAIUpstream(good(front)) as second, run_service(settings_for(upstream, second)) as service:
        assert (await ask(front, service)).reason in ("CONTENT_FILTERED", "INVALID_REQUEST")
        assert not second.requests


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_a_silent_target_is_left_for_the_next(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, "stall")]
    async with OpenAIUpstream(good(front)) as second:
        limits = {"first_token": 0.2, "idle": 5, "total": 10}
        settings = settings_for(upstream, second, timeouts=limits, retry={"max_attempts": 9})
        async with run_service(settings) as service:
            seen = await ask(front, service)
            assert (seen.text, seen.attempts, len(upstream.requests)) == ("Hello!", 2, 1)
            second.replies = [stall()]
            assert (await ask(front, service)).reason == "UPSTREAM_TIMEOUT"
            assert (len(upstream.requests), len(second.requests)) == (2, 2)


@fronts
@pytest.mark.parametrize(("after", "attempts"), [(0.0, 2), (0.5, 1)], ids=["early", "late"])
async def test_late_failures_are_not_repeated_where_the_model_says_so(
    front: str, after: float, attempts: int, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [late(status(503), after), good(front)]
    async with run_service(settings_for(upstream, retry={"late": "300ms"})) as service:
        seen = await ask(front, service)
    assert (seen.ok, seen.attempts) == (attempts == 2, attempts)


@fronts
async def test_failed_attempts_are_no_usage(front: str, upstream: OpenAIUpstream) -> None:
    broken = stream(ROLE, "cut") if front in STREAM_FRONTS else status(500)
    upstream.replies = [broken, status(503), good(front), status(503)]
    async with run_service({**settings_for(upstream), "callers": [{"name": "a", "keys": ["key-of-a"]}]}) as service:
        key = {"authorization": "Bearer key-of-a"}

        async def used() -> tuple[float, int]:
            labels = {"caller": "a", "model": "chat", "source": "upstream"}
            counted = [service.metric("parley_llm_tokens_total", type=kind, **labels) for kind in ("input", "output")]
            estimated = {"caller": "a", "model": "chat", "source": "estimated", "type": "input"}
            assert service.metric("parley_llm_tokens_total", **estimated) == 0
            return sum(counted), (await service.http.get("/v1/parley/me", headers=key)).json()["usage"]["requests"]

        assert (await ask(front, service, key)).attempts == 3
        assert await used() == (12, 1)
        assert (await ask(front, service, key)).reason == "UPSTREAM_UNAVAILABLE"
        assert await used() == (12, 2)


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_what_a_broken_stream_said_is_usage(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("word " * 40), "cut")]
    async with run_service(settings_for(upstream)) as service:
        assert (await ask(front, service)).reason == "STREAM_BROKEN"
        labels = {"caller": "anonymous", "model": "chat", "source": "estimated", "type": "output"}
        assert 45 <= service.metric("parley_llm_tokens_total", **labels) <= 55, "four bytes a token"
