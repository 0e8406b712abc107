"""The examples for applications run as they stand, against the service as a process of its own."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.llm.clients.conftest import KEY
from tests.llm.clients.java import needs_jdk
from tests.llm.clients.node import ROOT, node_command, node_folder
from tests.llm.clients.test_grpcurl import HAS_BINARY
from tests.llm.conftest import DEMO_MODELS
from tests.llm.test_process import Process, run_process

EXAMPLES = ROOT / "examples" / "clients"
PYTHON = ["python_openai.py", "langchain_openai_chat.py", "grpc_python.py"]
LABEL = "built-in demo model"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    """A service that knows its callers, with the demo model behind it."""
    folder = tmp_path_factory.mktemp("service")
    settings = {
        "upstreams": {"demo": {"preset": "demo"}},
        "models": DEMO_MODELS,
        "callers": [{"name": "crm", "keys": [KEY]}],
    }
    (folder / "parley.yaml").write_text(yaml.safe_dump({"llm": settings}))
    async with run_process({}, folder) as running:
        yield running


async def run(process: Process, *command: str, key: str = KEY, cwd: Path = EXAMPLES) -> tuple[int, str]:
    """Run an example; return its exit code and all that it printed."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PARLEY_URL": f"http://localhost:{process.ports['HTTP']}/v1",
            "PARLEY_GRPC": f"localhost:{process.ports['GRPC']}",
            "PARLEY_KEY": key,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await running.communicate())[0].decode()
    assert running.returncode is not None
    return running.returncode, printed


def assert_answered(code: int, printed: str) -> None:
    """Both questions were answered, the second one to its end."""
    assert code == 0, printed
    assert "Hello!" in printed
    assert printed.count(LABEL) >= 1


@pytest.mark.parametrize("file", PYTHON)
async def test_python(file: str, process: Process) -> None:
    code, printed = await run(process, sys.executable, file)
    assert_answered(code, printed)
    assert printed.count(LABEL) == 2
    assert re.search(r"\n\(\d+ tokens\)\n$", printed)


@pytest.mark.parametrize("file", PYTHON)
async def test_python_tells_errors(file: str, process: Process) -> None:
    code, printed = await run(process, sys.executable, file, key="wrong")
    assert code == 1
    assert "key" in printed.splitlines()[-1]


async def test_node(process: Process, tmp_path: Path) -> None:
    folder = node_folder(tmp_path, EXAMPLES / "node_openai.mjs")
    code, printed = await run(process, *node_command("node_openai.mjs"), cwd=folder)
    assert_answered(code, printed)
    assert printed.count(LABEL) == 2
    assert re.search(r"\n\(\d+ tokens\)\n$", printed)


@needs_jdk
async def test_java(process: Process) -> None:
    code, printed = await run(process, "java", "JavaHttpClient.java")
    assert_answered(code, printed)
    assert printed.startswith("200 {")
    assert printed.endswith("\n[DONE]\n")


async def test_curl(process: Process) -> None:
    code, printed = await run(process, "./curl.sh")
    assert_answered(code, printed)
    assert printed.endswith("data: [DONE]\n\n")
    assert (await run(process, "./curl.sh", key="wrong"))[0] != 0


@pytest.mark.skipif(not HAS_BINARY, reason="grpcurl's package has a binary for Linux on x86-64 only")
async def test_grpcurl(process: Process) -> None:
    code, printed = await run(process, "./grpcurl.sh")
    assert_answered(code, printed)
    assert "rpc StreamChatCompletion" in printed
    assert '"finish_reason": "stop"' in printed.split("StreamChatCompletion")[-1]
    code, printed = await run(process, "./grpcurl.sh", key="wrong")
    assert code != 0
    assert "Unauthenticated" in printed
