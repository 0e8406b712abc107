"""Graphs in the manner of LangGraph: their models' words stream as they come, the final state has the last word.

`Graph` gives out what LangGraph documents for `stream_mode` "messages" and "values" (LangGraph, "Streaming").
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig
from parley.llm.v1 import chat_pb2
from pydantic import BaseModel

from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import chunk

CALL = {"name": "weather", "args": {}, "id": "c1", "type": "tool_call"}


class GraphInput(BaseModel):
    """What the graph takes."""

    messages: list[Any]


class Graph(Runnable[dict[str, Any], dict[str, Any]]):
    """Says what it is told to, and ends with the state that comes of it."""

    def __init__(self, chunks: list[BaseMessage], final: list[BaseMessage]) -> None:
        self._chunks = chunks
        self._final = final
        self.inputs: list[Any] = []

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return GraphInput

    def invoke(self, input: dict[str, Any], config: Any = None, **kwargs: Any) -> dict[str, Any]:  # noqa: A002
        self.inputs.append(input)
        return {"messages": [*input["messages"], *self._final]}

    async def astream(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stream_mode: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        assert stream_mode == ["messages", "values"]
        yield "values", input
        for one in self._chunks:
            yield "messages", (one, {"langgraph_node": "agent"})
        yield "values", self.invoke(input)


def agent() -> Graph:
    """Return an agent that calls a tool and then answers."""
    return Graph(
        [
            chunk("Let me", id="m1"),
            chunk(" see.", id="m1"),
            chunk("", id="m1", tool_call_chunks=[{"name": "weather", "args": "{}", "id": "c1", "index": 0}]),
            ToolMessage("sunny", tool_call_id="c1"),
            chunk("It is", id="m2"),
            chunk(" sunny.", id="m2"),
        ],
        [
            AIMessage("Let me see.", id="m1", tool_calls=[CALL]),
            ToolMessage("sunny", tool_call_id="c1"),
            AIMessage("It is sunny.", id="m2", response_metadata={"finish_reason": "stop"}),
        ],
    )


@pytest.mark.parametrize("front", ALL_FRONTS)
@pytest.mark.parametrize("bound", [False, True], ids=["itself", "with_config"])
async def test_an_agent(bound: bool, front: str, serve: Serve) -> None:
    graph = agent()
    seen = await ask(front, serve(graph.with_config(tags=["x"]) if bound else graph))
    assert seen.text == ("Let me see.\n\nIt is sunny." if front in STREAM_FRONTS else "It is sunny.")
    assert seen.finish == "stop"
    assert "weather" not in seen.raw
    assert graph.inputs == [{"messages": [HumanMessage("Hello?")]}]


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_node_that_does_not_stream_is_heard(front: str, serve: Serve) -> None:
    seen = await ask(front, serve(Graph([], [AIMessage("Hi!", id="m1")])))
    assert (seen.text, seen.finish) == ("Hi!", "stop")


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_the_last_word_is_the_final_states(front: str, serve: Serve) -> None:
    graph = Graph([chunk("A plan.", id="m1")], [AIMessage("Done.", id="m2")])
    assert (await ask(front, serve(graph))).text == "A plan.\n\nDone."


async def test_calls_that_are_left_to_the_caller_are_passed_on(serve: Serve) -> None:
    piece = chunk("", id="m1", tool_call_chunks=[{"name": "weather", "args": "{}", "id": "c1", "index": 0}])
    graph = Graph([piece], [AIMessage("", id="m1", tool_calls=[CALL])])
    seen = await ask("sse", serve(graph))
    assert (seen.text, seen.finish) == ("", "tool_calls")
    assert seen.raw.count('"weather"') == 1


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_state_without_a_new_answer_is_an_error(front: str, serve: Serve) -> None:
    roles = ("user", "assistant", "user")
    before: Any = [{"role": role, "content": "before"} for role in roles]
    if "grpc" in front:
        before = [chat_pb2.ChatMessage(role=role, content="before") for role in roles]
    seen = await ask(front, serve(Graph([], [])), messages=before)
    assert (seen.reason, seen.text) == ("UPSTREAM_STATUS", "")
