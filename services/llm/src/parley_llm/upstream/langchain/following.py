"""Follows what a Runnable gives out piece by piece, and says each piece on as events of a stream."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from parley_llm.upstream.langchain.outputs import Said, answer_in, last_answer, said_by
from parley_llm.upstream.langchain.spelling import Completion


class Follower(Protocol):
    """Takes a Runnable's pieces in order, then `end`."""

    tokens: UsageMetadata | None
    """Tokens that the pieces themselves report."""

    def feed(self, piece: Any) -> list[bytes]:
        """Return the events that a piece makes."""

    def end(self) -> tuple[list[bytes], Said]:
        """Return the events that are missing, and the end of the answer. Raises NoAnswerError."""


class PieceFollower:
    """Text and messages pass on at once; what comes in other pieces is put together as LangChain does, by adding."""

    def __init__(self, completion: Completion, asked: Sequence[BaseMessage]) -> None:
        self.tokens: UsageMetadata | None = None
        self._completion = completion
        self._asked = asked
        self._heard = False
        self._rest: Any = None
        self._finish_reason = ""
        self._calls: tuple[dict[str, Any], ...] = ()

    def feed(self, piece: Any) -> list[bytes]:
        if isinstance(piece, str):
            self._heard = True
            return self._completion.delta(Said(piece))
        if not isinstance(piece, AIMessage | ChatMessage):
            self._rest = _sum(self._rest, piece)
            return []
        self._heard = True
        said = said_by(piece)
        self._finish_reason = said.finish_reason or self._finish_reason
        self._calls = said.tool_calls or self._calls
        if isinstance(piece, AIMessage):
            self.tokens = add_usage(self.tokens, piece.usage_metadata) if piece.usage_metadata else self.tokens
        return self._completion.delta(said)

    def end(self) -> tuple[list[bytes], Said]:
        if self._heard:
            return [], Said(tool_calls=self._calls, finish_reason=self._finish_reason)
        said = answer_in(self._rest, self._asked)
        return self._completion.delta(said), said


class GraphFollower:
    """Takes (mode, piece) of a graph's modes `messages` and `values`: its models' words as they come, and its state.

    The answer is the last message of the final state. What models say on the way there passes on too, as nobody knows
    yet that it isn't the end, with a blank line between messages; tool calls don't, since the graph makes them itself.
    """

    def __init__(self, completion: Completion, asked: Sequence[BaseMessage]) -> None:
        self.tokens: UsageMetadata | None = None
        self._completion = completion
        self._asked = asked
        self._state: Any = None
        self._speaking: str | None = None
        self._heard: set[str | None] = set()

    def feed(self, piece: Any) -> list[bytes]:
        mode, content = piece
        if mode == "values":
            self._state = content
            return []
        message: BaseMessage = content[0]
        return self._pass_on(message.id, said_by(message)) if isinstance(message, AIMessage) else []

    def end(self) -> tuple[list[bytes], Said]:
        messages = self._state.get("messages") if isinstance(self._state, Mapping) else None
        answer = last_answer(messages, self._asked) if isinstance(messages, list) else None
        said = said_by(answer) if answer is not None else answer_in(self._state, self._asked)
        if answer is not None and answer.id in self._heard:
            return self._completion.delta(Said(tool_calls=said.tool_calls)), said
        # A node that doesn't stream, or a state without messages.
        events = self._pass_on(answer.id if answer is not None else None, said)
        return [*events, *self._completion.delta(Said(tool_calls=said.tool_calls))], said

    def _pass_on(self, message_id: str | None, said: Said) -> list[bytes]:
        text = said.text
        if not text and not said.reasoning:
            return []
        if text and self._heard and message_id != self._speaking:
            text = "\n\n" + text
        if text:
            self._speaking = message_id
            self._heard.add(message_id)
        return self._completion.delta(Said(text, said.reasoning))


def _sum(before: Any, piece: Any) -> Any:
    if before is None:
        return piece
    try:
        return before + piece
    except TypeError:
        # Pieces that can't be added are states, each of which holds the ones before.
        return piece
