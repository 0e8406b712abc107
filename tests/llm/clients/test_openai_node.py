"""OpenAI's Node client: one program runs all checks at a time, each is a test here."""

from pathlib import Path

import pytest
import pytest_asyncio

from tests.llm.clients.conftest import Door
from tests.llm.clients.node import node_command, node_folder
from tests.llm.clients.programs import run_checks
from tests.llm.clients.scenes import BUSY_MS

PROGRAM = Path(__file__).with_name("openai_checks.mjs")
CHECKS = [
    "plain", "stream", "tools", "wrong_key", "own_limit", "retry_waits", "no_vain_retry", "broken", "cancel", "models",
    "completions", "responses", "embeddings", "images", "audio", "moderations",
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reported(door: Door, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the program said, by check."""
    folder = node_folder(tmp_path_factory.mktemp("node"), PROGRAM)
    return await run_checks(door, *node_command(PROGRAM.name), cwd=folder)


@pytest.mark.parametrize("check", CHECKS)
async def test_node(check: str, reported: dict[str, str]) -> None:
    assert reported[check] == ""


async def test_every_check_is_looked_at(reported: dict[str, str]) -> None:
    assert set(reported) == set(CHECKS)


async def test_what_the_upstream_saw(door: Door, reported: dict[str, str]) -> None:
    assert reported
    assert door.asked("greet")[0].json["model"] == "fake-model"
    assert 5 in [request.json.get("top_k") for request in door.asked("greet")]
    first, second = door.asked("busy")
    assert second.at - first.at >= BUSY_MS / 1000, "the client's retry waits as long as it is told"
    assert len(door.asked("revoked")) == 1, "the client does not repeat what can not succeed"
    assert len(door.asked("break")) == 1
    assert {request.json.get("encoding_format") for request in door.reached("/embeddings")} == {"base64"}
    (upload,) = [part for part in door.reached("/audio/translations")[0].form if part.filename is not None]
    assert (upload.filename, upload.data) == ("hello.wav", b"RIFF sound")
