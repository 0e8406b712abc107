"""Real service processes for end-to-end tests: started on free ports, stopped by their own pid."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_LIMIT_S = 60.0
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "COVERAGE_PROCESS_START")


class ServiceProcess:
    """One service; its log is a file of JSON lines."""

    def __init__(self, name: str, folder: Path, env: Mapping[str, str], arguments: tuple[str, ...] = ()) -> None:
        """Prepare; `name` is `gateway`, `llm` or `formatter`."""
        self.name = name
        self.folder = folder
        self.log_file = folder / f"{name}.log"
        self._env = {key: os.environ[key] for key in INHERITED if key in os.environ} | dict(env)
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self.started: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until the service says that it started."""
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"parley_{self.name}", *self._arguments,
                env=self._env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(START_LIMIT_S):
            while not (started := self._find_started(offset)):
                assert self._process.returncode is None, (
                    f"{self.name} ended early:\n{self.log_file.read_text()[-3000:]}"
                )
                await asyncio.sleep(0.02)
        self.started = started

    def _find_started(self, offset: int) -> dict[str, Any]:
        with self.log_file.open(encoding="utf-8") as log:
            log.seek(offset)
            for line in log:
                if line.startswith("{") and line.endswith("\n"):
                    entry: dict[str, Any] = json.loads(line)
                    if entry.get("event") == "started":
                        return entry
        return {}

    async def kill(self) -> None:
        """Kill it, as the kernel does with what uses too much memory."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Stop it in order; return its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(45):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise

    def log(self) -> str:
        """Everything it has logged."""
        return self.log_file.read_text(encoding="utf-8")

    def rss_mib(self) -> float:
        """The memory it has in use, MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
