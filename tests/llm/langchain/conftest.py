"""A LangChain object as the only upstream of the running service."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings

from tests.llm.conftest import QUICK, Running
from tests.llm.langchain import subjects

PATH = f"{subjects.__name__}:subject"
Serve = Callable[..., Running]


def langchain_settings(upstream: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """Return settings with the alias `chat` over the test's subject."""
    return {
        "upstreams": {"agent": {"kind": "langchain", "runnable": PATH, **(upstream or {})}},
        "models": {
            "chat": {
                "targets": [{"upstream": "agent", "model": "my-agent"}],
                "timeouts": {"connect": "2s", "first_token": "5s", "idle": "5s", "total": "10s"},
                **model,
                "retry": {"max_attempts": 1, **QUICK, **model.get("retry", {})},
            }
        },
    }


@pytest_asyncio.fixture(loop_scope="session")
async def serve(shared_service: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Return a function that puts an object behind the service; keywords are settings of the upstream and model."""
    before = shared_service.service.core.routing

    def put(subject: object, upstream: dict[str, Any] | None = None, **model: Any) -> Running:
        monkeypatch.setattr(subjects, "subject", subject)
        settings = LLMSettings.model_validate(langchain_settings(upstream, **model))
        shared_service.service.core.routing = build_routing(settings, {})
        return shared_service

    try:
        yield put
    finally:
        shared_service.service.core.routing = before
