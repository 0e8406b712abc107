"""Spells what a Runnable says as a chat completion, whole or as the events of a stream."""

import random
import time
from typing import Any

from parley_llm.jsontext import dump
from parley_llm.upstream.langchain.outputs import Said

DONE = b"data: [DONE]\n\n"


class Completion:
    """One answer: its identity, and its spelling."""

    def __init__(self, model: object) -> None:
        self._head = {
            "id": f"chatcmpl-{random.getrandbits(96):024x}",
            "created": int(time.time()),
            "model": model if isinstance(model, str) else "",
        }
        self._begun = False

    def whole(self, said: Said, usage: dict[str, Any] | None) -> bytes:
        """Spell a whole answer; without `usage` it has none, since nobody counted."""
        message: dict[str, Any] = {"role": "assistant", "content": said.text or (None if said.tool_calls else "")}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        if said.tool_calls:
            message["tool_calls"] = list(said.tool_calls)
        choice = {"index": 0, "message": message, "finish_reason": said.finish}
        body = {**self._head, "object": "chat.completion", "choices": [choice]}
        return dump(body | ({"usage": usage} if usage else {})).encode()

    def delta(self, said: Said) -> list[bytes]:
        """Spell a piece of an answer as an event, none when it says nothing."""
        delta: dict[str, Any] = {}
        if said.reasoning:
            delta["reasoning_content"] = said.reasoning
        if said.text:
            delta["content"] = said.text
        if said.tool_calls:
            # Whole calls have no index yet.
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(said.tool_calls)]
        return [self._chunk(delta, None)] if delta else []

    def end(self, finish: str, usage: dict[str, Any] | None) -> list[bytes]:
        """Spell the regular end of a stream."""
        counted = [self._event({"choices": [], "usage": usage})] if usage else []
        return [self._chunk({}, finish), *counted, DONE]

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> bytes:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def _event(self, members: dict[str, Any]) -> bytes:
        return b"data: " + dump({**self._head, "object": "chat.completion.chunk", **members}).encode() + b"\n\n"
