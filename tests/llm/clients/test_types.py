"""The types of OpenAI's Python client hold every answer, with nothing missing and nothing of another kind.

The client itself is lenient: it builds its objects without a check. Here pydantic checks each answer in strict mode.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import yaml
from openai import types
from openai.types.audio import Transcription, TranscriptionStreamEvent, Translation
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from pydantic import TypeAdapter, ValidationError

from tests.fakes.openai_upstream import OpenAIUpstream
from tests.llm.clients.conftest import KEY, Door
from tests.llm.clients.scenes import Scenes
from tests.llm.conftest import DEMO_MODELS, Running, run_service
from tests.llm.fronts import ask
from tests.llm.presets.test_fixtures import CASES, NO_RETRY, bodies, reply_of, settings_of

GREETING: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "greet"}]}
# What a vendor says in a way of its own, and is passed on as it came; OpenAI's client takes it.
OWN_WAYS = {
    "azure/stream.sse": "object",  # The chunk with the prompt's filter results names no kind of object.
    "minimax/empty_roles.sse": "object",
    "openai/finish_unknown.json": "finish_reason",
}


def problems(kind: Any, data: str | bytes) -> set[str]:
    """Return the members that do not fit the type."""
    try:
        TypeAdapter(kind).validate_json(data, strict=True)
    except ValidationError as error:
        return {str(problem["loc"][-1]) for problem in error.errors()}
    return set()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendors() -> AsyncIterator[Running]:
    """A service in front of the demo model, until a test puts a vendor there."""
    async with run_service({"upstreams": {"demo": {"preset": "demo"}}, "models": DEMO_MODELS}) as running:
        yield running


@contextmanager
def routed(running: Running, settings: LLMSettings) -> Iterator[None]:
    """Have a running service use other settings for a while."""
    core = running.service.core
    before, core.routing = core.routing, build_routing(settings, {})
    try:
        yield
    finally:
        core.routing.close()
        core.routing = before


@pytest_asyncio.fixture(loop_scope="session")
async def api(door: Door) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client with a key."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=door.base_url, headers=headers, trust_env=False, timeout=20) as client:
        yield client


def events(response: httpx2.Response) -> list[str]:
    """Return the data of each event but the closing mark."""
    data = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [one for one in data if one != "[DONE]"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_what_the_demo_model_says(streamed: bool, vendors: Running) -> None:
    seen = await ask("sse" if streamed else "http", vendors)
    kind = ChatCompletionChunk if streamed else ChatCompletion
    spelled = [json.dumps(body) for body in bodies(seen, streamed=streamed)]
    assert spelled
    assert [problems(kind, one) for one in spelled] == [set()] * len(spelled)


@pytest.mark.parametrize(("path", "front"), CASES)
async def test_what_vendors_say(path: Path, front: str, vendors: Running, upstream: OpenAIUpstream) -> None:
    expected = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    upstream.replies = [reply_of(path)]
    with routed(vendors, settings_of(path.parent.name, upstream, expected.get("model", {}))):
        seen = await ask(front, vendors, NO_RETRY, **expected.get("ask", {}))
    if seen.code and seen.code != "in-band":
        assert problems(ErrorObject, json.dumps(json.loads(seen.raw)["error"])) == set()
        return
    kind = ChatCompletionChunk if front == "sse" else ChatCompletion
    found = set()
    for body in bodies(seen, streamed=front == "sse"):
        error = body.get("error")
        found |= problems(ErrorObject, json.dumps(error)) if error else problems(kind, json.dumps(body))
    own_way = OWN_WAYS.get(f"{path.parent.name}/{path.name}")
    assert found == ({own_way} if own_way else set())


POSTED: list[Any] = [
    pytest.param(ChatCompletion, "/chat/completions", GREETING, id="chat"),
    pytest.param(types.Completion, "/completions", {"prompt": "Say"}, id="completion"),
    pytest.param(Response, "/responses", {"input": "Say"}, id="response"),
    pytest.param(types.CreateEmbeddingResponse, "/embeddings", {"input": ["a", "b"]}, id="embeddings"),
    pytest.param(types.ImagesResponse, "/images/generations", {"prompt": "A fox"}, id="images"),
    pytest.param(types.ModerationCreateResponse, "/moderations", {"input": "Hi"}, id="moderation"),
]
STREAMED: list[Any] = [
    pytest.param(ChatCompletionChunk, "/chat/completions", GREETING, id="chat"),
    pytest.param(ResponseStreamEvent, "/responses", {"input": "Say"}, id="response"),
    pytest.param(types.ImageGenStreamEvent, "/images/generations", {"prompt": "A fox"}, id="images"),
]


@pytest.mark.parametrize(("kind", "path", "body"), POSTED)
async def test_whole_answers(kind: Any, path: str, body: dict[str, Any], api: httpx2.AsyncClient) -> None:
    response = await api.post(path, json={"model": "chat", **body})
    assert response.status_code == 200
    assert problems(kind, response.content) == set()


@pytest.mark.parametrize(("kind", "path", "body"), STREAMED)
async def test_streams(kind: Any, path: str, body: dict[str, Any], api: httpx2.AsyncClient) -> None:
    response = await api.post(path, json={"model": "chat", "stream": True, **body})
    spelled = events(response)
    assert len(spelled) >= 2
    assert [problems(kind, one) for one in spelled] == [set()] * len(spelled)


async def test_streamed_text_completions(api: httpx2.AsyncClient) -> None:
    response = await api.post("/completions", json={"model": "chat", "prompt": "Say", "stream": True})
    *earlier, last = [problems(types.Completion, one) for one in events(response)]
    # OpenAI streams null here until the end; the type is that of the whole answer.
    assert earlier == [{"finish_reason"}]
    assert last == set()


async def test_sound(api: httpx2.AsyncClient, sound_file: bytes) -> None:
    files = {"file": ("hello.wav", sound_file)}
    heard = await api.post("/audio/transcriptions", data={"model": "chat"}, files=files)
    assert problems(Transcription, heard.content) == set()
    translated = await api.post("/audio/translations", data={"model": "chat"}, files=files)
    assert problems(Translation, translated.content) == set()
    streamed = await api.post("/audio/transcriptions", data={"model": "chat", "stream": "true"}, files=files)
    spelled = events(streamed)
    assert len(spelled) == 3
    assert [problems(TranscriptionStreamEvent, one) for one in spelled] == [set()] * 3


async def test_embeddings_put_together_from_several_answers(vendors: Running) -> None:
    inputs = [f"text {number}" for number in range(25)]
    async with OpenAIUpstream(Scenes()) as upstream:
        with routed(vendors, settings_of("dashscope", upstream, {})):  # It takes 10 inputs at a time.
            answer = await vendors.http.post("/v1/embeddings", json={"model": "chat", "input": inputs})
        assert len(upstream.requests) == 3
    assert problems(types.CreateEmbeddingResponse, answer.content) == set()
    assert [one["index"] for one in answer.json()["data"]] == list(range(25))


async def test_models(api: httpx2.AsyncClient) -> None:
    listed = (await api.get("/models")).json()
    assert listed["object"] == "list"
    assert [problems(types.Model, json.dumps(model)) for model in listed["data"]] == [set()]
    assert problems(types.Model, (await api.get("/models/chat")).content) == set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": []}),
        ("/chat/completions", {"messages": [{"role": "user", "content": "revoked"}]}),
        ("/chat/completions", {"messages": [{"role": "user", "content": "exhausted"}]}),
        ("/responses", {"input": 7}),
        ("/nowhere", {}),
    ],
)
async def test_errors(path: str, body: dict[str, Any], api: httpx2.AsyncClient) -> None:
    response = await api.post(path, json={"model": "chat", **body})
    assert response.status_code >= 400
    assert problems(ErrorObject, json.dumps(response.json()["error"])) == set()


def test_the_check_finds_what_is_wrong() -> None:
    assert problems(types.Model, '{"id": "m", "object": "model", "created": "now"}') == {"created", "owned_by"}
