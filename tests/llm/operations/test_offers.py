"""Endpoints that a vendor lacks, requests without a model, URLs that an upstream would fetch."""

from typing import Any

import pytest
from parley_llm.presets import load_preset, preset_names

from tests.fakes.openai_upstream import OpenAIUpstream
from tests.llm.conftest import Running, settings_for
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import ALL, EMBEDDINGS, MODERATIONS, RESPONSES, Endpoint, preset_settings

LACKED = [
    (name, endpoint)
    for name in sorted({*preset_names()} - {"azure", "demo"})
    for endpoint in ALL
    if not load_preset(name).offers(endpoint.name)  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("preset", "endpoint"), LACKED, ids=str)
async def test_a_vendor_without_the_endpoint_is_passed_over(
    preset: str, endpoint: Endpoint, serve: Serve, upstream: OpenAIUpstream
) -> None:
    async with OpenAIUpstream(endpoint.reply()) as second:
        settings = preset_settings({preset: upstream, "openai": second})
        answer = await endpoint.ask(serve(settings))
        assert (answer.status_code, answer.headers["x-parley-upstream"]) == (200, "up1")
        settings["models"]["chat"]["targets"].pop()
        answer = await endpoint.ask(serve(settings))
        error = answer.json()["error"]
        assert (answer.status_code, error["reason"], error["param"]) == (400, "INVALID_REQUEST", "model")
        assert endpoint.path in error["message"]
        assert not upstream.requests


def test_some_vendor_lacks_each_further_endpoint() -> None:
    assert {endpoint.name for _, endpoint in LACKED} == {endpoint.name for endpoint in ALL}


async def test_the_demo_only_chats(serve: Serve) -> None:
    settings = {
        "upstreams": {"demo": {"preset": "demo"}},
        "models": {"chat": {"targets": [{"upstream": "demo", "model": "demo"}]}},
    }
    for endpoint in ALL:
        answer = await endpoint.ask(serve(settings))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def passing_through(upstream: OpenAIUpstream) -> dict[str, Any]:
    """Return settings that pass any model's name through."""
    settings = settings_for(upstream)
    return {**settings, "models": {"*": {"targets": [{"upstream": "up0", "model": "chat-model"}]}}}


async def test_a_moderation_needs_no_model(serve: Serve, upstream: OpenAIUpstream) -> None:
    upstream.replies = [MODERATIONS.reply()]
    service = serve(passing_through(upstream))
    assert (await MODERATIONS.ask(service, model=None)).status_code == 200
    assert "model" not in upstream.requests[0].json, "the configured model is one for chat; the upstream has its own"
    assert (await MODERATIONS.ask(service, model="omni")).status_code == 200
    assert upstream.requests[1].json["model"] == "omni"


async def test_without_pass_through_nobody_knows_whose_model_is_meant(
    service: Running, upstream: OpenAIUpstream
) -> None:
    answer = await MODERATIONS.ask(service, model=None)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert not upstream.requests


async def test_embeddings_need_one_even_then(serve: Serve, upstream: OpenAIUpstream) -> None:
    service = serve(passing_through(upstream))
    assert (await EMBEDDINGS.ask(service, model=None)).status_code == 400
    upstream.replies = [EMBEDDINGS.reply()]
    assert (await EMBEDDINGS.ask(service, model="embed-3")).status_code == 200
    assert upstream.requests[0].json["model"] == "embed-3"


URL = "http://169.254.169.254/latest"
PICTURE = {"type": "input_image", "image_url": URL}


def user(*parts: Any) -> dict[str, Any]:
    """Return an input of a response that is a message with these parts."""
    return {"input": [{"role": "user", "content": list(parts)}]}


