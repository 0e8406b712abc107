"""Conversations that are too long for a model go on to a larger one, if the operator named one."""

import time
from typing import Any

import pytest
from parley_llm.config import LLMSettings
from pydantic import ValidationError

from tests.fakes.openai_upstream import OpenAIUpstream, Reply, completion, event, plain, status, stream, words
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask

fronts = pytest.mark.parametrize("front", ALL_FRONTS)
TOO_LONG = status(400, code="context_length_exceeded", message="This model's maximum context length is 8192 tokens.")


def good(front: str) -> Reply:
    return stream(*words("Hel", "lo!")) if front in STREAM_FRONTS else completion("Hello!")


def with_larger(*upstreams: OpenAIUpstream, **chat: Any) -> dict[str, Any]:
    """Return settings with `chat` at the first upstream, and `large` behind it at the others."""
    settings = settings_for(*upstreams, **chat)
    models = settings["models"]
    first, *others = models["chat"]["targets"]
    models["large"] = {**models["chat"], "targets": [{**other, "model": "large-model"} for other in others]}
    models["chat"] = {**models["chat"], "targets": [first], "context_fallback": "large"}
    return settings


@fronts
@pytest.mark.parametrize(
    "refusal",
    [
        TOO_LONG,
        status(413),
        plain(413, b"<html>", {"content-type": "text/html"}),
        status(422, message="x maximum context length x"),
    ],
)
async def test_the_larger_model_answers_at_once(front: str, refusal: Reply) -> None:
    async with OpenAIUpstream(refusal) as small, OpenAIUpstream(good(front)) as large:
        slow = {"backoff_initial": 30, "backoff_max": 30}
        async with run_service(with_larger(small, large, retry=slow)) as service:
            begun = time.monotonic()
            seen = await ask(front, service)
            assert time.monotonic() - begun < 10
        assert (seen.text, seen.attempts) == ("Hello!", 2)
        assert (seen.headers["x-parley-upstream"], seen.headers["x-parley-model"]) == ("up1", "large-model")
        assert (len(small.requests), len(large.requests)) == (1, 1)
        assert large.requests[0].json["messages"] == small.requests[0].json["messages"]


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_a_stream_that_reports_it_before_content_goes_on(front: str) -> None:
    told = stream(event({"error": {"message": "too long", "code": "context_length_exceeded"}}))
    async with (
        OpenAIUpstream(told) as small,
        OpenAIUpstream(good(front)) as large,
        run_service(with_larger(small, large)) as service,
    ):
        seen = await ask(front, service)
    assert (seen.text, seen.done, seen.attempts) == ("Hello!", True, 2)


@fronts
async def test_without_a_larger_model_the_caller_is_told(front: str) -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(good(front)) as other:
        async with run_service(settings_for(small, other)) as service:
            seen = await ask(front, service)
        assert (seen.reason, seen.attempts, len(other.requests)) == ("CONTEXT_LENGTH_EXCEEDED", 1, 0)


@fronts
async def test_too_long_for_the_larger_model_too(front: str) -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(TOO_LONG) as large:
        async with run_service(with_larger(small, large)) as service:
            seen = await ask(front, service)
        assert (seen.reason, seen.attempts) == ("CONTEXT_LENGTH_EXCEEDED", 2)
        assert (len(small.requests), len(large.requests)) == (1, 1)


async def test_one_larger_model_leads_to_the_next() -> None:
    async with (
        OpenAIUpstream(TOO_LONG) as small,
        OpenAIUpstream(TOO_LONG) as large,
        OpenAIUpstream(completion()) as last,
    ):
        settings = with_larger(small, large, last)
        models = settings["models"]
        models["huge"] = {**models["large"], "targets": models["large"]["targets"][1:]}
        models["large"] = {
            **models["large"],
            "targets": models["large"]["targets"][:1],
            "context_fallback": "huge",
        }
        async with run_service(settings) as service:
            seen = await ask("http", service)
    assert (seen.ok, seen.attempts, seen.headers["x-parley-upstream"]) == (True, 3, "up2")


