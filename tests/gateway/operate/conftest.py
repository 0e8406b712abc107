"""The command line against an ops port that is served for real."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from parley_gateway.cli import main

from tests.gateway.admin.conftest import TOKEN, Ops, ops

__all__ = ["ops"]  # The fixture, for these tests too.

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(ops: Ops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of an operator who has set the address and the token; return exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARLEY_GATEWAY_OPS_URL", ops.url)
    monkeypatch.setenv("PARLEY_GATEWAY_ADMIN_TOKEN", TOKEN)
    monkeypatch.delenv("PARLEY_CONFIG", raising=False)

    async def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        captured = capsys.readouterr()
        # The gateway logs to the same place in these tests.
        lines = [line for line in captured.out.splitlines() if "[info" not in line and "[warning" not in line]
        return code, "\n".join(lines), captured.err

    return call
