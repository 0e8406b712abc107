"""The README's first commands: everything up on embedded defaults, a simulated message answered on both platforms."""

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
PORTS = (
    "PARLEY_GATEWAY_HTTP_PORT", "PARLEY_GATEWAY_OPS_PORT", "PARLEY_LLM_GRPC_PORT", "PARLEY_LLM_HTTP_PORT",
    "PARLEY_LLM_OPS_PORT", "PARLEY_FORMATTER_GRPC_PORT", "PARLEY_FORMATTER_OPS_PORT",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def run(*words: str, env: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "parley_gateway", *words,
        env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode or 0, output.decode()


async def test_simulated_messages_are_answered(tmp_path: Path) -> None:
    *ports, simulator = free_ports(len(PORTS) + 1)
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OPENAI_", "WECHAT_", "FEISHU_", "PARLEY_"))
    }
    env |= dict(zip(PORTS, map(str, ports), strict=True))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "scripts/run.py", "--data", str(tmp_path), "--simulator-port", str(simulator),
        env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while "Ctrl-C" not in (line := (await process.stdout.readline()).decode()):
                assert line, "make run ended early"
        config = str(tmp_path / "development.yaml")
        for platform in ("wechat", "feishu"):
            code, output = await run("--config", config, "simulate", platform, "hello there", env=env)
            assert code == 0, output
            assert "hello there" in output
            assert "demo" in output
            assert re.search(r"acknowledged after \d+ ms", output)
            assert re.search(r"answer after \d+", output)
        secrets = re.findall(r"(?:secret|token|key): (\S+)", Path(config).read_text(encoding="utf-8"))
        assert len(secrets) == 6
        logs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir())
        assert not [secret for secret in secrets if secret in logs]
        assert Path(config).stat().st_mode & 0o077 == 0
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 60)
    assert process.returncode == 0