async def test_the_larger_model_is_tried_again_when_it_fails_for_a_moment() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(status(503), completion("Hello!")) as large:
        async with run_service(with_larger(small, large)) as service:
            seen = await ask("http", service)
        assert (seen.text, seen.attempts, len(small.requests)) == ("Hello!", 3, 1)


async def test_attempts_count_in_all() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(completion()) as large:
        async with run_service(with_larger(small, large)) as service:
            seen = await ask("http", service, {"x-parley-max-attempts": "1"})
        assert (seen.reason, seen.attempts, len(large.requests)) == ("CONTEXT_LENGTH_EXCEEDED", 1, 0)


async def test_a_caller_gets_there_without_being_allowed_to_name_it() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(completion("Hello!")) as large:
        settings = with_larger(small, large)
        settings["callers"] = [{"name": "crm", "keys": ["crm-key-1"], "models": ["chat"]}]
        async with run_service(settings) as service:
            key = {"authorization": "Bearer crm-key-1"}
            assert (await ask("http", service, key)).text == "Hello!"
            assert (await ask("http", service, key, model="large")).reason == "MODEL_NOT_FOUND"
            labels = {"caller": "crm", "operation": "chat", "model": "chat", "outcome": "ok"}
            assert service.metric("parley_llm_requests_total", **labels) == 1


async def test_a_caller_that_names_an_upstream_stays_there() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(completion()) as large:
        async with run_service(with_larger(small, large)) as service:
            seen = await ask("http", service, {"x-parley-upstream": "up0"})
        assert (seen.reason, len(large.requests)) == ("CONTEXT_LENGTH_EXCEEDED", 0)


async def test_a_url_reaches_no_upstream_that_may_not_see_it() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(completion()) as large:
        settings = with_larger(small, large)
        settings["upstreams"]["up0"]["media_hosts"] = ["pictures.example"]
        picture = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}
        async with run_service(settings) as service:
            seen = await ask("http", service, messages=[{"role": "user", "content": [picture]}])
        assert (seen.reason, len(small.requests), len(large.requests)) == ("CONTEXT_LENGTH_EXCEEDED", 1, 0)


async def test_a_conversation_that_is_too_long_is_no_failure_of_the_target() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(completion()) as large:
        async with run_service(with_larger(small, large, circuit={"failures": 2})) as service:
            for _ in range(5):
                assert (await ask("http", service)).ok
        assert len(small.requests) == 5


async def test_the_larger_model_keeps_its_own_time_limits() -> None:
    async with OpenAIUpstream(TOO_LONG) as small, OpenAIUpstream(stream(0.6, *words("Hello!"))) as large:
        settings = with_larger(small, large, timeouts={"first_token": 0.3, "total": 10})
        settings["models"]["large"]["timeouts"] = {"first_token": 5}
        async with run_service(settings) as service:
            assert (await ask("sse", service)).text == "Hello!"


@pytest.mark.parametrize(
    ("fallbacks", "complaint"),
    [
        ({"chat": "nobody"}, "models.chat.context_fallback: 'nobody' is not configured; the models are *, chat, large"),
        ({"chat": "*"}, "models.chat.context_fallback: must be a model with a name of its own"),
        ({"chat": "chat"}, "models.chat.context_fallback: leads back to itself"),
        ({"chat": "large", "large": "chat"}, "models.large.context_fallback: leads back to itself"),
    ],
)
def test_fallbacks_that_lead_nowhere_are_refused(fallbacks: dict[str, str], complaint: str) -> None:
    models = {
        alias: {"targets": [{"upstream": "a"}], "context_fallback": fallbacks.get(alias, "")}
        for alias in ("chat", "large", "*")
    }
    with pytest.raises(ValidationError) as caught:
        LLMSettings.model_validate({"upstreams": {"a": {"base_url": "http://x"}}, "models": models})
    assert complaint in str(caught.value)
