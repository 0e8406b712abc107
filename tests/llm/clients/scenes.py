"""What the upstream answers in the tests of clients: the question, which is the last message's text, names the scene.

Every client plays the same scenes, whatever it is written in, and so checks the same promises. A scene with several
replies takes them in turn.
"""

import json
from collections import Counter
from typing import Any

from tests.fakes.openai_upstream import (
    CHUNK_HEAD,
    DONE,
    FINISH,
    ROLE,
    USAGE_CHUNK,
    Peer,
    Reply,
    completion,
    delta,
    event,
    stall,
    status,
    stream,
)
from tests.llm.clients.endpoints import ENDPOINTS

GREETING = ("Hel", "lo, ", "wörld", "! 你好")
BUSY_MS = 700
"""Longer than OpenAI's clients wait by themselves before a first repetition, which is 500 ms at most."""
WEATHER = {"city": "Paris", "degrees": 21}
_WEATHER_JSON = json.dumps(WEATHER)
_CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": _WEATHER_JSON}}


class Scenes:
    """The upstream's one reply: plays the scene that the request names."""

    def __init__(self) -> None:
        self._turns: Counter[tuple[str, bool]] = Counter()

    async def __call__(self, peer: Peer) -> None:
        """Answer one request."""
        _, _, path = peer.request.target.rpartition("/v1")
        if path != "/chat/completions":
            await ENDPOINTS[path](peer.request)(peer)
            return
        body = peer.request.json
        name, streaming = question_of(body), body.get("stream") is True
        replies = _replies(name, body, streaming=streaming)
        turn = self._turns[name, streaming]
        self._turns[name, streaming] += 1
        await replies[turn % len(replies)](peer)


def question_of(body: dict[str, Any]) -> str:
    """Return the last user message's text; tool results may follow it."""
    (*_, content) = (message["content"] for message in body["messages"] if message["role"] == "user")
    if isinstance(content, list):
        content = content[0]["text"]
    assert isinstance(content, str)
    return content


def _replies(name: str, body: dict[str, Any], *, streaming: bool) -> list[Reply]:
    greet = _greet_in_pieces() if streaming else completion("".join(GREETING), vendor_note={"big": 2**60 + 1})
    match name:
        case "greet":
            return [greet]
        case "weather":
            return [_weather(body, streaming=streaming)]
        case "busy":
            return [status(429, {"retry-after-ms": str(BUSY_MS)}), greet]
        case "exhausted":
            return [status(429, {"retry-after": "7"})]
        case "revoked":
            return [status(401)]
        case "break":
            return [stream(ROLE, delta("Hel"), "cut")]
        case "endless":
            return [stream(ROLE, delta("Hel"), "stall")]
        case "silent":
            return [stall()]
        case _:
            return [status(418, message=f"there is no scene {name[:40]!r}")]


def _greet_in_pieces() -> Reply:
    noted = event({**CHUNK_HEAD, "choices": [], "vendor_note": {"big": 2**60 + 1}})
    return stream(ROLE, *(delta(text) for text in GREETING), noted, FINISH, USAGE_CHUNK, DONE)


def _weather(body: dict[str, Any], *, streaming: bool) -> Reply:
    """Call the tool, if there is one to call and it has not answered yet; else answer in JSON."""
    if "tools" not in body or any(message["role"] == "tool" for message in body["messages"]):
        return stream(ROLE, delta(_WEATHER_JSON), FINISH, USAGE_CHUNK, DONE) if streaming else completion(_WEATHER_JSON)
    call = {**_CALL, "function": {**_CALL["function"], "name": body["tools"][0]["function"]["name"]}}  # type: ignore[dict-item]
    if not streaming:
        return completion(message={"content": None, "tool_calls": [call]}, finish="tool_calls")
    half = len(_WEATHER_JSON) // 2
    begin = {**call, "index": 0, "function": {**call["function"], "arguments": _WEATHER_JSON[:half]}}  # type: ignore[dict-item]
    rest = {"index": 0, "function": {"arguments": _WEATHER_JSON[half:]}}
    pieces = [delta(tool_calls=[begin]), delta(tool_calls=[rest]), delta(finish="tool_calls"), USAGE_CHUNK, DONE]
    return stream(ROLE, *pieces)
