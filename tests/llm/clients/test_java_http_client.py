"""Java's HttpClient, on which Java's libraries build, with the settings it has by itself.

One program runs all checks, each is a test here. Without a JDK they are skipped, and `test_java_bytes.py` alone sends
what the client was seen to send.
"""

from pathlib import Path

import pytest
import pytest_asyncio

from tests.llm.clients.conftest import Door
from tests.llm.clients.java import java_command, needs_jdk
from tests.llm.clients.programs import run_checks

PROGRAM = Path(__file__).with_name("HttpClientChecks.java")
CHECKS = [
    "fixed", "chunked", "input_stream", "expect_continue", "long_body", "reuse", "at_once", "stream", "tools",
    "wrong_key", "wrong_key_chunked", "limits", "broken", "cancel", "models",
]  # fmt: skip

pytestmark = needs_jdk


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reported(door: Door) -> dict[str, str]:
    """What the program said, by check."""
    return await run_checks(door, *java_command(PROGRAM), cwd=PROGRAM.parent)


@pytest.mark.parametrize("check", CHECKS)
async def test_java(check: str, reported: dict[str, str]) -> None:
    assert reported[check] == ""


async def test_every_check_is_looked_at(reported: dict[str, str]) -> None:
    assert set(reported) == set(CHECKS)


async def test_what_the_upstream_saw(door: Door, reported: dict[str, str]) -> None:
    assert reported
    padded = [request.json["padding"] for request in door.asked("greet") if "padding" in request.json]
    assert padded == ["x" * 3_000_000] * 2
    assert len(door.asked("break")) == 1
