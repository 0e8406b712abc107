"""Other settings behind the running service, and OpenAI's client in front of it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest_asyncio
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings

from tests.llm.conftest import Running

Serve = Callable[[dict[str, Any]], Running]


@pytest_asyncio.fixture(loop_scope="session")
async def serve(shared_service: Running) -> AsyncIterator[Serve]:
    """Return a function that puts settings behind the service."""
    core = shared_service.service.core
    before = core.routing

    def put(settings: dict[str, Any]) -> Running:
        core.routing = build_routing(LLMSettings.model_validate(settings), {})
        return shared_service

    try:
        yield put
    finally:
        core.routing.close()
        core.routing = before


@pytest_asyncio.fixture(loop_scope="session")
async def client(service: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, which repeats nothing by itself."""
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        api_key="unused", base_url=service.base_url, max_retries=0, http_client=http_client
    ) as api:
        yield api
