"""Targets, keys, circuits, budgets, parameters: what reaches which upstream."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.openai_upstream import OpenAIUpstream, Reply, completion, delta, status, stream, words
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask


def good(front: str) -> Reply:
    return stream(*words("Hello!")) if front in STREAM_FRONTS else completion("Hello!")


@pytest_asyncio.fixture(loop_scope="session")
async def second() -> AsyncIterator[OpenAIUpstream]:
    async with OpenAIUpstream(completion()) as server:
        yield server


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize("failure", [status(503), status(401), status(404), status(429, {"retry-after": "60"})])
async def test_the_next_target_takes_over_at_once(
    front: str, failure: Reply, upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    upstream.replies, second.replies = [failure], [good(front)]
    async with run_service(settings_for(upstream, second, retry={"backoff_initial": 30, "backoff_max": 30})) as service:
        seen = await ask(front, service)
        assert (seen.text, seen.attempts, seen.headers["x-parley-upstream"]) == ("Hello!", 2, "up1")
        assert service.metric("parley_llm_fallbacks_total", **{"from": "up0", "to": "up1"}) == 1
    assert (len(upstream.requests), len(second.requests)) == (1, 1)


async def test_a_stream_that_broke_before_content_goes_to_the_next_target(
    upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    upstream.replies, second.replies = [stream(delta("", role="assistant"), "cut")], [stream(*words("Hello!"))]
    async with run_service(settings_for(upstream, second)) as service:
        seen = await ask("sse", service)
    assert (seen.text, seen.attempts) == ("Hello!", 2)


async def test_the_callers_mistake_goes_nowhere_else(upstream: OpenAIUpstream, second: OpenAIUpstream) -> None:
    upstream.replies = [status(400)]
    async with run_service(settings_for(upstream, second)) as service:
        assert (await ask("http", service)).code == "400"
    assert not second.requests


@pytest.mark.parametrize("front", ["http", "grpc"])
async def test_a_caller_may_name_one_of_the_targets(
    front: str, upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    second.replies = [status(503)]
    async with run_service(settings_for(upstream, second)) as service:
        seen = await ask(front, service, {"x-parley-upstream": "up1"})
        assert seen.reason == "UPSTREAM_UNAVAILABLE"
        assert (len(upstream.requests), len(second.requests)) == (0, 3)


@pytest.mark.parametrize("dead", [401, 402, 403])
async def test_refused_keys_are_set_aside(dead: int, upstream: OpenAIUpstream) -> None:
    async def answer(peer) -> None:  # type: ignore[no-untyped-def]
        refused = peer.request.headers["authorization"] != "Bearer key-that-works"
        await (status(dead) if refused else completion("Hello!"))(peer)

    upstream.replies = [answer]
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["api_keys"] = ["key-dead-1", "key-that-works", "key-dead-2"]
    async with run_service(settings) as service:
        seen = [await ask("http", service) for _ in range(5)]
        assert {one.text for one in seen} == {"Hello!"}
        assert len(upstream.requests) <= 5 + 2, "each dead key was tried at most once"


async def test_keys_are_used_in_turn(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["api_keys"] = ["key-one", "key-two"]
    async with run_service(settings) as service:
        for _ in range(4):
            await ask("http", service)
    assert len({request.headers["authorization"] for request in upstream.requests}) == 2


async def test_an_open_circuit_spares_the_upstream(upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(500)]
    settings = settings_for(upstream, circuit={"failures": 3, "open_for": 0.4})
    async with run_service(settings) as service:
        assert (await ask("http", service)).attempts == 3
        for front in ALL_FRONTS:
            seen = await ask(front, service)
            assert (seen.reason, seen.attempts) == ("CIRCUIT_OPEN", 0)
            assert seen.retry_after_s is not None
        assert len(upstream.requests) == 3
        assert service.metric("parley_llm_upstream_circuit_state", upstream="up0") == 2
        upstream.replies = [completion("Hello!")]
        await asyncio.sleep(0.5)
        assert (await ask("http", service)).text == "Hello!"
        assert service.metric("parley_llm_upstream_circuit_state", upstream="up0") == 0


async def test_the_retry_budget_bounds_repetitions(upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503)]
    settings = settings_for(upstream, circuit={"failures": 1000})
    async with run_service(settings) as service:
        for _ in range(20):
            await ask("http", service)
    # Ten in reserve, and a fifth of twenty calls.
    assert 20 + 10 <= len(upstream.requests) <= 20 + 10 + 4


async def test_each_target_gets_its_own_parameters_from_the_original(
    upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    upstream.replies = [status(503)]
    settings = settings_for(upstream, second)
    first_target, second_target = settings["models"]["chat"]["targets"]
    first_target["params"] = {
        "rename": {"max_tokens": "max_completion_tokens"},
        "drop": ["logit_bias"],
        "set": {"temperature": 1},
        "default": {"top_p": 0.5, "seed": 1},
    }
    second_target["params"] = {"drop": ["seed"]}
    async with run_service(settings) as service:
        await ask("http", service, max_tokens=9, logit_bias={"1": 2}, temperature=0.1, seed=7)
    sent, sent_second = upstream.requests[0].json, second.requests[0].json
    shared = {"messages": sent["messages"], "model": "fake-model"}
    assert sent == {**shared, "max_completion_tokens": 9, "temperature": 1, "top_p": 0.5, "seed": 7}
    assert sent_second == {**shared, "max_tokens": 9, "logit_bias": {"1": 2}, "temperature": 0.1}


async def test_azure_requests_have_their_own_shape(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"] = {
        "preset": "azure",
        "base_url": f"http://127.0.0.1:{upstream.port}",
        "api_version": "2024-10-21",
        "api_keys": ["azure-key-1"],
    }
    settings["models"]["chat"]["targets"][0]["model"] = "my deployment"
    async with run_service(settings) as service:
        assert (await ask("http", service)).ok
    request = upstream.requests[0]
    assert request.target == "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == "azure-key-1"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("prefix", ["", "/a/b/v2", "/v1/"])
async def test_any_base_path_works(prefix: str, upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["base_url"] = f"http://127.0.0.1:{upstream.port}{prefix}"
    async with run_service({**settings, "http_prefix": "/llm/api"}) as service:
        body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
        assert (await service.http.post("/llm/api/v1/chat/completions", json=body)).status_code == 200
        assert (await service.http.post("/v1/chat/completions", json=body)).status_code == 404
    assert upstream.requests[0].target == f"{prefix.rstrip('/')}/chat/completions"


@pytest.mark.parametrize(("asked", "sent"), [("gpt-9", "gpt-9"), ("default", "the-default"), ("", "the-default")])
@pytest.mark.parametrize("front", ["http", "grpc"])
async def test_a_pass_through_alias(front: str, asked: str, sent: str, upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["models"] = {"*": {"targets": [{"upstream": "up0", "model": "the-default"}]}}
    async with run_service(settings) as service:
        seen = await ask(front, service, model=asked)
        assert seen.headers["x-parley-model"] == sent
        label = "the-default" if sent == "the-default" else "other"
        labels = {"caller": "anonymous", "operation": "chat", "model": label, "outcome": "ok"}
        assert service.metric("parley_llm_requests_total", **labels) == 1
    assert upstream.requests[0].json["model"] == sent


async def test_routing_is_replaced_as_a_whole_while_calls_go_on(
    service: Running, upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    from parley_llm.calls.routing import build_routing
    from parley_llm.config import LLMSettings

    upstream.replies = [stream(delta("Hel"), 0.3, delta("lo!"), delta(finish="stop"))]
    running = asyncio.create_task(ask("sse", service))
    while not upstream.requests:
        await asyncio.sleep(0.01)
    service.service.core.routing = build_routing(LLMSettings.model_validate(settings_for(second)), {})
    assert (await ask("http", service)).text == "Hello!"
    assert len(second.requests) == 1
    assert (await running).text == "Hello!"
