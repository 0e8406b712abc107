"""What a caller sends reaches the Runnable in LangChain's form: messages, other inputs, parameters, who calls."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI
from parley_llm.upstream.langchain.inputs import shape_for
from pydantic import SecretStr
from typing_extensions import TypedDict

from tests.llm.fronts import ALL_FRONTS, ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import ScriptedModel, scripted

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
BROKEN = {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{"}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "In French."},
    {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is this?"}, PICTURE]},
    {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL, BROKEN]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "user", "content": "And now?", "response_metadata": {"forged": True}, "id": "forged"},
]


async def received(serve: Serve, **body: Any) -> list[BaseMessage]:
    model = scripted("ok")
    seen = await ask("http", serve(model), **body)
    assert seen.ok, seen.message
    messages: list[BaseMessage] = model.calls[0]["messages"]
    return messages


async def test_every_role_and_part_is_kept(serve: Serve) -> None:
    system, developer, picture, assistant, tool, last = await received(serve, messages=CONVERSATION)
    assert (system, last) == (SystemMessage("Be brief."), HumanMessage("And now?"))
    assert isinstance(developer, SystemMessage)
    assert developer.additional_kwargs == {"__openai_role__": "developer"}
    assert picture == HumanMessage(CONVERSATION[2]["content"], name="ann")
    assert isinstance(assistant, AIMessage)
    assert assistant.tool_calls == [{"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Bern"}}]
    assert [(call["id"], call["args"]) for call in assistant.invalid_tool_calls] == [("c2", "{")]
    assert assistant.additional_kwargs == {"reasoning_content": "Hm."}
    assert tool == ToolMessage("sunny", tool_call_id="c1")


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_every_front_brings_the_words(front: str, serve: Serve) -> None:
    model = scripted("ok")
    assert (await ask(front, serve(model))).text == "ok"
    assert model.calls[0]["messages"] == [HumanMessage("Hello?")]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages.0.role"),
        ({"role": "remove", "content": "x"}, "messages.0.role"),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id"),
        ({"role": "user", "content": 3}, "messages.0.content"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages.0.tool_calls"),
        ("x", "messages.0"),
    ],
)
async def test_messages_that_are_wrong_are_refused(message: Any, param: str, serve: Serve) -> None:
    running = serve(scripted("ok"), retry={"max_attempts": 3})
    seen = await ask("http", running, messages=[message])
    assert (seen.code, seen.reason, seen.attempts) == ("400", "INVALID_REQUEST", 1)
    assert json.loads(seen.raw)["error"]["param"] == param


class State(TypedDict):
    """A graph's input."""

    messages: list[BaseMessage]


def of_text(text: str) -> str:
    return text


def of_messages(messages: list[BaseMessage]) -> str:
    return str(messages)


def of_prompt(prompt: PromptValue) -> str:
    return prompt.to_string()


def of_any(anything: Any) -> str:
    return str(anything)


def of_dict(members: dict[str, Any]) -> str:
    return str(members)


def of_state(state: State) -> str:
    return str(state)


def of_either(told: str | list[BaseMessage]) -> str:
    return str(told)


MESSAGES: list[BaseMessage] = [HumanMessage("One?"), AIMessage("1"), HumanMessage("Two?")]
WITH_HISTORY = ChatPromptTemplate.from_messages([MessagesPlaceholder("chat_history"), ("human", "{question}")])
WITH_MESSAGES = ChatPromptTemplate.from_messages([("system", "x"), MessagesPlaceholder("messages")])


@pytest.mark.parametrize(
    ("runnable", "wanted"),
    [
        (RunnableLambda(of_text), "Two?"),
        (RunnableLambda(of_messages), MESSAGES),
        (RunnableLambda(of_any), MESSAGES),
        (RunnableLambda(of_either), MESSAGES),
        (RunnableLambda(of_dict), {"messages": MESSAGES, "input": "Two?"}),
        (RunnableLambda(of_state), {"messages": MESSAGES}),
        (WITH_HISTORY, {"chat_history": MESSAGES[:2], "question": "Two?"}),
        (WITH_MESSAGES, {"messages": MESSAGES}),
        (scripted(), MESSAGES),
        (scripted().bind(stop=["x"]), MESSAGES),
        (FakeListLLM(responses=["x"]), MESSAGES),
    ],
)
def test_what_a_runnable_takes_is_found_out(runnable: Runnable[Any, Any], wanted: Any) -> None:
    assert shape_for(runnable, "auto").of(MESSAGES) == wanted


def test_a_prompt_value() -> None:
    made = shape_for(RunnableLambda(of_prompt), "auto").of(MESSAGES)
    assert made.to_messages() == MESSAGES


def test_the_operator_may_say_what_it_takes() -> None:
    runnable = RunnableLambda(of_any)
    assert shape_for(runnable, "text").of(MESSAGES) == "Two?"
    assert shape_for(runnable, "dict").of(MESSAGES) == {"messages": MESSAGES, "input": "Two?"}
    assert shape_for(runnable, "prompt").of(MESSAGES).to_messages() == MESSAGES
    assert shape_for(WITH_HISTORY, "dict").of(MESSAGES) == {"chat_history": MESSAGES[:2], "question": "Two?"}


def test_the_text_of_parts_and_of_a_conversation_without_a_question() -> None:
    shape = shape_for(RunnableLambda(of_text), "auto")
    assert shape.of([HumanMessage([{"type": "text", "text": "a"}, PICTURE, {"type": "text", "text": "b"}])]) == "a\nb"
    assert shape.of([SystemMessage("Say hello.")]) == "Say hello."


