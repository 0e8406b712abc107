"""What a Runnable says reaches callers in OpenAI's format, by every front."""

import json
from typing import Any

import openai
import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from parley.llm.v1 import chat_pb2, llm_service_pb2
from pydantic import BaseModel

from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import chunk, scripted

USAGE = UsageMetadata(
    input_tokens=7,
    output_tokens=5,
    total_tokens=12,
    input_token_details={"cache_read": 3},
    output_token_details={"reasoning": 2},
)


def ended(reason: str = "stop", **more: Any) -> AIMessageChunk:
    """Return the last chunk of an answer."""
    return chunk("", response_metadata={"finish_reason": reason}, **more)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_chat_model_answers(front: str, serve: Serve) -> None:
    running = serve(GenericFakeChatModel(messages=iter([AIMessage("Hello there, friend")])))
    seen = await ask(front, running)
    assert (seen.text, seen.finish, seen.attempts) == ("Hello there, friend", "stop", 1)
    assert (seen.headers["x-parley-upstream"], seen.headers["x-parley-model"]) == ("agent", "my-agent")
    assert seen.done == (front in STREAM_FRONTS)


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize(
    "output",
    [
        "Hi!",
        AIMessage("Hi!"),
        {"messages": [HumanMessage("?"), AIMessage("Hm."), AIMessage("Hi!"), HumanMessage("next")]},
        [AIMessage("Hi!")],
        {"input": "?", "output": "Hi!"},
        {"input": "?", "context": [], "answer": "Hi!"},
    ],
    ids=["text", "message", "state", "messages", "agent", "retrieval"],
)
async def test_what_a_function_returns_is_the_answer(output: Any, front: str, serve: Serve) -> None:
    seen = await ask(front, serve(RunnableLambda(lambda _: output)))
    assert (seen.text, seen.finish) == ("Hi!", "stop")


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_chain_answers_and_its_models_tokens_are_known(front: str, serve: Serve) -> None:
    model = scripted("Hel", "lo", ended(usage_metadata=USAGE))
    chain = (
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{input}")]) | model | StrOutputParser()
    )
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if front == "sse" else {}
    seen = await ask(front, serve(chain), **options)
    assert (seen.text, seen.usage["total_tokens"]) == ("Hello", 12)
    assert [message.content for message in model.calls[0]["messages"]] == ["Be brief.", "Hello?"]


async def test_tokens_are_counted_in_kind_and_for_all_calls_of_a_run(serve: Serve) -> None:
    model = scripted("x", ended(usage_metadata=USAGE))
    chain = model | RunnableLambda(lambda message: [HumanMessage(message.content)]) | model | StrOutputParser()
    usage = (await ask("http", serve(chain))).usage
    assert usage == {
        "prompt_tokens": 14,
        "completion_tokens": 10,
        "total_tokens": 24,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


async def test_tokens_of_a_message_made_by_hand_are_known(serve: Serve) -> None:
    running = serve(RunnableLambda(lambda _: AIMessage("x", usage_metadata=USAGE)))
    assert (await ask("http", running)).usage["total_tokens"] == 12
    seen = await ask("sse", running, stream_options={"include_usage": True})
    assert seen.usage["total_tokens"] == 12


@pytest.mark.parametrize("front", ["http", "sse"])
async def test_nobody_invents_tokens(front: str, serve: Serve) -> None:
    seen = await ask(front, serve(RunnableLambda(lambda _: "x")), stream_options={"include_usage": True})
    assert seen.usage is None
    assert '"usage"' not in seen.raw


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize(
    ("metadata", "finish"),
    [
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"finish_reason": "MAX_TOKENS"}, "length"),
        ({"finish_reason": "SAFETY"}, "content_filter"),
        ({"done_reason": "stop"}, "stop"),
        ({"stopReason": "guardrail_intervened"}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({}, "stop"),
    ],
)
async def test_finish_reasons_of_every_integration(
    metadata: dict[str, Any], finish: str, front: str, serve: Serve
) -> None:
    seen = await ask(front, serve(scripted("x", chunk("", response_metadata=metadata))))
    assert (seen.text, seen.finish) == ("x", finish)


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize(
    "thought",
    [
        chunk("", additional_kwargs={"reasoning_content": "Hm."}),
        chunk([{"type": "thinking", "thinking": "Hm.", "index": 0}]),
        chunk([{"type": "reasoning", "reasoning": "Hm."}]),
        chunk([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "index": 0}]),
        chunk([{"type": "reasoning_content", "reasoning_content": {"text": "Hm."}}]),
        chunk("<think>Hm.</think>"),
    ],
    ids=["kwargs", "anthropic", "standard", "responses", "bedrock", "think"],
)
async def test_reasoning_is_told_apart(thought: AIMessageChunk, front: str, serve: Serve) -> None:
    answer = chunk([{"type": "text", "text": "Yes", "index": 1}] if isinstance(thought.content, list) else "Yes")
    seen = await ask(front, serve(scripted(thought, answer, ended())))
    assert (seen.reasoning, seen.text) == ("Hm.", "Yes")


