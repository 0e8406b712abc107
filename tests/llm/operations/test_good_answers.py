"""Each JSON endpoint when all goes well: what the upstream gets, what callers and OpenAI's client see, what counts."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseTextDeltaEvent

from tests.fakes.openai_upstream import OpenAIUpstream, plain
from tests.llm.conftest import API_KEY, Running
from tests.llm.operations.conftest import Serve
from tests.llm.operations.endpoints import (
    ALL,
    COMPLETIONS,
    COUNTED,
    EMBEDDINGS,
    FORMS,
    MODERATIONS,
    RESPONSES,
    STREAMING,
    Endpoint,
    events_of,
    form_id,
    preset_settings,
)

endpoints = pytest.mark.parametrize("endpoint", ALL, ids=str)
forms = pytest.mark.parametrize(("endpoint", "streaming"), FORMS, ids=form_id)


@forms
async def test_the_request_reaches_its_path(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [endpoint.reply(streaming=streaming)]
    answer = await endpoint.ask(service, streaming=streaming, x_unknown=[1.50])
    assert answer.status_code == 200
    assert answer.headers["x-parley-upstream"] == "up0"
    assert answer.headers["x-parley-model"] == "fake-model"
    assert answer.headers["x-parley-attempts"] == "1"
    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", f"/v1{endpoint.path}")
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.headers["accept"] == ("text/event-stream" if streaming else "application/json")
    expected = {**endpoint.body, "model": "fake-model", "x_unknown": [1.5]}
    if streaming:
        expected["stream"] = True
    if streaming and endpoint is COMPLETIONS:
        expected["stream_options"] = {"include_usage": True}
    assert request.json == expected


@endpoints
async def test_a_whole_answer_passes_byte_for_byte(
    endpoint: Endpoint, service: Running, upstream: OpenAIUpstream
) -> None:
    body = json.dumps({**endpoint.answer, "x_unknown": "ü"}, indent=1, ensure_ascii=False).encode()
    upstream.replies = [plain(200, body)]
    answer = await endpoint.ask(service)
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json"
    endpoint.model.model_validate_json(answer.content, strict=True)


@pytest.mark.parametrize("endpoint", STREAMING, ids=str)
async def test_a_stream_passes_event_by_event(endpoint: Endpoint, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [endpoint.streamed()]
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if endpoint is COMPLETIONS else {}
    answer = await endpoint.ask(service, streaming=True, **options)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b"".join([*endpoint.start, endpoint.content, *endpoint.end])


@forms
async def test_it_is_counted_under_its_name(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    def counts() -> list[float]:
        calls = {"caller": "anonymous", "operation": endpoint.name, "model": "chat", "outcome": "ok"}
        tokens = {"caller": "anonymous", "model": "chat", "source": "upstream"}
        kinds = [service.metric("parley_llm_tokens_total", **tokens, type=kind) for kind in ("input", "output")]
        return [service.metric("parley_llm_requests_total", **calls), *kinds]

    before = counts()
    upstream.replies = [endpoint.reply(streaming=streaming)]
    await endpoint.ask(service, streaming=streaming)
    used = {COMPLETIONS: (7, 5), RESPONSES: (7, 5), EMBEDDINGS: (4, 0), MODERATIONS: (0, 0)}
    assert [after - one for after, one in zip(counts(), before, strict=True)] == [1, *used[endpoint]]


@forms
async def test_what_no_upstream_counts_is_estimated_and_never_told(
    endpoint: Endpoint, streaming: bool, service: Running, upstream: OpenAIUpstream
) -> None:
    def estimate() -> float:
        labels = {"caller": "anonymous", "model": "chat", "source": "estimated", "type": "input"}
        return service.metric("parley_llm_tokens_total", **labels)

    before = estimate()
    if streaming:
        whole = b"".join([*endpoint.start, endpoint.content, *endpoint.end])
        without = whole.replace(json.dumps(COUNTED).encode(), b"null").replace(b'"usage"', b'"x"')
        upstream.replies = [plain(200, without, {"content-type": "text/event-stream"})]
    else:
        answer = {name: value for name, value in endpoint.answer.items() if name != "usage"}
        upstream.replies = [plain(200, json.dumps(answer).encode())]
    seen = await endpoint.ask(service, streaming=streaming)
    assert seen.status_code == 200
    assert '"usage"' not in seen.text
    assert (estimate() > before) is (endpoint is not MODERATIONS)


async def test_openais_client_completes_text(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [COMPLETIONS.reply(), COMPLETIONS.streamed()]
    answer = await client.completions.create(model="chat", prompt="Say hello.")
    assert answer.choices[0].text == "Hello!"
    pieces = [piece async for piece in await client.completions.create(model="chat", prompt="x", stream=True)]
    assert "".join(one.choices[0].text for one in pieces) == "Hello!"


async def test_openais_client_asks_for_a_response(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [RESPONSES.reply(), RESPONSES.streamed(), RESPONSES.streamed()]
    answer = await client.responses.create(model="chat", input="Say hello.")
    assert answer.output_text == "Hello!"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    events = [one async for one in await client.responses.create(model="chat", input="x", stream=True)]
    assert "".join(one.delta for one in events if isinstance(one, ResponseTextDeltaEvent)) == "Hello!"
    assert events[-1].type == "response.completed"
    async with client.responses.stream(model="chat", input="x") as helper:
        assert (await helper.get_final_response()).output_text == "Hello!"


async def test_openais_client_embeds(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    coded = {**EMBEDDINGS.answer, "data": [{"object": "embedding", "index": 0, "embedding": "AACAPgAAAD8="}]}
    upstream.replies = [plain(200, json.dumps(coded).encode())]
    answer = await client.embeddings.create(model="chat", input="a")
    assert answer.data[0].embedding == [0.25, 0.5]
    assert upstream.requests[0].json["encoding_format"] == "base64"


async def test_openais_client_moderates(client: openai.AsyncOpenAI, upstream: OpenAIUpstream) -> None:
    upstream.replies = [MODERATIONS.reply()]
    answer = await client.moderations.create(model="chat", input="Is this fine?")
    assert answer.results[0].flagged is False


async def test_azure_has_paths_of_its_own(serve: Serve, upstream: OpenAIUpstream) -> None:
    settings = preset_settings({"azure": upstream})
    settings["upstreams"]["up0"] |= {"base_url": f"http://127.0.0.1:{upstream.port}", "api_version": "2025-04-01"}
    service = serve(settings)
    for endpoint, path in (
        (COMPLETIONS, "/openai/deployments/fake-model/completions"),
        (RESPONSES, "/openai/responses"),
        (EMBEDDINGS, "/openai/deployments/fake-model/embeddings"),
    ):
        upstream.replies = [endpoint.reply()]
        assert (await endpoint.ask(service)).status_code == 200
        assert upstream.requests[-1].target == f"{path}?api-version=2025-04-01"


@pytest.mark.parametrize(
    ("endpoint", "more", "param"),
    [
        (COMPLETIONS, {"prompt": 7}, "prompt"),
        (COMPLETIONS, {"prompt": {"text": "x"}}, "prompt"),
        (COMPLETIONS, {"stream": "yes"}, "stream"),
        (COMPLETIONS, {"stream_options": []}, "stream_options"),
        (RESPONSES, {"input": 7}, "input"),
        (RESPONSES, {"background": True}, "background"),
        (EMBEDDINGS, {"input": ""}, "input"),
        (EMBEDDINGS, {"input": []}, "input"),
        (EMBEDDINGS, {"input": 7}, "input"),
        (EMBEDDINGS, {"input": None}, "input"),
        (EMBEDDINGS, {"model": None}, "model"),
        (EMBEDDINGS, {"model": ""}, "model"),
        (MODERATIONS, {"input": None}, "input"),
        (MODERATIONS, {"input": []}, "input"),
        *((one, {"model": 7}, "model") for one in ALL),
    ],
)
async def test_what_is_no_request_is_refused_here(
    endpoint: Endpoint, more: dict[str, Any], param: str, service: Running, upstream: OpenAIUpstream
) -> None:
    answer = await endpoint.ask(service, **more)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["reason"], error["param"]) == ("INVALID_REQUEST", param)
    assert not upstream.requests


@pytest.mark.parametrize(("endpoint", "more"), [(COMPLETIONS, {"tools": 7}), (RESPONSES, {"tools": 7, "text": []})])
async def test_nonsense_that_concerns_nobody_here_is_left_to_the_upstream(
    endpoint: Endpoint, more: dict[str, Any], serve: Serve, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [endpoint.reply()]
    assert (await endpoint.ask(serve(preset_settings({"zhipu": upstream})), **more)).status_code == 200
    assert upstream.requests[0].json["tools"] == 7


@endpoints
async def test_other_methods_and_names_are_refused(endpoint: Endpoint, service: Running) -> None:
    answer = await service.http.get(f"/v1{endpoint.path}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (405, "METHOD_NOT_ALLOWED")
    answer = await endpoint.ask(service, model="gpt-9")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "MODEL_NOT_FOUND")


@pytest.mark.parametrize("endpoint", [COMPLETIONS, RESPONSES], ids=str)
async def test_text_has_a_default_model(endpoint: Endpoint, service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [endpoint.reply()]
    assert (await endpoint.ask(service, model=None)).status_code == 200
    assert upstream.requests[0].json["model"] == "fake-model"


async def test_a_completion_without_a_prompt_is_left_to_the_upstream(
    service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [COMPLETIONS.reply()]
    body = b'{"model":"chat","prompt":null}'
    answer = await service.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert b'"prompt":null' in upstream.requests[0].body


async def test_events_have_names_only_where_openai_names_them(service: Running, upstream: OpenAIUpstream) -> None:
    for endpoint in STREAMING:
        upstream.replies = [endpoint.streamed()]
        names = [name for name, _ in events_of(await endpoint.ask(service, streaming=True))]
        assert all(names) if endpoint is RESPONSES else not any(names)
