"""The service as a process of its own: start, proxy variables, size at rest, draining."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest
import yaml
from parley.llm.v1 import chat_pb2, llm_service_pb2, llm_service_pb2_grpc
from parley_common.errors import error_from_rpc

from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, delta, stream
from tests.llm.conftest import settings_for

PARAMS = chat_pb2.ChatCompletionParams(model="chat", messages=[chat_pb2.ChatMessage(role="user", content="x")])
BODY = {"model": "chat", "messages": [{"role": "user", "content": "What is Parley?"}]}


class Process:
    """A running `parley-llm`."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.process = process
        self.ports = ports
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{ports['HTTP']}", trust_env=False, timeout=20, limits=httpx2.Limits()
        )
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{ports['GRPC']}", [("grpc.enable_http_proxy", 0)])
        self.stub: Any = llm_service_pb2_grpc.LLMServiceStub(self.channel)

    async def ready(self) -> bool:
        """Ask the ops port."""
        try:
            response = await self.http.get(f"http://127.0.0.1:{self.ports['OPS']}/readyz")
        except httpx2.TransportError:
            return False
        return response.status_code == 200


@asynccontextmanager
async def run_process(env: dict[str, str], cwd: Path) -> AsyncIterator[Process]:
    """Start the process and wait until it is ready; kill what is left of it at the end."""
    ports = {name: free_port() for name in ("HTTP", "GRPC", "OPS")}
    variables = {f"PARLEY_LLM_{name}_PORT": str(port) for name, port in ports.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "parley_llm",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), **variables, **env},
        cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    running = Process(process, ports)
    try:
        async with asyncio.timeout(30):
            while not await running.ready():
                assert process.returncode is None, (await process.communicate())[0].decode()
                await asyncio.sleep(0.05)
        yield running
    finally:
        await running.http.aclose()
        await running.channel.close()
        if process.returncode is None:
            process.kill()
        output = (await process.communicate())[0].decode()
        sys.stdout.write(output)  # pytest shows it when the test fails


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_with_no_settings_the_demo_answers(tmp_path: Path) -> None:
    async with run_process({"http_proxy": "http://127.0.0.1:9"}, tmp_path) as running:
        answers = [(await running.http.post("/v1/chat/completions", json=BODY)).json() for _ in range(2)]
        assert answers[0] == answers[1]
        text = answers[0]["choices"][0]["message"]["content"]
        assert "What is Parley?" in text
        assert "demo" in text
        request = llm_service_pb2.StreamChatCompletionRequest(params=PARAMS)
        events = [response.event async for response in running.stub.StreamChatCompletion(request)]
        assert "demo" in "".join(event.delta.content for event in events)
        assert events[-2].finish.finish_reason == "stop"
        models = (await running.http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in models] == ["demo"]
        rss = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{running.process.pid}/status").read_text())
        assert rss is not None
        assert int(rss[1]) < 100 * 1024, "the process must stay below 100 MiB at rest"
        assert "openai" not in Path(f"/proc/{running.process.pid}/maps").read_text()


async def test_a_proxy_variable_at_a_dead_port_changes_nothing(tmp_path: Path) -> None:
    async with OpenAIUpstream(stream(ROLE, delta("Hello!"), FINISH, DONE)) as upstream:
        env = {
            "OPENAI_API_KEY": "sk-1",
            "OPENAI_BASE_PATH": upstream.base_url,
            "OPENAI_CHATBOT_MODEL_ID": "m-1",
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "ALL_PROXY": "http://127.0.0.1:9",
        }
        async with run_process(env, tmp_path) as running:
            response = await running.http.post("/v1/chat/completions", json={**BODY, "model": "", "stream": True})
            assert '"Hello!"' in response.text
            assert upstream.requests[0].json["model"] == "m-1"


async def test_draining(tmp_path: Path) -> None:
    async with OpenAIUpstream(stream(ROLE, delta("Hel"), 1.5, delta("lo!"), FINISH, DONE)) as upstream:
        (tmp_path / "parley.yaml").write_text(
            yaml.safe_dump({"llm": {**settings_for(upstream), "shutdown": {"drain": "0s", "grace": "20s"}}})
        )
        async with run_process({}, tmp_path) as running:
            call = running.stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
            events = [await call.read()]
            running.process.send_signal(signal.SIGTERM)
            while await running.ready():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            await assert_refused(running)
            assert len(upstream.requests) == 1, "refused calls made no attempt"
            while (event := await call.read()) is not grpc.aio.EOF:
                events.append(event)
            assert "".join(one.event.delta.content for one in events) == "Hello!"
            assert await asyncio.wait_for(running.process.wait(), 10) == 0


async def assert_refused(running: Process) -> None:
    """New calls on both fronts are refused, and say so in a way that lets clients go elsewhere."""
    response = await running.http.post("/v1/chat/completions", json=BODY)
    assert (response.status_code, response.json()["error"]["reason"]) == (503, "DRAINING")
    assert response.headers["x-parley-attempts"] == "0"
    call = running.stub.CreateChatCompletion(llm_service_pb2.CreateChatCompletionRequest(params=PARAMS))
    try:
        await call
        raise AssertionError("the call was served")
    except grpc.aio.AioRpcError as error:
        told = error_from_rpc(error)
    assert (told.code, told.reason, told.retryable) == (grpc.StatusCode.UNAVAILABLE, "DRAINING", True)
    assert ("x-parley-attempts", "0") in tuple(await call.trailing_metadata())


async def test_what_outlives_the_grace_ends_with_an_error(tmp_path: Path) -> None:
    async with OpenAIUpstream(stream(ROLE, delta("Hel"), "stall")) as upstream:
        (tmp_path / "parley.yaml").write_text(
            yaml.safe_dump({"llm": {**settings_for(upstream), "shutdown": {"drain": "0s", "grace": "300ms"}}})
        )
        async with run_process({}, tmp_path) as running:
            sse = asyncio.create_task(running.http.post("/v1/chat/completions", json={**BODY, "stream": True}))
            call = running.stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
            await call.read()
            await call.read()
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            running.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(running.process.wait(), 10) == 0
            lines = [line for line in (await sse).text.split("\n") if line]
            assert json.loads(lines[-1][6:])["error"]["reason"] == "SERVER_STOPPED"
            assert (await call.read()).event.error.reason == "SERVER_STOPPED"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert error_from_rpc(caught.value).reason == "SERVER_STOPPED"
            for request in upstream.requests:
                await asyncio.wait_for(request.closed.wait(), 5)
