"""What the service does not know passes unchanged, to the last digit, in both directions."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_llm.jsontext import join_object, parse_array, parse_object
from parley_llm.parameters import ParamsSettings
from parley_llm.upstream.shaping import Params, shape_body

from tests.fakes.openai_upstream import (
    DONE,
    FINISH,
    ROLE,
    USAGE_CHUNK,
    OpenAIUpstream,
    completion,
    delta,
    event,
    plain,
    stream,
)
from tests.llm.conftest import Running

HARD_NUMBERS = (
    '{"big":123456789012345678901234567890,"exact":0.1234567890123456789012345,"huge":1e400,'
    '"one":1.0,"minus":-0.0,"exp":1E-7,"esc":"\\u00e9\\ud83d\\ude00\\/","nested":{"model":"not me","a":[1.10]}}'
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    extra=st.dictionaries(
        st.text().filter(lambda name: name not in ("model", "stream_options")), JSON_VALUES, max_size=6
    ),
    indent=st.sampled_from([None, 1, "\t"]),
    ascii_only=st.booleans(),
)
def test_any_member_keeps_its_text(extra: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    body = json.dumps({**extra, "model": "chat"}, indent=indent, ensure_ascii=ascii_only)
    try:
        data = body.encode()
    except UnicodeEncodeError:
        return  # A lone surrogate can't be sent unescaped at all.
    shaped = shape_body(parse_object(data).texts, "other", [], ask_usage=False, adapted=[])
    assert json.loads(shaped) == {**extra, "model": "other"}
    for name, text in parse_object(shaped).texts.items():
        if name != "model":
            assert text == parse_object(data).texts[name]


@given(st.text())
def test_parsing_nonsense_raises_value_error_only(text: str) -> None:
    try:
        parsed = parse_object(text)
    except ValueError:
        return
    assert json.loads(join_object(parsed.texts)) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["{", "{}x", "[1]", '{"a":NaN}', '{"a" 1}', '{"a":1,}', "", "{" * 5000, '{"a":' * 9999]
)
def test_what_is_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(text)


@pytest.mark.parametrize("text", ["[", "[1,", "{}", "[1 2]", ""])
def test_what_is_not_an_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_array(text)


async def test_numbers_survive_http(service: Running, upstream: OpenAIUpstream) -> None:
    body = '{"model":"chat","messages":[{"role":"user","content":"x","weight":1e400}],"x_vendor":' + HARD_NUMBERS + "}"
    response = await service.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 200
    sent = upstream.requests[0].body.decode()
    assert HARD_NUMBERS in sent
    assert '"weight":1e400' in sent
    assert parse_object(sent).values["model"] == "fake-model"


async def test_a_complete_answer_passes_byte_for_byte(service: Running, upstream: OpenAIUpstream) -> None:
    answer = (
        '{ "id": "x", "choices": [ {"index": 0, "message": {"role": "assistant", "content": "Hi"},'
        ' "finish_reason": "stop", "score": 0.12345678901234567890} ], "x_vendor": ' + HARD_NUMBERS + " }"
    ).encode()
    upstream.replies = [plain(200, answer)]
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
    assert (await service.http.post("/v1/chat/completions", json=body)).content == answer


async def test_chunks_pass_byte_for_byte(service: Running, upstream: OpenAIUpstream) -> None:
    chunk = '{"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null}],"x":' + HARD_NUMBERS + "}"
    upstream.replies = [stream(f"data: {chunk}\n\n".encode(), FINISH, DONE)]
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    response = await service.http.post("/v1/chat/completions", json=body)
    assert response.text.startswith(f"data: {chunk}\n\n")


async def test_usage_that_nobody_asked_for_leaves_nothing(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hi"), FINISH, 0.05, USAGE_CHUNK, 0.05, DONE)]
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    answer = await service.http.post("/v1/chat/completions", json=body)
    assert answer.content == ROLE + delta("Hi") + FINISH + DONE


async def test_changing_the_reasoning_leaves_the_rest_alone(service: Running, upstream: OpenAIUpstream) -> None:
    chunk = '{"choices":[{"index":0,"delta":{"reasoning":"Hm","v":1.0e2},"lp":0.10}],"x":' + HARD_NUMBERS + "}"
    upstream.replies = [stream(f"data: {chunk}\n\n".encode(), FINISH, DONE)]
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    response = await service.http.post("/v1/chat/completions", json=body)
    expected = chunk.replace('"reasoning":"Hm","v":1.0e2', '"v":1.0e2,"reasoning_content":"Hm"')
    assert response.text.startswith(f"data: {expected}\n\n")


def grpc_params(**more: Any) -> chat_pb2.ChatCompletionParams:
    return chat_pb2.ChatCompletionParams(
        **{"model": "chat", "messages": [chat_pb2.ChatMessage(role="user", content="x")], **more}
    )


async def create(service: Running, params: chat_pb2.ChatCompletionParams) -> chat_pb2.ChatCompletion:
    request = llm_service_pb2.CreateChatCompletionRequest(params=params)
    response = await service.stub.CreateChatCompletion(request)
    completed: chat_pb2.ChatCompletion = response.completion
    return completed


async def test_grpc_requests_carry_everything(service: Running, upstream: OpenAIUpstream) -> None:
    tool = b'{"type":"function","function":{"name":"f","parameters":{"x":1.0}}}'
    messages = [
        chat_pb2.ChatMessage(role="system", content="be brief"),
        chat_pb2.ChatMessage(
            role="user",
            name="ann",
            parts=[
                chat_pb2.ContentPart(text="look"),
                chat_pb2.ContentPart(image_url=chat_pb2.ImageUrl(url="data:image/png;base64,AA==", detail="low")),
                chat_pb2.ContentPart(other_json=b'{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}'),
            ],
        ),
        chat_pb2.ChatMessage(
            role="assistant",
            reasoning_content="hm",
            tool_calls=[chat_pb2.ToolCall(id="c1", name="f", arguments="{}", extra_body_json=b'{"index":0}')],
        ),
        chat_pb2.ChatMessage(role="tool", content="42", tool_call_id="c1", extra_body_json=b'{"cache":1.50}'),
    ]
    params = grpc_params(
        messages=messages,
        temperature=0.0,
        top_p=0.9,
        max_tokens=10,
        max_completion_tokens=11,
        stop=["a", "b"],
        seed=2**53 + 1,
        n=1,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        tools=[chat_pb2.Tool(json=tool)],
        tool_choice_json=b'"auto"',
        response_format_json=b'{"type":"json_object"}',
        user="u1",
        extra_body_json=('{"x_vendor":' + HARD_NUMBERS + "}").encode(),
    )
    await create(service, params)
    sent = upstream.requests[0]
    assert HARD_NUMBERS in sent.body.decode()
    assert '"cache":1.50' in sent.body.decode()
    body = sent.json
    assert body["seed"] == 2**53 + 1
    assert body["temperature"] == 0.0
    assert body["messages"][1]["content"][1]["image_url"] == {"url": "data:image/png;base64,AA==", "detail": "low"}
    assert body["messages"][2] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}],
    }
    assert body["tool_choice"] == "auto"
    assert body["tools"][0]["function"]["parameters"] == {"x": 1.0}
    assert set(body) == {
        "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "n",
        "presence_penalty", "frequency_penalty", "tools", "tool_choice", "response_format", "user", "x_vendor",
    }  # fmt: skip


async def test_unset_fields_are_not_sent(service: Running, upstream: OpenAIUpstream) -> None:
    await create(service, grpc_params())
    assert set(upstream.requests[0].json) == {"model", "messages"}


@pytest.mark.parametrize(
    "params",
    [
        {"extra_body_json": b'{"model":"x"}'},
        {"extra_body_json": b'{"stream":true}'},
        {"extra_body_json": b"[]"},
        {"extra_body_json": b"\xff"},
        {"temperature": 1.0, "extra_body_json": b'{"temperature":2}'},
        {"tools": [chat_pb2.Tool(json=b"{} {}")]},
        {"tool_choice_json": b"auto"},
        {"messages": []},
        {"messages": [chat_pb2.ChatMessage(role="user", content="x", parts=[chat_pb2.ContentPart(text="y")])]},
        {"messages": [chat_pb2.ChatMessage(role="user", parts=[chat_pb2.ContentPart()])]},
    ],
)
async def test_grpc_mistakes_are_named(params: dict[str, Any], service: Running, upstream: OpenAIUpstream) -> None:
    import grpc.aio

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(service, grpc_params(**params))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not upstream.requests


async def test_grpc_answers_carry_everything(service: Running, upstream: OpenAIUpstream) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra": 1}
    message = {"tool_calls": [call], "reasoning": "hm", "annotations": [1.50]}
    upstream.replies = [
        completion("", message=message, finish="tool_calls", service_tier="flex", system_fingerprint="fp")
    ]
    answer = await create(service, grpc_params())
    assert (answer.id, answer.created, answer.model) == ("chatcmpl-1", 1700000000, "fake-model")
    assert json.loads(answer.extra_body_json) == {"service_tier": "flex"}
    assert answer.system_fingerprint == "fp"
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.reasoning_content == "hm"
    assert choice.message.extra_body_json == b'{"annotations":[1.5]}'
    assert choice.message.tool_calls[0] == chat_pb2.ToolCall(
        id="c1", type="function", name="f", arguments="{}", extra_body_json=b'{"extra":1}'
    )
    assert answer.usage.total_tokens == 12


async def test_grpc_events_carry_everything(service: Running, upstream: OpenAIUpstream) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    usage = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    chunk = {"id": "x", "created": 5, "model": "m", "service_tier": "flex"}
    upstream.replies = [
        stream(
            ROLE,
            event({**chunk, "choices": [{"index": 0, "delta": {"content": "Hi", "odd": 1}, "logprobs": {"a": 1}}]}),
            delta(reasoning_content="hm"),
            delta(tool_calls=[call, {"index": 1, "function": {"arguments": "}"}}]),
            delta(finish="tool_calls"),
            event({**chunk, "choices": [], "usage": usage}),
            DONE,
        )
    ]
    request = llm_service_pb2.StreamChatCompletionRequest(params=grpc_params())
    events = [response.event async for response in service.stub.StreamChatCompletion(request)]
    kinds = [one.WhichOneof("event") for one in events]
    assert kinds == ["start", "delta", "reasoning", "tool_call", "tool_call", "finish", "usage"]
    assert events[0].start.id == "chatcmpl-1"
    assert json.loads(events[1].extra_body_json) == {
        "service_tier": "flex",
        "choices": [{"index": 0, "logprobs": {"a": 1}, "delta": {"odd": 1}}],
    }
    assert events[3].tool_call.arguments == '{"a"'
    assert events[4].tool_call.call_index == 1
    assert events[6].usage.reasoning_tokens == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON_VALUES)
def test_params_keep_values(value: Any) -> None:
    params = Params.from_settings(ParamsSettings(set={"x": 1}, default={"y": value if value == value else 0}))
    shaped = shape_body({"messages": "[]"}, "m", [params], ask_usage=True, adapted=[])
    assert json.loads(shaped)["stream_options"] == {"include_usage": True}
    assert json.loads(shaped)["x"] == 1
