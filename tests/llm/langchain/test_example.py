"""`examples/langchain` runs as its README says."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings

from tests.fakes.openai_upstream import OpenAIUpstream, completion
from tests.llm.conftest import Running
from tests.llm.fronts import ask
from tests.llm.langchain.conftest import langchain_settings
from tests.llm.test_process import run_process

ROOT = Path(__file__).parents[3]
README = (ROOT / "examples" / "langchain" / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the page's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


async def test_the_example_runs() -> None:
    start, call = blocks("bash")
    env = dict(part.split("=", 1) for part in start.split()[:-1])
    env["PYTHONPATH"] = ":".join([str(ROOT / env["PYTHONPATH"]), *sys.path])
    async with run_process(env, ROOT) as running:
        curl = call.replace("localhost:8081", f"localhost:{running.ports['HTTP']}")
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", curl, env={"PATH": os.environ["PATH"], "NO_PROXY": "*"}, stdout=asyncio.subprocess.PIPE
        )
        printed = (await process.communicate())[0].decode()
    assert "".join(re.findall(r'"content":"([^"]*)"', printed)).startswith("The printer is on the second floor")
    assert printed.count('"content"') > 3
    assert "data: [DONE]" in printed


async def test_the_runnable_with_a_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_service: Running, upstream: OpenAIUpstream
) -> None:
    (program,) = blocks("python")
    (tmp_path / "desk_with_model.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    upstream.replies = [completion("At the reception.")]
    settings = LLMSettings.model_validate(langchain_settings({"runnable": "desk_with_model:desk"}))
    monkeypatch.setattr(shared_service.service.core, "routing", build_routing(settings, {}))
    seen = await ask("http", shared_service)
    assert (seen.text, seen.usage["total_tokens"]) == ("At the reception.", 12)
    assert [message["role"] for message in upstream.requests[0].json["messages"]] == ["system", "user"]
