"""curl, as scripts use it."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.llm.clients.conftest import KEY, LIMITED_KEY, Door
from tests.llm.clients.endpoints import SAID, SOUND
from tests.llm.clients.programs import client_env
from tests.llm.clients.scenes import GREETING


async def start(door: Door, path: str, *options: str, key: str = KEY) -> asyncio.subprocess.Process:
    """Start curl."""
    return await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "-H", f"authorization: Bearer {key}", *options, door.base_url + path,
        env=client_env(door), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def curl(door: Door, path: str, *options: str, key: str = KEY) -> str:
    """Run curl and return what it printed."""
    process = await start(door, path, *options, key=key)
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return printed.decode()


def chat(question: str, **more: object) -> tuple[str, ...]:
    """Return the options that send a chat request."""
    body = {"model": "chat", "messages": [{"role": "user", "content": question}], **more}
    return "-H", "content-type: application/json", "-d", json.dumps(body)


def events(printed: str) -> list[str]:
    """Return the data of each event."""
    return [line.removeprefix("data: ") for line in printed.splitlines() if line.startswith("data: ")]


async def test_an_answer(door: Door) -> None:
    answer = json.loads(await curl(door, "/chat/completions", *chat("greet", top_k=5)))
    assert answer["choices"][0]["message"]["content"] == "".join(GREETING)
    assert answer["vendor_note"] == {"big": 2**60 + 1}
    assert door.asked("greet")[-1].json["top_k"] == 5


async def test_a_stream(door: Door) -> None:
    options = chat("greet", stream=True, stream_options={"include_usage": True})
    *chunks, done = events(await curl(door, "/chat/completions", "--no-buffer", *options))
    decoded = [json.loads(chunk) for chunk in chunks]
    texts = [choice["delta"].get("content") for chunk in decoded for choice in chunk["choices"]]
    assert [text for text in texts if text] == list(GREETING)
    assert decoded[-1]["usage"]["total_tokens"] == 12
    assert done == "[DONE]"


async def test_tools(door: Door) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather"}}]
    answer = json.loads(await curl(door, "/chat/completions", *chat("weather", tools=tools)))
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize(
    ("question", "key", "status", "reason"),
    [("greet", "wrong", "401", "UNAUTHENTICATED"), ("exhausted", KEY, "429", "UPSTREAM_RATE_LIMITED")],
)
async def test_errors(question: str, key: str, status: str, reason: str, door: Door) -> None:
    written = "\n%{http_code} %header{retry-after}"
    printed = await curl(door, "/chat/completions", "-w", written, *chat(question), key=key)
    body, _, code = printed.rpartition("\n")
    assert code.split() == ([status, "7"] if status == "429" else [status])
    assert json.loads(body)["error"]["reason"] == reason


async def test_the_callers_own_limit(door: Door) -> None:
    await curl(door, "/chat/completions", *chat("greet"), key=LIMITED_KEY)
    printed = await curl(door, "/chat/completions", "-i", *chat("greet"), key=LIMITED_KEY)
    assert printed.startswith("HTTP/1.1 429")
    assert "RATE_LIMITED" in printed


async def test_curls_own_retry_waits_as_long_as_it_is_told(door: Door) -> None:
    answer = json.loads(await curl(door, "/chat/completions", "--fail", "--retry", "2", *chat("busy")))
    assert answer["choices"][0]["message"]["content"] == "".join(GREETING)
    first, second = door.asked("busy")
    assert second.at - first.at >= 0.99, "curl obeys whole seconds: 700 ms became 1 s"


async def test_a_stream_broken_midway(door: Door) -> None:
    *_, begun, last = events(await curl(door, "/chat/completions", *chat("break", stream=True)))
    assert json.loads(begun)["choices"][0]["delta"]["content"] == "Hel"
    assert json.loads(last)["error"]["reason"] == "STREAM_BROKEN"


async def test_interrupting_curl_reaches_the_upstream(door: Door) -> None:
    process = await start(door, "/chat/completions", "--no-buffer", *chat("endless", stream=True))
    assert process.stdout is not None
    while b"Hel" not in await asyncio.wait_for(process.stdout.readline(), 10):
        pass
    left_at = time.monotonic()
    process.terminate()
    await door.assert_cancelled("endless", left_at)
    await process.wait()


async def test_a_long_body_waits_for_100_continue(door: Door, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    messages = [{"role": "user", "content": "greet"}]
    body.write_text(json.dumps({"model": "chat", "messages": messages, "padding": "x" * 2_000_000}))
    options = ("-v", "-H", "content-type: application/json", "--data-binary", f"@{body}")
    process = await start(door, "/chat/completions", *options)
    printed, told = await process.communicate()
    assert b"Expect: 100-continue" in told
    assert b"HTTP/1.1 100 Continue" in told
    assert json.loads(printed)["choices"]
    assert door.asked("greet")[-1].json["padding"] == "x" * 2_000_000


async def test_sound_up_and_down(door: Door, sound_file: bytes, tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes(sound_file)
    form = ("-F", "model=chat", "-F", f"file=@{tmp_path / 'hello.wav'}")
    assert json.loads(await curl(door, "/audio/transcriptions", *form))["text"] == SAID
    (part,) = [part for part in door.reached("/audio/transcriptions")[-1].form if part.filename]
    assert (part.filename, part.data) == ("hello.wav", sound_file)
    spoken = tmp_path / "hi.mp3"
    body = json.dumps({"model": "chat", "input": "Hi", "voice": "alloy"})
    await curl(door, "/audio/speech", "-H", "content-type: application/json", "-d", body, "-o", str(spoken))
    assert spoken.read_bytes() == SOUND
