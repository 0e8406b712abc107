"""What the upstream answers beside chat: each endpoint as OpenAI's API reference shows it, made for the request."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes.openai_upstream import DONE, Reply, Request, event, plain, stream

CREATED = 1700000000
SAID = "Hello from a file."
PICTURE = b"\x89PNG\r\n\x1a\n\x00picture"
SOUND = bytes(range(256)) * 200
ANSWER = ("One ", "answer.")
BREAK = "break off"
"""What a request for a stream says to have it broken midway."""
_TOKENS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
_DETAILS = {"text_tokens": 3, "image_tokens": 0}
_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def vector(text: str) -> list[float]:
    """Return the embedding of a text: numbers that single precision holds exactly."""
    return [float(len(text)), 0.5, -0.25]


def _json(body: dict[str, Any]) -> Reply:
    return plain(200, json.dumps(body).encode())


def _pieces(request: Request, pieces: list[bytes], media_type: str = "text/event-stream") -> Reply:
    """Stream the pieces; when the request says BREAK anywhere, break off before the last one."""
    steps: list[bytes | str] = [*pieces[:-1], "cut"] if BREAK.encode() in request.body else list(pieces)
    return stream(*steps, headers={"content-type": media_type})


def _named(request: Request, events: list[dict[str, Any]]) -> Reply:
    return _pieces(request, [b"event: %b\n%b" % (one["type"].encode(), event(one)) for one in events])


def _completion(request: Request) -> Reply:
    body = request.json
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": body["model"]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

    def choice(text: str, finish: str | None) -> dict[str, Any]:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}

    if not body.get("stream"):
        return _json({**head, "choices": [choice("".join(ANSWER), "stop")], "usage": usage})
    chunks = [choice(ANSWER[0], None), choice(ANSWER[1], "stop")]
    spelled = [event({**head, "choices": [one], "usage": None}) for one in chunks]
    return _pieces(request, [spelled[0], spelled[1] + event({**head, "choices": [], "usage": usage}) + DONE])


def _response(request: Request) -> Reply:
    body = request.json
    part = {"type": "output_text", "text": "".join(ANSWER), "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    response = {
        "id": "resp_1", "object": "response", "created_at": CREATED, "status": "completed", "model": body["model"],
        "output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1.0,
        "top_p": 1.0, "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "usage": {
            **_TOKENS,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip
    if not body.get("stream"):
        return _json(response)
    numbered = enumerate(_response_events(response, item, part))
    return _named(request, [{"sequence_number": number, **one} for number, one in numbered])


def _response_events(response: dict[str, Any], item: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    at_item = {"output_index": 0}
    at_part = {**at_item, "content_index": 0, "item_id": item["id"]}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    yield {
        "type": "response.output_item.added", **at_item, "item": {**item, "status": "in_progress", "content": []}
    }  # fmt: skip
    yield {"type": "response.content_part.added", **at_part, "part": {**part, "text": ""}}
    for text in ANSWER:
        yield {"type": "response.output_text.delta", **at_part, "delta": text, "logprobs": []}
    yield {"type": "response.output_text.done", **at_part, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **at_part, "part": part}
    yield {"type": "response.output_item.done", **at_item, "item": item}
    yield {"type": "response.completed", "response": response}


def _embeddings(request: Request) -> Reply:
    body = request.json
    asked = body["input"]
    inputs = [asked] if isinstance(asked, str) or isinstance(asked[0], int) else asked
    data = []
    for index, text in enumerate(inputs):
        numbers = vector(text)
        packed = base64.b64encode(struct.pack("<3f", *numbers)).decode()
        embedding = packed if body.get("encoding_format") == "base64" else numbers
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return _json({"object": "list", "model": body["model"], "data": data, "usage": usage})


def _picture(request: Request) -> Reply:
    picture = base64.b64encode(PICTURE).decode()
    usage = {**_TOKENS, "input_tokens_details": _DETAILS}
    looks = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    if request.headers["content-type"] == "application/json" and request.json.get("stream"):
        common = {"b64_json": picture, "created_at": CREATED, **looks}
        return _named(
            request,
            [
                {"type": "image_generation.partial_image", "partial_image_index": 0, **common},
                {"type": "image_generation.completed", "usage": usage, **common},
            ],
        )
    return _json({"created": CREATED, "data": [{"b64_json": picture}], "usage": usage, **looks})


def _transcription(request: Request) -> Reply:
    fields = {part.name: part.data.decode() for part in request.form if part.filename is None}
    usage = {"type": "tokens", **_TOKENS, "input_token_details": {"text_tokens": 0, "audio_tokens": 3}}
    if fields.get("stream") == "true":
        deltas = [{"type": "transcript.text.delta", "delta": word} for word in ("Hello ", "from a file.")]
        return _named(request, [*deltas, {"type": "transcript.text.done", "text": SAID, "usage": usage}])
    if fields.get("response_format") == "text":
        return plain(200, SAID.encode() + b"\n", {"content-type": "text/plain; charset=utf-8"})
    return _json({"text": SAID, "usage": usage})


def _translation(_: Request) -> Reply:
    return _json({"text": SAID})


def _speech(request: Request) -> Reply:
    return _pieces(request, [SOUND[:1000], SOUND[1000:]], "audio/mpeg")


def _moderation(request: Request) -> Reply:
    texts = [request.json["input"]] if isinstance(request.json["input"], str) else request.json["input"]
    result = {
        "flagged": True,
        "categories": {name: name == "violence" for name in _CATEGORIES},
        "category_scores": {name: 0.9 if name == "violence" else 0.001 for name in _CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    return _json({"id": "modr-1", "model": request.json["model"], "results": [result] * len(texts)})


ENDPOINTS: dict[str, Callable[[Request], Reply]] = {
    "/completions": _completion,
    "/responses": _response,
    "/embeddings": _embeddings,
    "/images/generations": _picture,
    "/images/edits": _picture,
    "/audio/transcriptions": _transcription,
    "/audio/translations": _translation,
    "/audio/speech": _speech,
    "/moderations": _moderation,
}
