"""Reads what a Runnable returns: messages, text, dicts and graphs' states, each as what a chat completion says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage
from pydantic import BaseModel

from parley_llm.jsontext import dump
from parley_llm.upstream.langchain.refusals import NoAnswerError

_FINISHES = ("finish_reason", "stop_reason", "done_reason", "stopReason")
"""Where OpenAI's, Anthropic's, Ollama's and Bedrock's integrations keep the reason."""
_RESULTS = ("output", "answer")
"""Keys of the dicts that LangChain's agents and retrieval chains return."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a message says, or a piece of one. `tool_calls` are in OpenAI's form, as whole calls or as pieces."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: str = ""

    @property
    def finish(self) -> str:
        """Why the answer ended; a Runnable that returns without saying so has come to its own end."""
        if self.tool_calls and self.finish_reason in ("", "stop"):
            return "tool_calls"
        return self.finish_reason or "stop"


def answer_in(output: object, asked: Sequence[BaseMessage] = ()) -> Said:
    """Return the answer that a Runnable's whole output holds; `asked` is the conversation. Raises NoAnswerError."""
    if isinstance(output, str):
        return Said(output)
    if isinstance(output, BaseMessage):
        return said_by(output)
    if isinstance(output, Sequence):
        return said_by(last_answer(output, asked))
    if isinstance(output, Mapping):
        if isinstance(output.get("messages"), Sequence):
            return said_by(last_answer(output["messages"], asked))
        for key in _RESULTS:
            if key in output:
                return answer_in(output[key], asked)
        return Said(_spelled(output))
    if isinstance(output, BaseModel):
        return Said(output.model_dump_json())
    raise NoAnswerError(f"The Runnable returned a {type(output).__name__}, which is no answer.")


def said_by(message: BaseMessage) -> Said:
    """Return what one message, or a chunk of one, says. Raises NoAnswerError for one that isn't the model's."""
    if isinstance(message, ChatMessage):
        return Said(*_content(message))
    if not isinstance(message, AIMessage):
        raise NoAnswerError(f"The Runnable returned a {type(message).__name__}, which is no answer.")
    calls = _pieces(message) if isinstance(message, AIMessageChunk) else _calls(message)
    return Said(*_content(message), calls, finish_reason(message.response_metadata))


def last_answer(messages: Sequence[Any], asked: Sequence[BaseMessage]) -> AIMessage:
    """Return the last message of the model that was not in the conversation before. Raises NoAnswerError."""
    for message in reversed(messages):
        if isinstance(message, AIMessage) and not any(message is one for one in asked):
            return message
    raise NoAnswerError("The Runnable returned no message of the model.")


def finish_reason(metadata: Mapping[str, Any]) -> str:
    """Return why an answer ended, in small letters; empty where its message's metadata don't say."""
    for name in _FINISHES:
        if isinstance(metadata.get(name), str) and metadata[name]:
            return str(metadata[name]).lower()
    if metadata.get("status") == "incomplete":
        # OpenAI's Responses API tells the reason apart from the status.
        details = metadata.get("incomplete_details")
        return str(details.get("reason") or "error") if isinstance(details, dict) else "error"
    return ""


def _spelled(output: Mapping[Any, Any]) -> str:
    try:
        return dump(dict(output))
    except ValueError as exc:
        raise NoAnswerError("The Runnable returned a dict that is neither a state with messages nor JSON.") from exc


def _content(message: BaseMessage) -> tuple[str, str]:
    """Return text and reasoning."""
    told = message.additional_kwargs.get("reasoning_content")
    reasoning = told if isinstance(told, str) else ""
    if isinstance(message.content, str):
        return message.content, reasoning
    texts: list[str] = []
    thoughts: list[str] = [reasoning]
    for block in message.content:
        if isinstance(block, str):
            texts.append(block)
        elif isinstance(block.get("text"), str) and block.get("type") in ("text", "output_text", None):
            texts.append(block["text"])
        else:
            thoughts.append(_thought(block))
    return "".join(texts), "".join(thoughts)


def _thought(block: Mapping[str, Any]) -> str:
    """Return the reasoning in a content block: LangChain's own form, Anthropic's, OpenAI's, Bedrock's."""
    kind = block.get("type")
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        return str(block["thinking"])
    if kind == "reasoning":
        if isinstance(block.get("reasoning"), str):
            return str(block["reasoning"])
        summary = block.get("summary")
        parts = summary if isinstance(summary, list) else []
        return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
    inner = block.get("reasoning_content") if kind == "reasoning_content" else None
    return str(inner.get("text") or "") if isinstance(inner, dict) else ""


def _calls(message: AIMessage) -> tuple[dict[str, Any], ...]:
    whole = [_call(call["id"], call["name"], dump(call["args"])) for call in message.tool_calls]
    return (*whole, *(_call(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls))


def _call(call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {"name": name or "", "arguments": arguments or ""}
    return {"id": call_id or "", "type": "function", "function": function}


def _pieces(message: AIMessageChunk) -> tuple[dict[str, Any], ...]:
    pieces = []
    for position, chunk in enumerate(message.tool_call_chunks):
        # Integrations may count otherwise than OpenAI, or not at all; an answer's reader puts that right.
        index = chunk["index"] if isinstance(chunk["index"], int) else position
        piece: dict[str, Any] = {"index": index, "function": {"arguments": chunk["args"] or ""}}
        if chunk["id"]:
            piece |= {"id": chunk["id"], "type": "function"}
        if chunk["name"]:
            piece["function"]["name"] = chunk["name"]
        pieces.append(piece)
    return tuple(pieces)
