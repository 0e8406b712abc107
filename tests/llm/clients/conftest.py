"""The service as an application's developer meets it: behind a path prefix, with keys, in front of the scenes."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.fakes.openai_upstream import OpenAIUpstream, Request
from tests.llm.clients.scenes import Scenes, question_of
from tests.llm.conftest import run_service, settings_for

KEY = "crm-key-0123456789"
LIMITED_KEY = "batch-key-0123456789"
CANCEL_LIMIT_S = 1.0
"""The promise is 0.1 s; ten times that keeps a busy machine from failing the test."""


@dataclass
class Door:
    """What a developer is told, and what the upstream saw of it."""

    base_url: str
    grpc_target: str
    upstream: OpenAIUpstream

    @property
    def http_port(self) -> int:
        """The port of `base_url`."""
        port = urlsplit(self.base_url).port
        assert port is not None
        return port

    def asked(self, question: str) -> list[Request]:
        """Return the chat requests that reached the upstream with this question."""
        chats = [one for one in self.upstream.requests if one.target.endswith("/chat/completions")]
        return [one for one in chats if question_of(one.json) == question]

    def reached(self, path: str) -> list[Request]:
        """Return the requests that reached one of the upstream's endpoints."""
        return [one for one in self.upstream.requests if one.target == f"/v1{path}"]

    async def begun(self, question: str) -> None:
        """Wait until the question has reached the upstream."""
        async with asyncio.timeout(10):
            while not self.asked(question):
                await asyncio.sleep(0.005)

    async def assert_cancelled(self, question: str, left_at: float) -> None:
        """The upstream's socket was closed soon after `left_at`, a moment of the monotonic clock."""
        request = self.asked(question)[-1]
        await asyncio.wait_for(request.closed.wait(), 10)
        assert request.closed_at - left_at < CANCEL_LIMIT_S


def door_settings(upstream: OpenAIUpstream) -> dict[str, Any]:
    """Return settings by which each try of a client is one attempt at the upstream, whatever failed before."""
    settings = settings_for(upstream, retry={"max_attempts": 1}, circuit={"failures": 1000})
    callers = [
        {"name": "crm", "keys": [KEY]},
        {"name": "batch", "keys": [LIMITED_KEY], "requests_per_minute": 1},
    ]
    return {**settings, "http_prefix": "/llm", "callers": callers}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door() -> AsyncIterator[Door]:
    """A running service for the tests of one client."""
    async with OpenAIUpstream(Scenes()) as upstream, run_service(door_settings(upstream)) as running:
        base_url = running.base_url.replace("/v1", "/llm/v1")
        yield Door(base_url, f"127.0.0.1:{running.service.grpc_port}", upstream)


@pytest.fixture(scope="session")
def sound_file() -> bytes:
    """A tenth of a second of silence as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    return file.getvalue()