def test_what_no_conversation_has_is_told() -> None:
    with pytest.raises(ValueError, match=r"needs 'topic' in its input, where only messages, input"):
        shape_for(ChatPromptTemplate.from_template("{topic}{input}"), "auto")


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_the_question_alone(front: str, serve: Serve) -> None:
    assert (await ask(front, serve(RunnableLambda(of_text)))).text == "Hello?"


def wrapped(model: ScriptedModel, how: str) -> Runnable[Any, Any]:
    ways: dict[str, Callable[[], Runnable[Any, Any]]] = {
        "itself": lambda: model,
        "bound": lambda: model.bind(extra="kept"),
        "configured": lambda: model.with_config(tags=["x"]),
        "retrying": lambda: model.with_retry(stop_after_attempt=2),
        "with a fallback": lambda: model.with_fallbacks([scripted("other")]),
        "configurable": lambda: model.configurable_fields(temperature=ConfigurableField(id="t")),
    }
    return ways[how]()


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
WRAPPINGS = ["itself", "bound", "configured", "retrying", "with a fallback", "configurable"]


@pytest.mark.parametrize("how", WRAPPINGS)
async def test_parameters_reach_a_model_however_it_is_wrapped(how: str, serve: Serve) -> None:
    model = scripted("ok")
    asked: dict[str, Any] = {
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "stop": "END",
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    seen = await ask("http", serve(wrapped(model, how)), **asked)
    assert seen.text == "ok", seen.message
    (call,) = model.calls
    assert (call["temperature"], call["max_tokens"], call["stop"], call["tools"]) == (0.5, 9, ["END"], TOOLS)
    assert (call["tool_choice"], "parallel_tool_calls" in call) == ("any", False)
    assert call.get("extra") == ("kept" if how == "bound" else None)


async def test_only_known_parameters_reach_a_model(serve: Serve) -> None:
    model = scripted("ok")
    forged: dict[str, Any] = {"top_p": 0.1, "model": "chat", "api_key": "x", "callbacks": ["x"], "temperature": None}
    assert (await ask("http", serve(model), **forged)).ok
    assert set(model.calls[0]) == {"messages", "stop"}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("auto", None),
        ("required", "any"),
        ({"type": "function", "function": {"name": "f"}}, "f"),
    ],
)
async def test_the_choice_of_tools(choice: Any, wanted: str | None, serve: Serve) -> None:
    model = scripted("ok")
    assert (await ask("http", serve(model), tools=TOOLS, tool_choice=choice)).ok
    assert model.calls[0]["tool_choice"] == wanted


async def test_a_model_that_must_not_call_tools_is_not_shown_them(serve: Serve) -> None:
    model = scripted("ok")
    assert (await ask("http", serve(model), tools=TOOLS, tool_choice="none")).ok
    assert "tools" not in model.calls[0]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": TOOLS}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
async def test_what_a_runnable_can_not_do_is_refused(asked: dict[str, Any], param: str, serve: Serve) -> None:
    seen = await ask("http", serve(RunnableLambda(of_messages), retry={"max_attempts": 3}), **asked)
    assert (seen.code, seen.reason) == ("400", "INVALID_REQUEST")
    assert json.loads(seen.raw)["error"]["param"] == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"tools": "f"}, "tools"),
        ({"tools": [1]}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"n": "two"}, "n"),
    ],
)
async def test_nonsense_is_the_callers_fault(asked: dict[str, Any], param: str, serve: Serve) -> None:
    model = ChatOpenAI(model="m", api_key=SecretStr("sk-key"), base_url="http://127.0.0.1:9", max_retries=0)
    seen = await ask("http", serve(model, retry={"max_attempts": 3}), **asked)
    assert (seen.code, seen.reason, seen.attempts) == ("400", "INVALID_REQUEST", 1)
    assert json.loads(seen.raw)["error"]["param"] == param


async def test_functions_are_refused_by_a_model_with_tools(serve: Serve) -> None:
    seen = await ask("http", serve(scripted("ok")), functions=[{"name": "f"}])
    assert (seen.code, json.loads(seen.raw)["error"]["param"]) == ("400", "functions")


async def test_a_format_reaches_a_model_that_has_it_by_the_operators_word(serve: Serve) -> None:
    model = scripted("{}")
    target = {"upstream": "agent", "features": {"json_object": True}}
    running = serve(model, targets=[target])
    assert (await ask("http", running, response_format={"type": "json_object"})).ok
    assert model.calls[0]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_runnable_is_told_who_calls(front: str, serve: Serve) -> None:
    told: list[RunnableConfig] = []

    def remember(messages: list[BaseMessage], config: RunnableConfig) -> str:
        told.append(config)
        return "ok"

    seen = await ask(front, serve(RunnableLambda(remember)), {"x-request-id": "req-1"}, user="ann")
    assert seen.ok, seen.message
    metadata = told[0]["metadata"]
    assert metadata["request_id"] == "req-1"
    assert (metadata["model"], metadata["user"]) == ("my-agent", "ann")
    assert metadata["caller"]


async def test_a_url_that_is_not_allowed_never_reaches_a_runnable(serve: Serve) -> None:
    model = scripted("ok")
    part = {"type": "image_url", "image_url": {"url": "https://elsewhere.example/x.png"}}
    messages = [{"role": "user", "content": [part]}]
    assert (await ask("http", serve(model), messages=messages)).code == "400"
    assert model.calls == []
    assert (await ask("http", serve(model, {"media_hosts": ["elsewhere.example"]}), messages=messages)).ok
