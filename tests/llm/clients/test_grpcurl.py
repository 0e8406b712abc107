"""grpcurl and `buf curl`: gRPC from a shell, with nothing known but what the server's reflection tells.

grpcurl's package has a binary for Linux on x86-64 only; `buf curl` is there on every machine.
"""

import asyncio
import base64
import json
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.llm.clients.conftest import KEY, Door
from tests.llm.clients.programs import client_env
from tests.llm.clients.scenes import GREETING

BIN = Path(sys.executable).parent
BUF = str(BIN / "buf")
GRPCURL = str(BIN / "grpcurl")
HAS_BINARY = (sys.platform, platform.machine()) == ("linux", "x86_64")
SERVICE = "parley.llm.v1.LLMService"
Tool = Literal["buf curl", "grpcurl"]

pytestmark = pytest.mark.parametrize("tool", ["buf curl", "grpcurl"] if HAS_BINARY else ["buf curl"])


def call(tool: Tool, door: Door, method: str, body: dict[str, Any], key: str = KEY) -> list[str]:
    """Return the command that calls a method."""
    options = ["-H", f"authorization: Bearer {key}", "-d", json.dumps(body)]
    if tool == "grpcurl":
        return [GRPCURL, "-plaintext", *options, door.grpc_target, f"{SERVICE}/{method}"]
    return [BUF, "curl", "--protocol", "grpc", *options, f"http://{door.grpc_target}/{SERVICE}/{method}"]


async def start(door: Door, command: list[str]) -> asyncio.subprocess.Process:
    """Start a tool."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=client_env(door), stdout=pipe, stderr=pipe)


async def run(door: Door, command: list[str]) -> tuple[int, str, str]:
    """Run a tool to its end; return its exit code and what it printed."""
    process = await start(door, command)
    printed, complaints = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode(), complaints.decode()


def ask(question: str, **more: Any) -> dict[str, Any]:
    return {"params": {"model": "chat", "messages": [{"role": "user", "content": question}], **more}}


def messages(printed: str) -> list[dict[str, Any]]:
    """Return the messages that were printed one behind the other, with the members' names as in the protos."""
    rest = re.sub(r'"(\w+)":', lambda name: re.sub("[A-Z]", lambda one: "_" + one[0].lower(), name[0]), printed)
    found = []
    while rest := rest.strip():
        message, end = json.JSONDecoder().raw_decode(rest)
        found.append(message)
        rest = rest[end:]
    return found


async def test_reflection_lists_the_service(tool: Tool, door: Door) -> None:
    if tool == "grpcurl":
        command = [GRPCURL, "-plaintext", door.grpc_target, "list"]
    else:
        command = [BUF, "curl", "--protocol", "grpc", "--list-services", f"http://{door.grpc_target}"]
    code, printed, complaints = await run(door, command)
    assert code == 0, complaints
    assert {SERVICE, "grpc.health.v1.Health"} <= set(printed.split())


async def test_an_answer_and_the_fields_nobody_knows(tool: Tool, door: Door) -> None:
    extra = base64.b64encode(b'{"top_k":5}').decode()
    code, printed, complaints = await run(
        door, call(tool, door, "CreateChatCompletion", ask("greet", extra_body_json=extra))
    )
    assert code == 0, complaints
    (answer,) = messages(printed)
    completion = answer["completion"]
    assert completion["choices"][0]["message"]["content"] == "".join(GREETING)
    assert int(completion["usage"]["total_tokens"]) == 12
    assert json.loads(base64.b64decode(completion["extra_body_json"]))["vendor_note"] == {"big": 2**60 + 1}
    assert door.asked("greet")[-1].json["top_k"] == 5


async def test_a_stream(tool: Tool, door: Door) -> None:
    code, printed, complaints = await run(door, call(tool, door, "StreamChatCompletion", ask("greet")))
    assert code == 0, complaints
    events = [message["event"] for message in messages(printed)]
    assert [event["delta"]["content"] for event in events if "delta" in event] == list(GREETING)
    assert [event["finish"]["finish_reason"] for event in events if "finish" in event] == ["stop"]


async def test_tools(tool: Tool, door: Door) -> None:
    spelled = base64.b64encode(b'{"type":"function","function":{"name":"get_weather"}}').decode()
    asked = ask("weather", tools=[{"json": spelled}])
    code, printed, complaints = await run(door, call(tool, door, "CreateChatCompletion", asked))
    assert code == 0, complaints
    (answer,) = messages(printed)
    assert answer["completion"]["choices"][0]["message"]["tool_calls"][0]["name"] == "get_weather"


@pytest.mark.parametrize(
    ("method", "question", "key", "code"),
    [
        ("CreateChatCompletion", "greet", "wrong", "unauthenticated"),
        ("CreateChatCompletion", "exhausted", KEY, "resource_exhausted"),
        ("StreamChatCompletion", "break", KEY, "unavailable"),
    ],
    ids=["wrong key", "limit", "broken stream"],
)
async def test_errors(method: str, question: str, key: str, code: str, tool: Tool, door: Door) -> None:
    exit_code, printed, complaints = await run(door, call(tool, door, method, ask(question), key))
    assert exit_code != 0
    assert code.replace("_", "") in complaints.lower().replace("_", ""), complaints
    if question == "break":
        assert "Hel" in printed
        assert "STREAM_BROKEN" in printed


async def test_interrupting_it_reaches_the_upstream(tool: Tool, door: Door) -> None:
    process = await start(door, call(tool, door, "StreamChatCompletion", ask("endless")))
    assert process.stdout is not None
    while b"Hel" not in await asyncio.wait_for(process.stdout.readline(), 10):
        pass
    left_at = time.monotonic()
    process.terminate()
    await door.assert_cancelled("endless", left_at)
    await process.communicate()
