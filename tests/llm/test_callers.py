"""Who may call what, how much, and what is never fetched or told."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from parley.llm.v1 import llm_service_pb2
from parley_llm.callers import Caller, CallerDirectory, CallerKey
from parley_llm.errors import UnauthenticatedError
from parley_llm.limits.account import Accounts
from parley_llm.limits.base import Allowance
from parley_llm.upstream.shaping import is_allowed

from tests.fakes.openai_upstream import OpenAIUpstream, Peer, completion, event, plain, stall, status, stream
from tests.llm.conftest import API_KEY, Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, ask

KEY = "crm-key-0123456789"
fronts = pytest.mark.parametrize("front", ALL_FRONTS)


def with_callers(upstream: OpenAIUpstream, **caller: Any) -> dict[str, Any]:
    return {**settings_for(upstream), "callers": [{"name": "crm", "keys": [KEY], **caller}]}


@fronts
async def test_a_key_is_needed_and_checked(front: str, upstream: OpenAIUpstream) -> None:
    async with run_service(with_callers(upstream)) as service:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
            seen = await ask(front, service, headers)
            assert seen.code in ("401", "UNAUTHENTICATED")
            assert seen.attempts in (0, -1)
        assert not upstream.requests
        if front in ("http", "grpc"):
            assert (await ask(front, service, {"authorization": f"bearer {KEY}"})).ok
            assert upstream.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


async def test_hashed_keys_and_expiry() -> None:
    now = datetime.now(UTC)
    digest = hashlib.sha256(KEY.encode()).digest()
    accounts = Accounts()
    caller, nobody = (Caller(name, accounts.of(name, Allowance())) for name in ("crm", "anonymous"))
    valid = CallerDirectory([CallerKey(digest, caller, now + timedelta(1))], nobody)
    assert valid.authenticate(f"Bearer {KEY}") is caller
    with pytest.raises(UnauthenticatedError, match="expired"):
        CallerDirectory([CallerKey(digest, caller, now - timedelta(1))], nobody).authenticate(f"Bearer {KEY}")


@fronts
async def test_models_of_others_do_not_exist(front: str, upstream: OpenAIUpstream) -> None:
    settings = with_callers(upstream, models=["other"])
    settings["models"]["other"] = settings["models"]["chat"]
    async with run_service(settings) as service:
        headers = {"authorization": f"Bearer {KEY}"}
        seen = await ask(front, service, headers)
        assert (seen.code in ("404", "NOT_FOUND"), seen.reason) == (True, "MODEL_NOT_FOUND")
        listed = await service.http.get("/v1/models", headers=headers)
        assert [model["id"] for model in listed.json()["data"]] == ["other"]
    assert not upstream.requests


async def test_models_are_listed_by_grpc_too(upstream: OpenAIUpstream) -> None:
    async with run_service(with_callers(upstream)) as service:
        request = llm_service_pb2.ListModelsRequest()
        answer = await service.stub.ListModels(request, metadata=[("authorization", f"Bearer {KEY}")])
        assert [(model.id, model.owned_by) for model in answer.models] == [("chat", "up0")]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.ListModels(request)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@fronts
async def test_requests_per_minute(front: str, upstream: OpenAIUpstream) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with run_service(with_callers(upstream, requests_per_minute=1)) as service:
        await ask(front, service, headers)
        seen = await ask(front, service, headers)
        assert (seen.code in ("429", "RESOURCE_EXHAUSTED"), seen.reason) == (True, "RATE_LIMITED")
        assert seen.retry_after_s is not None
        assert 50 < seen.retry_after_s <= 60
        assert service.metric("parley_llm_ratelimited_total", caller="crm", limit="requests_per_minute") == 1


async def test_tokens_per_minute(upstream: OpenAIUpstream) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with run_service(with_callers(upstream, tokens_per_minute=20)) as service:
        assert (await ask("http", service, headers)).ok
        assert (await ask("http", service, headers)).ok, "12 of 20 tokens are used: the next call may begin"
        assert (await ask("http", service, headers)).reason == "RATE_LIMITED"


async def test_concurrency(upstream: OpenAIUpstream) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    upstream.replies = [stall(), completion()]
    async with run_service(with_callers(upstream, concurrency=1)) as service:
        first = asyncio.create_task(ask("http", service, headers, timeout_s=5))
        while not upstream.requests:
            await asyncio.sleep(0.01)
        assert (await ask("http", service, headers)).reason == "RATE_LIMITED"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        assert (await ask("http", service, headers)).ok


async def test_a_caller_sees_its_own_standing_even_when_limited(upstream: OpenAIUpstream) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    upstream.replies = [completion()]
    limits = {"requests_per_minute": 2, "tokens_per_minute": 1000, "concurrency": 3, "models": ["chat"]}
    async with run_service(with_callers(upstream, **limits)) as service:
        assert (await service.http.get("/v1/parley/me")).status_code == 401
        for expected in (True, True, False):
            assert (await ask("http", service, headers)).ok is expected
        answer = await service.http.get("/v1/parley/me", headers=headers)
        assert answer.status_code == 200
        standing = answer.json()
        limits = standing["limits"]
        # The bucket fills up again while the test runs.
        assert 976 <= limits["tokens_per_minute"]["remaining"] <= 1000
        assert limits["requests_per_minute"]["remaining"] == 0
        assert 50 < limits["requests_per_minute"]["reset_s"] <= 60
        assert limits["concurrency"] == {"limit": 3, "remaining": 3}
        assert (standing["name"], standing["models"], standing["shared"]) == ("crm", ["chat"], False)
        for sums in (standing["usage"], standing["usage_today"]):
            assert (sums["requests"], sums["tokens"]["input"], sums["tokens"]["output"]) == (2, 14, 10)
            assert list(sums["by_model"]) == ["chat"]
        assert (await service.http.post("/v1/parley/me", headers=headers)).status_code == 405


async def test_without_callers_everybody_has_the_same_standing(service: Running) -> None:
    answer = (await service.http.get("/v1/parley/me")).json()
    assert (answer["name"], answer["limits"]) == ("anonymous", {})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "localhost"}, 200),
        ({"host": "127.0.0.1:8081", "origin": "http://localhost:3000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "content-type": "text/plain"}, 400),
        ({"host": "localhost", "content-type": "application/x-www-form-urlencoded"}, 400),
    ],
)
async def test_without_callers_only_this_machine_may_call(headers: dict[str, str], code: int, service: Running) -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"x"}]}'
    sent = {"content-type": "application/json", **headers}
    assert (await service.http.post("/v1/chat/completions", content=body, headers=sent)).status_code == code


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("data:image/png;base64,AAAA", True),
        ("https://img.example.com/a.png", True),
        ("http://IMG.example.com:8080/a.png", True),
        ("https://a.cdn.example/x", True),
        ("https://cdn.example/x", False),
        ("https://img.example.com@169.254.169.254/", False),
        ("http://169.254.169.254\\@img.example.com/", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("file:///etc/passwd", False),
        (" HTTP://localhost/x", False),
        ("ftp://img.example.com/x", False),
    ],
)
async def test_only_allowed_hosts_reach_an_upstream(url: str, allowed: bool, upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["media_hosts"] = ["img.example.com", "*.cdn.example"]
    async with run_service(settings) as service:
        seen = await ask("http", service, messages=image(url))
        assert (seen.ok, len(upstream.requests)) == ((True, 1) if allowed else (False, 0))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": "http://evil.example/x"},
        {"image_url": {"url": "http://evil.example/x"}},
        {"type": "video_url", "video_url": {"url": "http://evil.example/x"}},
        {"type": "text", "text": "hi", "image": "http://evil.example/x"},
        {"type": "x", "list": [{"deep": ["http://evil.example/x"]}]},
    ],
)
async def test_no_kind_of_part_smuggles_a_url(part: dict[str, Any], service: Running, upstream: OpenAIUpstream) -> None:
    seen = await ask("http", service, messages=[{"role": "user", "content": [part]}])
    assert seen.reason == "INVALID_REQUEST"
    assert not upstream.requests


@pytest.mark.parametrize(
    "content",
    [
        '[{"image_url":{"url":"http://evil.example/x"},"image_url":{"url":"data:image/png;base64,AA"}}]',
        '[{"image_url":{"url":"http://evil.example/x","\\u0075rl":"data:image/png;base64,AA"}}]',
        '[{"image_url":{"url":"http://evil.example/x"}}],"content":"a text"',
    ],
)
async def test_a_second_member_of_the_same_name_hides_no_url(
    content: str, service: Running, upstream: OpenAIUpstream
) -> None:
    body = f'{{"model":"chat","messages":[{{"role":"user","content":{content}}}]}}'
    sent = {"content-type": "application/json"}
    answer = await service.http.post("/v1/chat/completions", content=body, headers=sent)
    assert answer.status_code == 400
    assert "twice" in answer.json()["error"]["message"]
    assert not upstream.requests


async def test_urls_in_text_are_text(service: Running) -> None:
    parts = [{"type": "text", "text": "http://evil.example/x"}]
    assert (await ask("http", service, messages=[{"role": "user", "content": parts}])).ok


def test_broken_urls_are_not_allowed() -> None:
    assert not is_allowed("http://[::1", ("::1",))
    assert not is_allowed("http:///x", ("",))


@fronts
@pytest.mark.parametrize("kind", ["status", "event", "auth"])
async def test_the_upstreams_key_never_comes_out(
    front: str, kind: str, service: Running, upstream: OpenAIUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"you sent {API_KEY}"

    async def echo(peer: Peer) -> None:
        assert API_KEY in peer.request.headers["authorization"]
        in_band = {"error": {"message": text}}
        replies = {
            "status": status(400, message=text),
            "auth": status(401, message=text),
            "event": stream(event(in_band)) if peer.request.json.get("stream") else plain(200, str(in_band).encode()),
        }
        await replies[kind](peer)

    upstream.replies = [echo]
    with caplog.at_level("DEBUG"):
        seen = await ask(front, service)
    assert not seen.ok
    assert API_KEY not in repr(seen)
    assert API_KEY not in caplog.text
    assert "Hello?" not in caplog.text, "content is not logged"
    for route in service.service.core.routing.routes.values():
        assert API_KEY not in repr(route)
