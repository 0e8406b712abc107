"""Calls to the endpoints for sound and pictures, and what a scripted upstream answers to them."""

import json
from typing import Any

import httpx2

from tests.fakes.openai_upstream import Reply, plain
from tests.llm.conftest import Running

SOUND = bytes(range(256)) * 40
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TEXT = "I see skies of blue — 蓝天。"


async def transcribe(
    service: Running, sound: bytes = SOUND, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    """Send a file and the fields of a form; `path` is another endpoint."""
    path = fields.pop("path", "transcriptions")
    return await service.http.post(
        f"/v1/audio/{path}",
        data={"model": "chat", **fields},
        files={"file": ("speech.wav", sound, "audio/wav")},
        headers=headers,
    )


def transcript(text: str = TEXT, **more: Any) -> Reply:
    """Answer with a transcription as JSON."""
    return plain(200, json.dumps({"text": text, **more}).encode())


def said(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the events of a stream, decoded; nothing else may be in it."""
    events = []
    for block in response.text.strip().split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if not lines:
            continue
        name = lines.pop(0).removeprefix("event: ") if lines[0].startswith("event: ") else ""
        (line,) = lines
        assert line.startswith("data: ")
        decoded = json.loads(line[6:])
        assert name in ("", decoded.get("type"))
        events.append(decoded)
    return events


def named(kind: str, **members: Any) -> bytes:
    """Spell an event with a name, as OpenAI does for pictures."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def error_of(response: httpx2.Response) -> tuple[int, str]:
    """Return status and reason of a failed call."""
    return response.status_code, response.json()["error"]["reason"]
