"""Prompts and settings that change while the formatter runs."""

import signal
from collections.abc import AsyncIterator
from os import kill
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest
import yaml
from parley.formatter.v1 import content_pb2, formatter_service_pb2, formatter_service_pb2_grpc
from parley_formatter.config import FormatterSettings
from parley_formatter.prompts.library import BUILT_IN, load_library, prompt_files

from tests.e2e.processes import ServiceProcess
from tests.e2e.waiting import eventually
from tests.fakes.mounted_files import MountedFiles


def prompt(text: str) -> str:
    return f"---\nname: assistant\n---\n{text}\n"


BROKEN = prompt("{% if %}")


class Running:
    """The formatter as a process, with its settings file."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process

    def write(self, **section: Any) -> None:
        """Write the settings and have them looked at."""
        text = yaml.safe_dump({"formatter": {"grpc_port": 0, "ops_port": 0, **section}})
        (self.process.folder / "parley.yaml").write_text(text)
        if self.process.started:
            kill(self.process.pid, signal.SIGHUP)

    async def built(self) -> formatter_service_pb2.BuildPromptResponse:
        """Return what a long question would be asked with."""
        request = formatter_service_pb2.BuildPromptRequest(parts=[content_pb2.InputPart(text="x " * 1000)], locale="en")
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(self.process.started["grpc"], options) as channel:
            stub: Any = formatter_service_pb2_grpc.FormatterServiceStub(channel)
            response: formatter_service_pb2.BuildPromptResponse = await stub.BuildPrompt(request, timeout=10)
            return response

    async def system(self) -> str:
        """Return its system prompt."""
        return (await self.built()).messages[0].content

    def told(self, event: str) -> int:
        return self.process.log().count(f'"event": "{event}"')

    async def metrics(self) -> str:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://{self.process.started['ops']}/metrics")).text


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(ServiceProcess("formatter", tmp_path, {"PARLEY_CONFIG": str(tmp_path / "parley.yaml")}))
    yield running
    assert await running.process.stop() == 0


async def test_prompts_and_settings_follow_their_files(running: Running, tmp_path: Path) -> None:
    mounted = MountedFiles(tmp_path / "prompts", assistant__md=prompt("One."))
    other = tmp_path / "other"
    other.mkdir()
    (other / "assistant.md").write_text(prompt("Other."))
    running.write(prompts_dir=str(tmp_path / "prompts"))
    await running.process.start()
    assert await running.system() == "One."

    # No signal: the formatter notices by itself that the mounted directory has changed.
    mounted.update(assistant__md=prompt("Two."))
    await eventually(lambda: running.told("settings_reloaded") == 1)
    assert await running.system() == "Two."

    mounted.update(assistant__md=BROKEN)
    kill(running.process.pid, signal.SIGHUP)
    await eventually(lambda: running.told("prompt_unusable"))
    assert await running.system() == "Two."
    assert 'parley_formatter_template_errors_total{template="assistant.md"} 1.0' in await running.metrics()

    running.write(prompts_dir=str(other))
    await eventually(lambda: running.told("settings_reloaded") == 3)
    assert await running.system() == "Other."

    running.write(prompts_dir=str(tmp_path / "gone"))
    await eventually(lambda: running.told("settings_refused") == 1)
    running.write(prompts_dri=str(tmp_path / "prompts"))
    await eventually(lambda: running.told("settings_refused") == 2)
    assert await running.system() == "Other."
    assert "did you mean prompts_dir?" in running.process.log()

    assert not (await running.built()).truncated
    running.write(max_prompt_tokens=300)
    await eventually(lambda: running.told("settings_reloaded") == 4)
    assert "Parley" in await running.system(), "the built-in prompt is back"
    assert (await running.built()).truncated
    metrics = await running.metrics()
    assert 'parley_config_reload_total{outcome="ok"} 4.0' in metrics
    assert 'parley_config_reload_total{outcome="error"} 2.0' in metrics


def test_a_broken_file_keeps_the_prompt_that_was_in_use(tmp_path: Path) -> None:
    file = tmp_path / "poet.md"
    file.write_text("---\nname: poet\n---\nRhyme.\n")
    first = load_library([BUILT_IN, tmp_path])
    file.write_text("---\nname: poet\n---\n{% if %}\n")
    second = load_library([BUILT_IN, tmp_path], first)
    assert second.find("poet", "en") is first.find("poet", "en")
    assert [problem.path for problem in second.problems] == [file]
    file.unlink()
    assert "poet" not in load_library([BUILT_IN, tmp_path], second).prompts


def test_whatever_changes_with_a_prompt_is_watched(tmp_path: Path) -> None:
    (tmp_path / "poet.md").write_text("x")
    assert prompt_files(tmp_path) == [tmp_path, tmp_path / "poet.md"]
    assert prompt_files(None) == []


def test_every_option_survives_the_way_that_running_values_take(tmp_path: Path) -> None:
    settings = FormatterSettings(prompts_dir=tmp_path, max_prompt_tokens=300)
    assert FormatterSettings.model_validate(settings.model_dump()) == settings
