"""Targets that lack a used feature are skipped; what the operator says wins over the preset."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_llm.callers import Caller
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from parley_llm.exchange import Call
from parley_llm.jsontext import parse_object
from parley_llm.limits.account import Accounts
from parley_llm.limits.base import Allowance
from parley_llm.operations.registry import CHAT
from parley_llm.parameters import ParamsSettings
from parley_llm.presets import load_preset
from parley_llm.presets.schema import Feature, Preset
from parley_llm.upstream.adaptation import body_for
from parley_llm.upstream.features import PARAMS, used_features
from parley_llm.upstream.profiles import KEPT, Profiles

from tests.fakes.openai_upstream import OpenAIUpstream, completion, stream, words
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask

TOOL = {"type": "function", "function": {"name": "f"}}
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest_asyncio.fixture(loop_scope="session")
async def second() -> AsyncIterator[OpenAIUpstream]:
    async with OpenAIUpstream(completion()) as server:
        yield server


@pytest.mark.parametrize(
    ("values", "used"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [TOOL]}, {"tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools", "forced_tool"}),
        ({"tools": [TOOL], "tool_choice": TOOL}, {"tools", "forced_tool"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {"json_object"}),
        ({"response_format": SCHEMA_FORMAT}, {"json_schema"}),
        ({"response_format": "json"}, set()),
        ({"reasoning_effort": "high"}, {"thinking"}),
        ({"reasoning_effort": "none"}, set()),
        ({"enable_thinking": True}, {"thinking"}),
        ({"enable_thinking": False}, set()),
        ({"thinking": {"type": "enabled"}}, {"thinking"}),
        ({"thinking": {"type": "disabled"}}, set()),
        ({"chat_template_kwargs": {"enable_thinking": True}}, {"thinking"}),
        ({"messages": [{"role": "user", "content": "x"}, 7, {"content": [7]}]}, set()),
        ({"messages": PICTURE}, {"vision"}),
    ],
)
def test_used_features_are_found(values: dict[str, Any], used: set[str]) -> None:
    assert used_features(values) == used
    assert used <= set(PARAMS)


def pair(first: OpenAIUpstream, second: OpenAIUpstream, **features: bool) -> dict[str, Any]:
    """Return settings with two targets, the first of them with these features."""
    settings = settings_for(first, second)
    settings["models"]["chat"]["targets"][0]["features"] = features
    return settings


@pytest.mark.parametrize(
    ("feature", "body"),
    [
        ("tools", {"tools": [TOOL]}),
        ("forced_tool", {"tools": [TOOL], "tool_choice": "required"}),
        ("json_schema", {"response_format": SCHEMA_FORMAT}),
        ("json_object", {"response_format": {"type": "json_object"}}),
        ("vision", {"messages": PICTURE}),
        ("thinking", {"reasoning_effort": "high"}),
    ],
)
@pytest.mark.parametrize("front", ["http", "sse"])
async def test_a_target_that_lacks_a_used_feature_is_skipped(
    front: str, feature: str, body: dict[str, Any], upstream: OpenAIUpstream, second: OpenAIUpstream
) -> None:
    for server in (upstream, second):
        server.replies = [stream(*words("Hello!")) if front == "sse" else completion("Hello!")]
    async with run_service(pair(upstream, second, **{feature: False})) as service:
        assert (await ask(front, service)).headers["x-parley-upstream"] == "up0"
        seen = await ask(front, service, **body)
        assert (seen.headers["x-parley-upstream"], seen.attempts) == ("up1", 1)
        refused = await ask(front, service, {"x-parley-upstream": "up0"}, **body)
    assert (refused.code, refused.reason, refused.attempts) == ("400", "INVALID_REQUEST", 0)
    assert feature in refused.message
    assert f'"param":"{PARAMS[feature]}"' in refused.raw
    assert (len(upstream.requests), len(second.requests)) == (1, 1)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_the_operator_knows_better_than_the_preset(front: str, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(*words("Hello!")) if front in STREAM_FRONTS else completion("Hello!")]
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["preset"] = "moonshot"
    settings["models"]["chat"]["targets"] = [
        {
            "upstream": "up0",
            "model": "Kimi-K2.6-preview",
            "params": {"set": {"temperature": 0.6}},
            "features": {"stream_usage": False},
        }
    ]
    async with run_service(settings) as service:
        seen = await ask(front, service, temperature=0.25, max_completion_tokens=9)
    assert seen.headers["x-parley-adapted"] == "max_completion_tokens, temperature"
    sent = upstream.requests[0].json
    assert (sent["temperature"], sent["max_tokens"]) == (0.6, 9)
    assert "stream_options" not in sent


async def test_rules_for_models_apply_to_names_that_pass_through(upstream: OpenAIUpstream) -> None:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["preset"] = "dashscope"
    settings["models"] = {"*": {"targets": [{"upstream": "up0"}]}}
    async with run_service(settings) as service:
        for model in ("qwen3-8b", "qwen-max"):
            assert (await ask("http", service, model=model)).ok
    assert [request.json.get("enable_thinking") for request in upstream.requests] == [False, None]


def test_only_so_many_names_are_remembered() -> None:
    profiles = Profiles(load_preset("dashscope"))
    for number in range(3 * KEPT):
        profiles.of(f"model-{number}", stream=False)
    assert len(profiles._kept) <= KEPT
    assert profiles.of("qwen3-8b", stream=False).params != profiles.of("qwen3-8b", stream=True).params


async def test_grpc_callers_get_the_raw_finish_reason_and_usage_once(
    shared_service: Running, upstream: OpenAIUpstream
) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    last = {**head, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "eos", "usage": usage}]}
    upstream.replies = [
        stream(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"),
        completion("Hi", finish="eos"),
    ]
    settings = settings_for(upstream)
    settings["upstreams"]["up0"]["preset"] = "moonshot"
    core = shared_service.service.core
    before, core.routing = core.routing, build_routing(LLMSettings.model_validate(settings), {})
    params = chat_pb2.ChatCompletionParams(model="chat", messages=[chat_pb2.ChatMessage(role="user", content="x")])
    try:
        request = llm_service_pb2.StreamChatCompletionRequest(params=params)
        events = [response.event async for response in shared_service.stub.StreamChatCompletion(request)]
        plain = llm_service_pb2.CreateChatCompletionRequest(params=params)
        (choice,) = (await shared_service.stub.CreateChatCompletion(plain)).completion.choices
    finally:
        core.routing = before
    assert [event.WhichOneof("event") for event in events] == ["start", "delta", "finish", "usage"]
    assert events[2].finish.finish_reason == choice.finish_reason == "stop"
    assert events[3].usage.total_tokens == 3
    extras = json.loads(events[1].extra_body_json)
    assert extras["choices"] == [{"index": 0, "native_finish_reason": "eos"}]
    assert json.loads(choice.extra_body_json) == {"native_finish_reason": "eos"}


def adapt(body: str, preset: Preset, features: Mapping[Feature, bool] | None = None) -> tuple[str, tuple[str, ...]]:
    """Return the body that a target with emulation gets, and what was adapted."""
    parsed = parse_object(body)
    call = Call(CHAT, Caller("a", Accounts().of("a", Allowance())), "id", parsed.values, parsed.texts)
    profile = Profiles(preset, ParamsSettings(), features, emulate=True).of("m", stream=False)
    return body_for(call, "m", profile, stream=False).decode(), call.course.adapted


OPENAI = load_preset("openai")
NO_SCHEMA: dict[Feature, bool] = {"json_schema": False}


def test_an_emulated_schema_keeps_its_spelling_and_the_conversation_too() -> None:
    schema = '{"type":"number","multipleOf":0.10000000000000000001}'
    body = (
        '{"messages":[{"role":"user","content":"x","weight":1e400}],"response_format":'
        '{"type":"json_schema","json_schema":{"name":"n","schema":' + schema + "}}}"
    )
    sent, adapted = adapt(body, OPENAI, NO_SCHEMA)
    assert adapted == ("response_format",)
    assert schema in json.loads(sent)["messages"][0]["content"]
    assert '{"role":"user","content":"x","weight":1e400}' in sent
    assert json.loads(sent)["response_format"] == {"type": "json_object"}


def test_the_instruction_joins_a_system_prompt_of_parts() -> None:
    messages = '[{"role":"developer","content":[{"type":"text","text":"Be brief."}]},{"role":"user","content":"x"}]'
    sent, _ = adapt(f'{{"messages":{messages},"response_format":{json.dumps(SCHEMA_FORMAT)}}}', OPENAI, NO_SCHEMA)
    first, second = json.loads(sent)["messages"]
    assert [part["text"][:9] for part in first["content"]] == ["Be brief.", "Answer wi"]
    assert second == {"role": "user", "content": "x"}


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_without_any_json_format_the_prompt_alone_must_do(kind: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"{kind}"}}}}'
    sent, adapted = adapt(body, OPENAI, {"json_schema": False, "json_object": False})
    assert adapted == ("response_format",)
    assert "response_format" not in json.loads(sent)
    assert "JSON object" in json.loads(sent)["messages"][0]["content"]


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":[7],"response_format":{"type":"json_schema"}}',
        '{"messages":[{"role":"system"}],"response_format":{"type":"json_schema","json_schema":7}}',
        '{"messages":[{"role":"system","content":null}],"response_format":{"type":"json_schema","json_schema":{}}}',
    ],
)
def test_nonsense_is_left_to_the_upstream(body: str) -> None:
    sent, _ = adapt(body, OPENAI, NO_SCHEMA)
    assert json.loads(body)["messages"] == json.loads(sent)["messages"][1:]


def test_members_are_taken_out_of_messages_only_where_they_are() -> None:
    messages = '[{"role":"user","content":"\\"refusal\\"", "weight":1e400},7,{"role":"assistant","refusal":null}]'
    sent, adapted = adapt(f'{{"messages":{messages}}}', load_preset("mistral"))
    assert '{"role":"user","content":"\\"refusal\\"", "weight":1e400},7,{"role":"assistant"}' in sent
    assert adapted == ("messages",)
