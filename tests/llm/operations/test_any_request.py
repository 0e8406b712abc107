"""Any valid request reaches the upstream, and any answer the caller, with every member as it was spelled.

PARLEY_TEST_EXAMPLES sets how many requests and answers of each kind are tried, and makes them other ones each time.
"""

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_llm.jsontext import parse_array, parse_object

from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, completion, plain, stream, words
from tests.llm.conftest import Running
from tests.llm.operations.endpoints import ALL, COMPLETIONS, RESPONSES, ended
from tests.llm.operations.spelling import (
    Text,
    arrays,
    members,
    numbers,
    object_text,
    objects,
    strings,
    values,
    word,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
EXAMPLES = os.environ.get("PARLEY_TEST_EXAMPLES", "")
tried = settings(
    max_examples=int(EXAMPLES or 25),
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = {"content-type": "application/json"}

PICTURE = word("data:image/png;base64,AA==")
PARTS = arrays(
    st.one_of(
        objects({"type": word("text"), "text": strings}),
        objects({"type": word("image_url"), "image_url": objects({"url": PICTURE})}),
    ),
    least=1,
)
MESSAGES = arrays(objects({"role": strings, "content": st.one_of(strings, PARTS)}, {"name": strings}), least=1)
TOOLS = arrays(objects({"type": word("function"), "function": objects({"name": strings, "parameters": values})}))
FORMAT = objects({"type": word("json_schema"), "json_schema": values})
CHAT = members(
    {"model": word("chat"), "messages": MESSAGES},
    {"tools": TOOLS, "response_format": FORMAT, "temperature": numbers, "seed": numbers, "stop": values},
    "stream", "stream_options", "functions", "tool_choice", "n",
)  # fmt: skip
TEXTS = st.one_of(strings, arrays(strings))
WORDS = arrays(strings, least=1)
JUDGED = arrays(objects({"type": word("text"), "text": strings}), least=1)
TOKENS = arrays(st.integers(0, 99999).map(str), least=1)
ITEMS = arrays(
    st.one_of(
        objects({"role": word("user"), "content": strings}, None, "type"),
        objects({"type": word("message"), "content": arrays(objects({"type": word("input_text"), "text": strings}))}),
    )
)
FUNCTIONS = arrays(objects({"type": word("function"), "name": strings, "parameters": values}, None, "headers"))
REQUESTS: dict[str, st.SearchStrategy[dict[str, str]]] = {
    "/chat/completions": CHAT,
    "/completions": members(
        {"model": word("chat"), "prompt": st.one_of(TEXTS, TOKENS, arrays(TOKENS))},
        {"max_tokens": numbers, "suffix": strings, "logit_bias": values, "stop": values},
        "stream", "stream_options", "n",
    ),
    "/responses": members(
        {"model": word("chat"), "input": st.one_of(strings, ITEMS)},
        {"instructions": strings, "tools": FUNCTIONS, "text": values, "metadata": values, "max_output_tokens": numbers},
        "stream", "background", "previous_response_id", "conversation", "prompt", "tool_choice",
    ),
    "/embeddings": members(
        {"model": word("chat"), "input": st.one_of(strings.filter(lambda one: one != '""'), WORDS, TOKENS)},
        {"dimensions": numbers, "encoding_format": word("float"), "user": strings},
        "messages",
    ),
    "/moderations": members(
        {"model": word("chat"), "input": st.one_of(WORDS, JUDGED)},
        {},
    ),
}  # fmt: skip
REPLIES = {"/chat/completions": completion(), **{endpoint.path: endpoint.reply() for endpoint in ALL}}


@pytest.mark.parametrize("path", REQUESTS)
@tried
@given(data=st.data())
async def test_any_request_passes(path: str, data: st.DataObject, service: Running, upstream: OpenAIUpstream) -> None:
    asked = data.draw(REQUESTS[path])
    body = object_text(asked, data.draw(st.sampled_from(["", " ", "\n\t"])))
    upstream.requests.clear()
    upstream.replies = [REPLIES[path]]
    answer = await service.http.post(f"/v1{path}", content=body.encode(), headers=JSON)
    assert answer.status_code == 200, answer.text
    sent = parse_object(upstream.requests[0].body).texts
    assert list(sent.items()) == list({**asked, "model": '"fake-model"'}.items())


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
@tried
@given(data=st.data())
async def test_any_streamed_request_passes(
    path: str, data: st.DataObject, service: Running, upstream: OpenAIUpstream
) -> None:
    asked = data.draw(REQUESTS[path])
    options = data.draw(st.one_of(st.none(), members({}, {"include_usage": st.sampled_from(["true", "false"])})))
    body = {**asked, "stream": "true", **({} if options is None else {"stream_options": object_text(options, " ")})}
    upstream.requests.clear()
    prompts = json.loads(asked.get("prompt", '""'))
    several = isinstance(prompts, list) and prompts and not isinstance(prompts[0], int)
    done = [
        COMPLETIONS.end[0].replace(b'"index": 0', b'"index": %d' % at) for at in range(len(prompts) if several else 1)
    ]
    upstream.replies = [stream(*(words("Hi") if path.startswith("/chat") else [*done, DONE]))]
    answer = await service.http.post(f"/v1{path}", content=object_text(body, "").encode(), headers=JSON)
    assert answer.text.endswith("data: [DONE]\n\n"), answer.text
    sent = parse_object(upstream.requests[0].body).texts
    sent_options = parse_object(sent.pop("stream_options")).texts
    assert sent_options == {**(options or {}), "include_usage": "true"}
    body.pop("stream_options", None)
    assert list(sent.items()) == list({**body, "model": '"fake-model"'}.items())


# The gRPC front has fields of its own for these.
FIELDS = ("model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "seed", "n", "user")
EXTRAS = members({}, {}, *FIELDS, "tools", "functions", "tool_choice", "response_format", "stop")


@tried
@given(extras=EXTRAS, tools=st.lists(objects({"type": word("function"), "function": values}), max_size=2),
       form=FORMAT, texts=st.lists(st.text(max_size=12), min_size=1, max_size=3),
       own=members({}, {}, "role", "content", "name", "refusal", "tool_call_id"), streaming=st.booleans())  # fmt: skip
async def test_any_grpc_request_passes(
    extras: dict[str, str],
    tools: list[str],
    form: str,
    texts: list[str],
    own: dict[str, str],
    streaming: bool,
    service: Running,
    upstream: OpenAIUpstream,
) -> None:
    own_json = object_text(own, " ").encode()
    params = chat_pb2.ChatCompletionParams(
        model="chat",
        messages=[chat_pb2.ChatMessage(role="user", content=text, extra_body_json=own_json) for text in texts],
        tools=[chat_pb2.Tool(json=tool.encode()) for tool in tools],
        response_format_json=form.encode(),
        extra_body_json=object_text(extras, "\n").encode(),
    )
    upstream.requests.clear()
    if streaming:
        upstream.replies = [stream(*words("Hi"))]
        assert [one async for one in service.stub.StreamChatCompletion(
            llm_service_pb2.StreamChatCompletionRequest(params=params))]  # fmt: skip
    else:
        upstream.replies = [completion()]
        await service.stub.CreateChatCompletion(llm_service_pb2.CreateChatCompletionRequest(params=params))
    sent = parse_object(upstream.requests[0].body).texts
    assert {name: sent[name] for name in extras} == extras
    assert parse_array(sent.get("tools", "[]")) == tools
    assert sent["response_format"] == form
    messages = [parse_object(one).texts for one in parse_array(sent["messages"])]
    assert [json.loads(one["content"]) for one in messages] == texts
    assert all({name: one[name] for name in own} == own for one in messages)


def spelled(answer: dict[str, Any]) -> dict[str, Text]:
    """Return an answer's members, each with its one spelling."""
    return {name: word(value) for name, value in answer.items()}


CHOICE = objects(
    {
        "index": word(0),
        "message": objects({"role": word("assistant"), "content": strings}, None, "refusal"),
        "finish_reason": word("stop"),
    }
)
ANSWERS: dict[str, st.SearchStrategy[dict[str, str]]] = {
    "/chat/completions": members({"id": strings, "choices": arrays(CHOICE, least=1)}, {}),
    **{endpoint.path: members(spelled(endpoint.answer), {}) for endpoint in ALL},
}
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "chat", "messages": [{"role": "user", "content": "x"}]},
    **{endpoint.path: endpoint.body for endpoint in ALL},
}


@pytest.mark.parametrize("path", ANSWERS)
@tried
@given(data=st.data())
async def test_any_answer_passes(path: str, data: st.DataObject, service: Running, upstream: OpenAIUpstream) -> None:
    answer = object_text(data.draw(ANSWERS[path]), data.draw(st.sampled_from(["", " ", "\n\t"]))).encode()
    upstream.replies = [plain(200, answer)]
    seen = await service.http.post(f"/v1{path}", json=BODIES[path])
    assert (seen.status_code, seen.content) == (200, answer)


DELTA = objects({"content": strings}, None, "role", "refusal")
CHUNK = objects({"choices": arrays(objects({"index": word(0), "delta": DELTA}), least=1)})
PIECE = objects({"choices": arrays(objects({"index": word(0), "text": strings}), least=1)}, None, "id", "model")
EVENT = objects({"type": st.sampled_from(['"response.output_text.delta"', '"response.x"'])}, None, "response")
CHUNKS: list[tuple[str, Text, tuple[bytes, ...], tuple[bytes, ...]]] = [
    ("/chat/completions", CHUNK, (ROLE,), (FINISH, DONE)),
    ("/completions", PIECE, COMPLETIONS.start, (COMPLETIONS.end[0], DONE)),
    ("/responses", EVENT, RESPONSES.start, (ended(),)),
]


@pytest.mark.parametrize(("path", "chunk", "start", "end"), CHUNKS, ids=[path for path, *_ in CHUNKS])
@tried
@given(data=st.data())
async def test_any_chunk_passes(
    path: str,
    chunk: Text,
    start: tuple[bytes, ...],
    end: tuple[bytes, ...],
    data: st.DataObject,
    service: Running,
    upstream: OpenAIUpstream,
) -> None:
    chunks = [b"data: %b\n\n" % one.encode() for one in data.draw(st.lists(chunk, min_size=1, max_size=4))]
    upstream.replies = [stream(*start, *chunks, *end)]
    seen = await service.http.post(f"/v1{path}", json={**BODIES[path], "stream": True})
    assert seen.content == b"".join([*start, *chunks, *end])
