"""Runs programs that check a client in its own language and report on their standard output.

A program writes `ok NAME` or `failed NAME: why` for each check, and `left QUESTION` at the moment it abandons a
stream, whose way to the upstream is then measured here.
"""

import asyncio
import os
import time
from pathlib import Path

from tests.llm.clients.conftest import KEY, LIMITED_KEY, Door

PROGRAM_LIMIT_S = 50.0


def client_env(door: Door) -> dict[str, str]:
    """Return the variables by which a program finds the service; those of a proxy stay out."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {**kept, "PARLEY_URL": door.base_url, "PARLEY_KEY": KEY, "PARLEY_LIMITED_KEY": LIMITED_KEY}


async def run_checks(door: Door, *command: str, cwd: Path) -> dict[str, str]:
    """Return what each check reported: an empty string when it passed, else why not."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=client_env(door), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    reported: dict[str, str] = {}
    other: list[str] = []
    try:
        async with asyncio.timeout(PROGRAM_LIMIT_S):
            async for line in process.stdout:
                word, _, rest = line.decode().rstrip("\n").partition(" ")
                if word == "ok":
                    reported[rest] = ""
                elif word == "failed":
                    name, _, why = rest.partition(": ")
                    reported[name] = why
                elif word == "left":
                    await door.assert_cancelled(rest, time.monotonic())
                else:
                    other.append(line.decode())
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, "".join(other)
    return reported
