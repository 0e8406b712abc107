"""Serves chat completions by a Runnable: a chat model, a chain, an agent, a graph."""

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from parley_llm.jsontext import load
from parley_llm.upstream.langchain.binding import Binder
from parley_llm.upstream.langchain.failures import refusal_for
from parley_llm.upstream.langchain.following import Follower, GraphFollower, PieceFollower
from parley_llm.upstream.langchain.inputs import Kind, shape_for
from parley_llm.upstream.langchain.messages import messages_from
from parley_llm.upstream.langchain.outputs import answer_in
from parley_llm.upstream.langchain.refusals import CutOffError
from parley_llm.upstream.langchain.running import Refused, Runs
from parley_llm.upstream.langchain.spelling import Completion
from parley_llm.upstream.langchain.watching import ModelCalls, usage_of
from parley_llm.upstream.transport import Incoming, Outgoing

_GRAPH_MODES = ["messages", "values"]
"""What a LangGraph graph gives out: its models' words as they come, and its state after each step."""


class RunnableTransport:
    """Answers each chat completion by a run of the Runnable."""

    def __init__(self, name: str, runnable: Runnable[Any, Any], takes: Kind | Literal["auto"], most_calls: int) -> None:
        """`most_calls` run at a time. Raises ValueError when the Runnable needs what a conversation doesn't have."""
        self._shape = shape_for(runnable, takes)
        self._binder = Binder(runnable)
        self._is_graph = _is_graph(runnable)
        self._name = name
        self._runs = Runs(name, most_calls)

    @property
    def takes_tools(self) -> bool:
        """Whether calls may bring tools."""
        return self._binder.takes_tools

    async def send(self, request: Outgoing, connect_by: float, answer_by: float) -> Incoming:
        body: dict[str, Any] = load(request.body if isinstance(request.body, bytes) else b"{}")
        try:
            run = self._run(body, request)
        except Exception as exc:  # noqa: BLE001 - the Runnable has a say in how parameters are bound
            return Refused(refusal_for(exc, self._name, request.request_id))
        if body.get("stream"):
            return await self._runs.start(request, run.stream(), "text/event-stream", answer_by)
        return await self._runs.start(request, run.whole(), "application/json", answer_by)

    def close(self) -> None:
        """Nothing is idle: runs in work finish."""

    def _run(self, body: Mapping[str, Any], request: Outgoing) -> "_Run":
        told = {
            "request_id": request.request_id,
            "caller": request.caller,
            "model": body.get("model"),
            "user": body.get("user"),
        }
        calls = ModelCalls()
        config = RunnableConfig(
            metadata={name: value for name, value in told.items() if isinstance(value, str) and value},
            callbacks=[calls],
        )
        options = body.get("stream_options")
        messages = messages_from(body.get("messages"))
        return _Run(
            self._binder.bound(body),
            messages,
            self._shape.of(messages),
            config,
            calls,
            Completion(body.get("model")),
            wants_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            is_graph=self._is_graph,
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of the Runnable, ready to begin."""

    runnable: Runnable[Any, Any]
    messages: list[BaseMessage]
    input: Any
    config: RunnableConfig
    calls: ModelCalls
    completion: Completion
    wants_usage: bool
    is_graph: bool

    async def whole(self) -> AsyncGenerator[bytes]:
        """Give the whole answer as one piece."""
        output = await self.runnable.ainvoke(self.input, self.config)
        tokens = output.usage_metadata if isinstance(output, AIMessage) else None
        yield self.completion.whole(answer_in(output, self.messages), self._usage(tokens))

    async def stream(self) -> AsyncGenerator[bytes]:
        """Give the answer as events."""
        kind = GraphFollower if self.is_graph else PieceFollower
        follower: Follower = kind(self.completion, self.messages)
        modes: dict[str, Any] = {"stream_mode": _GRAPH_MODES} if self.is_graph else {}
        pieces = self.runnable.astream(self.input, self.config, **modes)
        async with AsyncExitStack() as stack:
            if isinstance(pieces, AsyncGenerator):
                stack.push_async_callback(pieces.aclose)
            async for piece in pieces:
                for event in follower.feed(piece):
                    yield event
        events, said = follower.end()
        usage = self._usage(follower.tokens)
        for event in [*events, *self.completion.end(said.finish, usage if self.wants_usage else None)]:
            yield event

    def _usage(self, reported: UsageMetadata | None) -> dict[str, Any] | None:
        """Return the tokens of the run's model calls, else those its output reports. Raises CutOffError."""
        if self.calls.cut_off:
            raise CutOffError("A model's answer ended without a finish_reason: it is not complete.")
        tokens = self.calls.tokens or reported
        return usage_of(tokens) if tokens else None


def _is_graph(runnable: Runnable[Any, Any]) -> bool:
    """Tell whether a Runnable is a graph: only these can stream in several modes."""
    inner = runnable
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    return "stream_mode" in inspect.signature(inner.astream).parameters
