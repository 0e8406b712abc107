"""Every recorded answer of every vendor, played to the real service: what the caller saw, what the upstream got."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import yaml
from openai.types import CreateEmbeddingResponse
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from parley_llm.presets import load_preset, preset_names

from tests.fakes.openai_upstream import OpenAIUpstream, Reply, completion, plain, stream, words
from tests.llm.conftest import API_KEY, QUICK, Running
from tests.llm.fronts import Seen, ask, ask_path
from tests.llm.operations.endpoints import ALL

FIXTURES = Path(__file__).parent / "fixtures"
ANSWERS = sorted(path for path in FIXTURES.glob("*/*") if path.suffix in (".json", ".sse", ".http"))
FRONTS = {".json": ["http"], ".sse": ["sse"], ".http": ["http", "sse"]}


def expected_of(path: Path) -> dict[str, Any]:
    """Return what must come of a recorded answer."""
    expected: dict[str, Any] = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    return {"operation": "chat", **expected}


CASES = [
    pytest.param(path, front, id=f"{path.parent.name}/{path.name}-{front}")
    for path in ANSWERS
    for front in FRONTS[path.suffix]
    if expected_of(path)["operation"] == "chat"
]
OTHERS = [
    pytest.param(path, id=f"{path.parent.name}/{path.name}")
    for path in ANSWERS
    if expected_of(path)["operation"] != "chat"
]
ENDPOINTS = {endpoint.name: endpoint for endpoint in ALL}
SILENT = {"moonshot"}
"""Vendors whose documents say neither that they have embeddings nor that they have none."""
NO_RETRY = {"x-parley-max-attempts": "1"}


def reply_of(path: Path) -> Reply:
    """Return what the scripted upstream does to give the recorded answer."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return plain(200, text.encode())
    if path.suffix == ".sse":
        return plain(200, text.encode(), {"content-type": "text/event-stream"})
    head, _, body = text.partition("\n\n")
    first, *lines = head.split("\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return plain(int(first.split(" ")[1]), body.encode(), headers)


def settings_of(preset_name: str, upstream: OpenAIUpstream, target: dict[str, Any]) -> LLMSettings:
    """Return settings with the vendor's preset and path, but the scripted upstream's address."""
    preset = load_preset(preset_name)
    path = urlsplit(preset.base_url).path if preset.base_url else "" if preset.query else "/v1"
    one = {"preset": preset_name, "base_url": f"http://127.0.0.1:{upstream.port}{path}", "api_keys": [API_KEY]}
    if preset.query:
        one["api_version"] = "2024-10-21"
    targets = [{"upstream": "vendor", "model": "the-model", **target}]
    return LLMSettings.model_validate(
        {"upstreams": {"vendor": one}, "models": {"chat": {"targets": targets, "retry": QUICK}}}
    )


@pytest_asyncio.fixture(loop_scope="session")
async def restored(shared_service: Running) -> AsyncIterator[Running]:
    """The shared service, whose routing a test may replace."""
    core = shared_service.service.core
    before = core.routing
    try:
        yield shared_service
    finally:
        core.routing.close()
        core.routing = before


@pytest.mark.parametrize(("path", "front"), CASES)
async def test_recorded_chat(path: Path, front: str, restored: Running, upstream: OpenAIUpstream) -> None:
    expected = expected_of(path)
    settings = settings_of(path.parent.name, upstream, expected.get("model", {}))
    restored.service.core.routing = build_routing(settings, {})
    upstream.replies = [reply_of(path)]
    seen = await ask(front, restored, NO_RETRY, **expected.get("ask", {}))
    assert len(upstream.requests) == expected.get("requests", 1)
    if upstream.requests:
        check_request(upstream, expected)
    if "error" not in expected:
        check_answer(seen, expected["seen"], streamed=front == "sse")
        return
    check_error(seen, expected["error"])
    assert API_KEY not in seen.raw
    upstream.replies = [reply_of(path), stream(*words("Hello!")) if front == "sse" else completion("Hello!")]
    again = await ask(front, restored, **expected.get("ask", {}))
    assert again.attempts == (2 if expected["error"]["retried"] else expected.get("requests", 1))
    assert (again.text == "Hello!") is expected["error"]["retried"]


@pytest.mark.parametrize("path", OTHERS)
async def test_recorded_answer(path: Path, restored: Running, upstream: OpenAIUpstream) -> None:
    expected = expected_of(path)
    endpoint = ENDPOINTS[expected["operation"]]
    settings = settings_of(path.parent.name, upstream, expected.get("model", {}))
    restored.service.core.routing = build_routing(settings, {})
    upstream.replies = [reply_of(path)]
    body = {**endpoint.body, **expected.get("ask", {})}
    seen = await ask_path(endpoint.path, restored, NO_RETRY, body)
    assert len(upstream.requests) == expected.get("requests", 1)
    if upstream.requests:
        check_request(upstream, expected)
    if "error" not in expected:
        assert seen.ok, seen
        assert seen.raw == path.read_text(encoding="utf-8")
        check_embeddings(seen, expected["seen"])
        return
    check_error(seen, expected["error"])
    assert API_KEY not in seen.raw
    upstream.replies = [reply_of(path), endpoint.reply()]
    again = await ask_path(endpoint.path, restored, {}, body)
    assert again.attempts == (2 if expected["error"]["retried"] else expected.get("requests", 1))


def check_embeddings(seen: Seen, expected: dict[str, Any]) -> None:
    answer = CreateEmbeddingResponse.model_validate_json(seen.raw, strict=True)
    assert [one.embedding for one in answer.data] == expected["vectors"]
    assert answer.usage.total_tokens == expected["total_tokens"]


def check_request(upstream: OpenAIUpstream, expected: dict[str, Any]) -> None:
    request = upstream.requests[0]
    body = request.json
    assert request.target == expected.get("target", request.target)
    headers = expected.get("headers", {})
    assert {name: request.headers.get(name) for name in headers} == headers
    sent = expected.get("sent", {})
    assert {name: body.get(name) for name in sent} == sent
    assert not set(body) & set(expected.get("unsent", []))


def check_answer(seen: Seen, expected: dict[str, Any], *, streamed: bool) -> None:
    assert seen.ok, seen
    assert seen.done is streamed
    assert (seen.text or "", seen.reasoning, seen.finish) == (
        expected["text"],
        expected.get("reasoning", ""),
        expected["finish"],
    )
    choices = [choice for body in bodies(seen, streamed=streamed) for choice in body["choices"]]
    natives = [choice["native_finish_reason"] for choice in choices if "native_finish_reason" in choice]
    assert natives == ([expected["native_finish"]] if "native_finish" in expected else [])
    if "total_tokens" in expected:
        assert seen.usage["total_tokens"] == expected["total_tokens"]
    if "tool_calls" in expected:
        check_calls(choices, expected["tool_calls"])
    if streamed:
        assert all("delta" in choice for choice in choices), "clients read the delta of every choice"
    assert seen.headers.get("x-parley-adapted", "") == expected.get("adapted", seen.headers.get("x-parley-adapted", ""))
    for word in expected.get("has", []):
        assert word in seen.raw
    for word in expected.get("lacks", []):
        assert word not in seen.raw


def bodies(seen: Seen, *, streamed: bool) -> list[dict[str, Any]]:
    """Return the answer, or all chunks of a stream."""
    if not streamed:
        return [json.loads(seen.raw)]
    lines = [line.removeprefix("data: ") for line in seen.raw.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def check_calls(choices: list[dict[str, Any]], expected: list[list[str]]) -> None:
    """Put the tool calls together as OpenAI's clients do: by `index`, ids and names from the first piece."""
    calls: dict[int, dict[str, str]] = {}
    for choice in choices:
        for position, piece in enumerate((choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []):
            call = calls.setdefault(piece.get("index", position), {"id": "", "name": "", "arguments": ""})
            call["id"] += piece.get("id") or ""
            for name in ("name", "arguments"):
                call[name] += piece["function"].get(name) or ""
    assert [[call["name"], call["arguments"]] for call in calls.values()] == expected
    ids = [call["id"] for call in calls.values()]
    assert all(ids)
    assert len(set(ids)) == len(ids)


def check_error(seen: Seen, expected: dict[str, Any]) -> None:
    assert (seen.code, seen.reason) == (str(expected["status"]), expected["reason"])
    assert not seen.done
    assert str(expected.get("says", "")) in seen.message
    if "hides" in expected:
        assert expected["hides"] not in seen.raw


def test_every_vendor_has_recorded_answers() -> None:
    assert {path.parent.name for path in ANSWERS} == set(preset_names()) - {"demo"}
    assert {path.with_suffix("") for path in ANSWERS} == {path.with_suffix("") for path in FIXTURES.glob("*/*.yaml")}
    embedding = {name for name in preset_names() if load_preset(name).offers("embeddings")} - SILENT
    cases = [(path.parent.name, expected_of(path)) for path in ANSWERS]
    for kind in ("seen", "error"):
        shown = {vendor for vendor, one in cases if one["operation"] == "embeddings" and kind in one}
        assert shown >= embedding, kind
    for path in FIXTURES.glob("*/*.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["source"], path
