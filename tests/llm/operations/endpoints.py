"""The endpoints besides chat that take and give JSON: a good request to each, and how an upstream answers it well."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse
from openai.types.responses import Response
from pydantic import BaseModel

from tests.fakes.openai_upstream import DONE, USAGE, OpenAIUpstream, Reply, event, plain, stream
from tests.llm.conftest import Running, settings_for

HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": "fake-model"}
COUNTED = {
    "input_tokens": 7,
    "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}


def piece(text: str = "", *, finish: str | None = None, index: int = 0) -> bytes:
    """Spell a chunk of a text completion."""
    return event({**HEAD, "choices": [{"text": text, "index": index, "logprobs": None, "finish_reason": finish}]})


PIECES_END = piece(finish="stop")
PIECES_USAGE = event({**HEAD, "choices": [], "usage": USAGE})


def response(status: str = "completed", text: str = "Hello!", **more: Any) -> dict[str, Any]:
    """Return a response as OpenAI describes it."""
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    done = status in ("completed", "incomplete")
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "fake-model",
        "output": [item] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": COUNTED if done else None,
        **more,
    }


def typed(kind: str, **members: Any) -> bytes:
    """Spell an event with a name."""
    return b"event: %b\n" % kind.encode() + event({"type": kind, "sequence_number": 0, **members})


def said(text: str) -> bytes:
    """Spell the event that carries a piece of a response's text."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return typed("response.output_text.delta", **place, delta=text, logprobs=[])


def ended(status: str = "completed", **more: Any) -> bytes:
    """Spell the event that ends a response."""
    return typed(f"response.{status}", response=response(status, **more))


_ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
PRELUDE = (
    typed("response.created", response=response("in_progress")),
    typed("response.in_progress", response=response("in_progress")),
    typed("response.output_item.added", output_index=0, item=_ITEM),
    typed(
        "response.content_part.added",
        item_id="msg_1",
        output_index=0,
        content_index=0,
        part={"type": "output_text", "text": "", "annotations": []},
    ),
)


def embeddings(*vectors: Any, start: int = 0, tokens: int = 4) -> dict[str, Any]:
    """Return an answer with these embeddings."""
    data = [{"object": "embedding", "index": start + at, "embedding": one} for at, one in enumerate(vectors)]
    return {
        "object": "list",
        "data": data,
        "model": "fake-model",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def moderation() -> dict[str, Any]:
    """Return an answer that finds nothing wrong."""
    kinds: dict[str, list[str]] = {name: ["text"] for name in _CATEGORIES}
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.5),
        "category_applied_input_types": kinds,
    }
    return {"id": "modr-1", "model": "fake-model", "results": [result]}


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One endpoint, with a request and a good answer; `events` is the answer as a stream, empty when there is none."""

    name: str
    path: str
    body: dict[str, Any]
    answer: dict[str, Any]
    model: type[BaseModel]
    start: tuple[bytes, ...] = field(default=(), repr=False)
    """The events before the first content."""
    content: bytes = field(default=b"", repr=False)
    end: tuple[bytes, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.name

    def reply(self, *, streaming: bool = False) -> Reply:
        """Answer well."""
        return self.streamed() if streaming else plain(200, json.dumps(self.answer).encode())

    def streamed(self) -> Reply:
        """Answer well as a stream."""
        return stream(*self.start, self.content, *self.end)

    async def ask(
        self, service: Running, headers: dict[str, str] | None = None, *, streaming: bool = False, **more: Any
    ) -> httpx2.Response:
        """Call it; `more` are further members of the body, None takes one out."""
        body = {**self.body, **({"stream": True} if streaming else {}), **more}
        body = {name: value for name, value in body.items() if value is not None}
        return await service.http.post(f"/v1{self.path}", json=body, headers=headers)


COMPLETIONS = Endpoint(
    "text_completion",
    "/completions",
    {"model": "chat", "prompt": "Say hello."},
    {
        **HEAD,
        "choices": [{"text": "Hello!", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
    },
    Completion,
    (piece(),),
    piece("Hello!"),
    (PIECES_END, PIECES_USAGE, DONE),
)
RESPONSES = Endpoint(
    "responses",
    "/responses",
    {"model": "chat", "input": "Say hello."},
    response(),
    Response,
    PRELUDE,
    said("Hello!"),
    (ended(),),
)
EMBEDDINGS = Endpoint(
    "embeddings",
    "/embeddings",
    {"model": "chat", "input": ["a", "b"]},
    embeddings([0.25, 0.5], [0.75, 1.0]),
    CreateEmbeddingResponse,
)
MODERATIONS = Endpoint(
    "moderation",
    "/moderations",
    {"model": "chat", "input": "Is this fine?"},
    moderation(),
    ModerationCreateResponse,
)
ALL = [COMPLETIONS, RESPONSES, EMBEDDINGS, MODERATIONS]
STREAMING = [COMPLETIONS, RESPONSES]
FORMS = [*((one, False) for one in ALL), *((one, True) for one in STREAMING)]
"""Each endpoint with its ways to answer: whole, and as a stream."""


def form_id(value: object) -> str:
    """Name an endpoint or a way to answer in a test's id."""
    return ("stream" if value else "whole") if isinstance(value, bool) else str(value)


def events_of(answer: httpx2.Response) -> list[tuple[str, Any]]:
    """Return the events of a stream: names and decoded data, `[DONE]` as text. Comments vanish."""
    found: list[tuple[str, Any]] = []
    for block in answer.text.split("\n\n"):
        name, lines = "", [line for line in block.split("\n") if line and not line.startswith(":")]
        for line in lines:
            if line.startswith("event: "):
                name = line[7:]
            else:
                assert line.startswith("data: "), line
                found.append((name, line[6:] if line == "data: [DONE]" else json.loads(line[6:])))
    return found


def told(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of a call: of the answer, or the one that ends a stream."""
    if answer.status_code == 200:
        name, last = events_of(answer)[-1]
        named = "/responses" in str(answer.request.url)
        assert name == ("error" if named else "")
        assert not named or (last["type"], last["message"]) == ("error", last["error"]["message"])
        error: dict[str, Any] = last["error"]
        return error
    whole: dict[str, Any] = answer.json()["error"]
    return whole


def attempts(answer: httpx2.Response) -> int:
    """Return how many attempts the answer says were made."""
    return int(answer.headers["x-parley-attempts"])


def preset_settings(upstreams: dict[str, OpenAIUpstream], **model: Any) -> dict[str, Any]:
    """Return settings over upstreams by preset name, in this order."""
    settings = settings_for(*upstreams.values(), **model)
    for one, name in zip(settings["upstreams"].values(), upstreams, strict=True):
        one["preset"] = name
    return settings