class Verdict(BaseModel):
    """A structured answer."""

    good: bool


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_structured_answer_is_json(front: str, serve: Serve) -> None:
    seen = await ask(front, serve(scripted('{"good":', " true}") | JsonOutputParser()))
    assert json.loads(seen.text) == {"good": True}
    seen = await ask(front, serve(RunnableLambda(lambda _: Verdict(good=True))))
    assert json.loads(seen.text) == {"good": True}


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize("output", [None, 3, {"messages": [HumanMessage("x")]}, HumanMessage("x"), {"a": object()}])
async def test_what_is_no_answer_is_an_error_that_is_not_repeated(output: Any, front: str, serve: Serve) -> None:
    seen = await ask(front, serve(RunnableLambda(lambda _: output), retry={"max_attempts": 3}))
    assert (seen.reason, seen.attempts) == ("UPSTREAM_STATUS", 1)
    assert "The Runnable returned" in seen.message


async def test_a_stream_comes_in_pieces(serve: Serve) -> None:
    client = openai.AsyncOpenAI(base_url=serve(FakeListChatModel(responses=["abc"])).base_url, api_key="x")
    stream = await client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "?"}], stream=True
    )
    chunks = [one async for one in stream]
    await client.close()
    assert [one.choices[0].delta.content for one in chunks] == ["a", "b", "c", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {one.id for one in chunks} == {chunks[0].id}
    assert chunks[0].model == "my-agent"


CALLS = [
    chunk("", tool_call_chunks=[{"name": "weather", "args": '{"city":', "id": "c1", "index": 0}]),
    chunk("", tool_call_chunks=[{"name": None, "args": ' "Bern"}', "id": None, "index": 0}]),
    chunk("", tool_call_chunks=[{"name": "time", "args": "{}", "id": "c2", "index": 1}]),
]
WANTED = [("c1", "weather", {"city": "Bern"}), ("c2", "time", {})]


def called(calls: Any) -> list[tuple[str, str, Any]]:
    """Return (id, name, arguments) of OpenAI's calls."""
    return [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize("reason", ["tool_calls", "tool_use", "STOP"])
async def test_tool_calls(reason: str, serve: Serve) -> None:
    running = serve(scripted(*CALLS, ended(reason)))
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key="x") as client:
        ask_it: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "?"}]}
        plain = await client.chat.completions.create(**ask_it)
        assert called(plain.choices[0].message.tool_calls) == WANTED
        assert (plain.choices[0].message.content, plain.choices[0].finish_reason) == (None, "tool_calls")
        async with client.chat.completions.stream(**ask_it) as stream:
            final = await stream.get_final_completion()
    assert called(final.choices[0].message.tool_calls) == WANTED
    assert final.choices[0].finish_reason == "tool_calls"


async def test_tool_calls_by_grpc(serve: Serve) -> None:
    running = serve(scripted(*CALLS, ended("tool_calls")))
    params = chat_pb2.ChatCompletionParams(model="chat", messages=[chat_pb2.ChatMessage(role="user", content="?")])
    answer = await running.stub.CreateChatCompletion(llm_service_pb2.CreateChatCompletionRequest(params=params))
    calls = answer.completion.choices[0].message.tool_calls
    assert [(call.id, call.name, json.loads(call.arguments)) for call in calls] == WANTED
    arguments: dict[int, str] = {}
    request = llm_service_pb2.StreamChatCompletionRequest(params=params)
    async for response in running.stub.StreamChatCompletion(request):
        if response.event.WhichOneof("event") == "tool_call":
            piece = response.event.tool_call
            arguments[piece.call_index] = arguments.get(piece.call_index, "") + piece.arguments
    assert {index: json.loads(text) for index, text in arguments.items()} == {0: {"city": "Bern"}, 1: {}}


@pytest.mark.parametrize("front", ["http", "sse"])
async def test_whole_calls_and_calls_that_are_no_json(front: str, serve: Serve) -> None:
    message = AIMessage(
        "Let me see.",
        tool_calls=[{"name": "a", "args": {"x": 1}, "id": "c1", "type": "tool_call"}],
        invalid_tool_calls=[
            {"type": "invalid_tool_call", "name": "b", "args": "{broken", "id": "c2", "error": "not JSON"}
        ],
    )
    running = serve(RunnableLambda(lambda _: message))
    body = {"model": "chat", "messages": [{"role": "user", "content": "?"}], "stream": front == "sse"}
    text = (await running.http.post("/v1/chat/completions", json=body)).text
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: {")] if front == "sse" else [text]
    parts = [json.loads(line)["choices"][0] for line in lines]
    said = parts[0].get("message") or parts[0]["delta"]
    assert said["content"] == "Let me see."
    assert [(call["id"], call["function"]) for call in said["tool_calls"]] == [
        ("c1", {"name": "a", "arguments": '{"x":1}'}),
        ("c2", {"name": "b", "arguments": "{broken"}),
    ]
    assert parts[-1]["finish_reason"] == "tool_calls"
