"""Costs and apps as callers and operators see them; what the limits do is in `limits`."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.openai_upstream import (
    DONE,
    FINISH,
    ROLE,
    OpenAIUpstream,
    completion,
    delta,
    plain,
    status,
    stream,
)
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ask

KEY = "crm-key-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}


def limited(upstream: OpenAIUpstream, **caller: Any) -> dict[str, Any]:
    return {**settings_for(upstream), "callers": [{"name": "crm", "keys": [KEY], **caller}]}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_failed_attempts_cost_nothing_and_the_target_that_answered_sets_the_price(
    upstream: OpenAIUpstream,
) -> None:
    async with OpenAIUpstream(completion()) as second:
        settings = settings_for(upstream, second)
        for target, price in zip(settings["models"]["chat"]["targets"], (1e6, 2e6), strict=True):
            target["prices"] = {"output": price}
        upstream.replies = [status(503)]
        async with run_service(settings) as service:
            seen = await ask("http", service)
            assert (seen.attempts, seen.headers["x-parley-upstream"]) == (2, "up1")
            assert service.metric("parley_llm_cost_total", caller="anonymous", model="chat") == pytest.approx(10)
            counts = {"caller": "anonymous", "model": "chat", "type": "output", "source": "upstream"}
            assert service.metric("parley_llm_tokens_total", **counts) == 5


async def test_configured_apps_are_counted_by_themselves(upstream: OpenAIUpstream) -> None:
    async with run_service(limited(upstream, apps=["support"])) as service:
        for app in ("support", "support", "evil-1", "evil-2"):
            assert (await ask("grpc", service, {**HEADERS, "x-parley-app": app})).ok
        counts = {app: service.metric("parley_llm_app_requests_total", caller="crm", app=app, outcome="ok")
                  for app in ("support", "other", "evil-1")}  # fmt: skip
        assert counts == {"support": 2, "other": 2, "evil-1": 0}
        assert service.metric("parley_llm_app_tokens_total", caller="crm", app="support", type="output") == 10


async def test_a_waiting_caller_that_leaves_is_not_called_for(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("One"), 0.5, FINISH, DONE), completion("Two")]
    async with run_service(limited(upstream, concurrency=1, max_wait="5s")) as service:
        first = asyncio.create_task(ask("sse", service, HEADERS))
        await until(lambda: len(upstream.requests) == 1)
        second = asyncio.create_task(ask("http", service, HEADERS))
        await until(lambda: service.metric("parley_llm_queue_depth") == 1)
        second.cancel()
        await until(lambda: service.metric("parley_llm_queue_depth") == 0)
        assert (await first).ok
        assert len(upstream.requests) == 1


async def test_pictures_seconds_and_characters_have_prices_too(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["models"]["chat"]["targets"][0]["prices"] = {"image": 0.04, "request": 1}
    upstream.replies = [plain(200, json.dumps({"created": 1, "data": [{"url": "https://x/1"}] * 3}).encode())]
    async with run_service(settings) as service:
        answer = await service.http.post("/v1/images/generations", json={"model": "chat", "prompt": "x"})
        assert answer.status_code == 200
        me = (await service.http.get("/v1/parley/me")).json()
        assert (me["usage"]["images"], me["usage"]["cost"]) == (3, pytest.approx(1.12))
