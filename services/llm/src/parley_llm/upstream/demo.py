"""The built-in model: no network, no key, always the same answer to the same question, labelled as a demo.

It speaks the chat completions format at the level of HTTP, so everything between the callers and an upstream
works with it as with any other: attempts, streams, usage, limits.
"""

import asyncio
import hashlib
from importlib import resources
from typing import Any

import orjson

from parley_llm.upstream.connection import ResponseFormatError
from parley_llm.upstream.transport import Incoming, Outgoing

LABEL = "(demo: this answer comes from Parley's built-in demo model, not from a language model)"
CHUNK_CHARACTERS = 12
CHUNK_INTERVAL_S = 0.01
GIST_CHARACTERS = 120


class DemoTransport:
    """Answers each request from memory."""

    async def send(self, request: Outgoing, connect_by: float, answer_by: float) -> Incoming:
        if not isinstance(request.body, bytes):
            raise ResponseFormatError("the demo model takes no uploads")
        body: dict[str, Any] = orjson.loads(request.body)
        text = answer(body.get("messages"))
        usage = _usage(request.body, text)
        head = {
            "id": "chatcmpl-demo-" + hashlib.sha256(request.body).hexdigest()[:16],
            "created": 0,
            "model": body.get("model", "demo"),
        }
        if not body.get("stream"):
            return _DemoResponse("application/json", [_completion(head, text, usage)], 0.0)
        options = body.get("stream_options") or {}
        chunks = _chunks(head, text, usage if options.get("include_usage") else None)
        return _DemoResponse("text/event-stream", chunks, CHUNK_INTERVAL_S)

    def close(self) -> None:
        """Nothing is open."""


class _DemoResponse:
    """An answer that is given out piece by piece, with the pace of a model."""

    status = 200

    def __init__(self, content_type: str, pieces: list[bytes], interval_s: float) -> None:
        self.headers = {"content-type": content_type}
        self._pieces = pieces
        self._interval_s = interval_s

    async def read(self, by: float, limit: int, idle_s: float) -> bytes:
        return b"".join(self._pieces)

    async def next(self, by: float) -> bytes:
        if not self._pieces:
            return b""
        await asyncio.sleep(self._interval_s)
        return self._pieces.pop(0)

    def close(self, *, finished: bool = False) -> None:
        self._pieces = []


def answer(messages: object) -> str:
    """Return the demo's answer to a conversation."""
    question = _question(messages)
    gist = question if len(question) <= GIST_CHARACTERS else question[:GIST_CHARACTERS].rstrip() + "…"
    quoted = gist.replace("\n", " ").strip()
    if "markdown" in question.lower():
        sample = resources.files("parley_llm.upstream").joinpath("demo.md").read_text(encoding="utf-8")
        return f"{sample.rstrip()}\n\n{LABEL}"
    said = f"You said: “{quoted}”" if quoted else "You sent no text."
    return f"{said}\n\nAsk for **markdown** to see what an answer can look like.\n\n{LABEL}"


def _question(messages: object) -> str:
    """Return the text of the last message of the user."""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, list) else []
            return " ".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
    return ""


def _usage(request: bytes, text: str) -> dict[str, int]:
    prompt, completion = max(1, len(request) // 4), max(1, len(text) // 4)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(head: dict[str, Any], text: str, usage: dict[str, int]) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return orjson.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _chunks(head: dict[str, Any], text: str, usage: dict[str, int] | None) -> list[bytes]:
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text[at : at + CHUNK_CHARACTERS]}, None) for at in range(0, len(text), CHUNK_CHARACTERS)]
    deltas.append(({}, "stop"))
    shared = {**head, "object": "chat.completion.chunk"}
    chunks = [
        _event({**shared, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        for delta, finish in deltas
    ]
    if usage is not None:
        chunks.append(_event({**shared, "choices": [], "usage": usage}))
    chunks.append(b"data: [DONE]\n\n")
    return chunks


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
