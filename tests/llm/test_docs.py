"""What the two pages about the service say is true: commands run, settings load, tables are complete."""

import asyncio
import os
import re
import sys
from pathlib import Path

import yaml
from parley_llm import errors
from parley_llm.config import LLMSettings
from parley_llm.errors import LLMError

from tests.llm.test_process import Process, run_process

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "llm-service.md").read_text(encoding="utf-8")
MODELS = (DOCS / "llm-models.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = PAGE) -> list[str]:
    """Return a page's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


async def run(running: Process, *command: str) -> str:
    """Run a command of the page against the running service and return what it prints."""
    ports = {"8081": running.ports["HTTP"], "50051": running.ports["GRPC"]}
    replaced = [re.sub(r"localhost:(8081|50051)", lambda match: f"localhost:{ports[match[1]]}", one) for one in command]
    process = await asyncio.create_subprocess_exec(
        *replaced,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), "NO_PROXY": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


async def test_the_commands_run(tmp_path: Path) -> None:
    async with run_process({}, tmp_path) as running:
        shell = await run(running, "bash", "-euc", *blocks("bash"))
        assert "Hello!" in shell
        assert "data: [DONE]" in shell
        assert '"object":"list"' in shell
        programs = blocks("python")
        assert len(programs) == 2
        for printed in await asyncio.gather(*(run(running, sys.executable, "-c", program) for program in programs)):
            assert "Hello!" in printed


def test_the_settings_load() -> None:
    (example,) = blocks("yaml", MODELS)
    replaced = re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda match: match[1] or "a-key", example)
    number = iter(range(9))
    distinct = re.sub("a-key", lambda _: f"key-{next(number)}", replaced)
    settings = LLMSettings.model_validate(yaml.safe_load(distinct.replace("…", "ab" * 32))["llm"])
    assert set(settings.models) == {"chat", "long", "embed", "*"}


def test_every_reason_is_listed() -> None:
    listed = {
        (reason, try_again == "yes")
        for reason, try_again in re.findall(r"^\| `([A-Z_]+)` \|[^|]*\|[^|]*\| (yes|no) \|", PAGE, re.MULTILINE)
    }
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, LLMError)]
    abstract = {"UPSTREAM_ERROR"}
    assert listed == {(one.reason, one.retryable) for one in classes if one.reason not in abstract}
    for one in classes:
        if one.reason not in abstract:
            (row,) = re.findall(rf"^\| `{one.reason}` .*$", PAGE, re.MULTILINE)
            assert f"`{one.code.name}`" in row, one