FETCHED = [
    (RESPONSES, user(PICTURE)),
    (RESPONSES, user({"type": "input_file", "file_url": URL})),
    (RESPONSES, user({"type": "output_text", "text": "x", "image_url": {"url": URL}})),
    (RESPONSES, {"input": [PICTURE]}),
    (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": [PICTURE]}]}),
    (RESPONSES, {"input": [{"type": "computer_call_output", "call_id": "c", "output": {"image_url": URL}}]}),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "x", "server_url": URL}]}),
    (RESPONSES, {"tools": [{"type": "image_generation", "input_image_mask": {"image_url": URL}}]}),
    (RESPONSES, {"prompt": {"id": "p", "variables": {"picture": PICTURE}}}),
    (MODERATIONS, {"input": [{"type": "image_url", "image_url": {"url": URL}}]}),
    (MODERATIONS, {"input": [[{"type": "image_url", "image_url": {"url": URL}}]]}),
    (EMBEDDINGS, {"input": [{"image": URL}]}),
    (EMBEDDINGS, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}]}),
]


@pytest.mark.parametrize(("endpoint", "more"), FETCHED)
async def test_what_an_upstream_would_fetch_must_be_allowed(
    endpoint: Endpoint, more: dict[str, Any], serve: Serve, upstream: OpenAIUpstream
) -> None:
    settings = settings_for(upstream)
    answer = await endpoint.ask(serve(settings), **more)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "INVALID_REQUEST")
    assert not upstream.requests
    settings["upstreams"]["up0"]["media_hosts"] = ["169.254.169.254"]
    upstream.replies = [endpoint.reply()]
    assert (await endpoint.ask(serve(settings), **more)).status_code == 200


CITED = {"type": "url_citation", "url": "https://example.org/", "start_index": 0, "end_index": 1, "title": "x"}
SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        (RESPONSES, {"input": URL}),
        (RESPONSES, {"input": [{"role": "user", "content": URL}]}),
        (RESPONSES, user({"type": "input_text", "text": URL})),
        (RESPONSES, user({"type": "input_image", "image_url": "data:image/png;base64,AA=="})),
        (RESPONSES, user({"type": "input_image", "file_id": "file-1"})),
        (RESPONSES, user({"type": "output_text", "text": "x", "annotations": [CITED]})),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": URL}]}),
        (RESPONSES, {"input": [{"type": "web_search_call", "id": "w", "action": {"type": "open_page", "url": URL}}]}),
        (RESPONSES, {"tools": [{"type": "function", "name": "f", "description": URL, "parameters": SCHEMA}]}),
        (RESPONSES, {"tools": [{"type": "web_search", "filters": {"allowed_domains": [URL]}}]}),
        (RESPONSES, {"prompt": {"id": "p", "variables": {"text": URL}}}),
        (RESPONSES, {"instructions": URL, "metadata": {"page": URL}}),
        (MODERATIONS, {"input": URL}),
        (MODERATIONS, {"input": [URL]}),
        (MODERATIONS, {"input": [{"type": "text", "text": URL}]}),
        (EMBEDDINGS, {"input": URL}),
        (EMBEDDINGS, {"input": [URL]}),
    ],
)
async def test_text_is_not_fetched(
    endpoint: Endpoint, more: dict[str, Any], service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [endpoint.reply()]
    assert (await endpoint.ask(service, **more)).status_code == 200


@pytest.mark.parametrize(
    ("endpoint", "member"),
    [
        (
            RESPONSES,
            '"input":[{"role":"user","content":[{"type":"input_image","image_url":"%s","image_url":"data:x"}]}]',
        ),
        (RESPONSES, '"input":"x","tools":[{"type":"mcp","server_url":"%s","server_url":"data:x"}]'),
        (RESPONSES, '"prompt":{"id":"p","variables":{"a":{"file_url":"%s","file_url":"data:x"}}}'),
        (MODERATIONS, '"input":[{"type":"image_url","image_url":{"url":"%s","url":"data:x"}}]'),
        (EMBEDDINGS, '"input":[{"image":"%s","image":"data:x"}]'),
        (EMBEDDINGS, '"input":"x","messages":[{"content":[{"image_url":"%s","image_url":"data:x"}]}]'),
    ],
)
async def test_a_member_named_twice_hides_no_url(
    endpoint: Endpoint, member: str, service: Running, upstream: OpenAIUpstream
) -> None:
    body = '{"model":"chat",' + member % URL + "}"
    headers = {"content-type": "application/json"}
    answer = await service.http.post(f"/v1{endpoint.path}", content=body, headers=headers)
    assert answer.status_code == 400
    assert "twice" in answer.json()["error"]["message"]
    assert not upstream.requests
