"""`kind: langchain` in the settings: what belongs to it, what is said when the object can't be served."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from parley_common.reload import ReloadError
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings
from parley_llm.upstream.upstream import OptionError
from pydantic import ValidationError

from tests.llm.conftest import Running
from tests.llm.langchain import subjects
from tests.llm.langchain.conftest import langchain_settings

HERE = subjects.__name__


def settings(**upstream: Any) -> LLMSettings:
    return LLMSettings.model_validate(langchain_settings(upstream))


@pytest.mark.parametrize(
    ("upstream", "hint"),
    [
        ({"base_url": "http://x/v1"}, "base_url can't be set with kind: langchain"),
        ({"api_keys": ["k"], "proxy": "none"}, "api_keys, proxy can't be set with kind: langchain"),
        ({"preset": "vllm"}, "preset can't be set"),
        ({"runnable": ""}, "runnable is required with kind: langchain, such as my_package.agents:support"),
        ({"runnable": "no_colon"}, "runnable is required"),
        ({"kind": "openai"}, "runnable can only be set with kind: langchain"),
        ({"input": "everything"}, "input"),
        ({"kind": "llamaindex"}, "kind"),
    ],
)
def test_mistakes(upstream: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValidationError, match=hint):
        settings(**upstream)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("no_such_module:agent", "'no_such_module' can't be imported: ModuleNotFoundError"),
        (f"{HERE}:nothing", "has no 'nothing'"),
        (f"{HERE}:subject.nothing", "has no 'subject.nothing'"),
        (f"{HERE}:not_runnable", "is a int, which is neither a LangChain Runnable nor Embeddings"),
        (f"{HERE}:plain_function", r"a function becomes one by RunnableLambda\(function\)"),
    ],
)
def test_an_object_that_can_not_be_served(path: str, hint: str) -> None:
    with pytest.raises(OptionError, match=rf"^llm\.upstreams\.agent\.runnable: .*{hint}"):
        build_routing(settings(runnable=path), {})


def test_an_attribute_of_an_object() -> None:
    routing = build_routing(settings(runnable=f"{HERE}:Agents.echo"), {})
    assert routing.upstreams["agent"].preset.provider == "langchain"


async def test_a_reload_to_a_broken_object_changes_nothing(shared_service: Running) -> None:
    before = shared_service.service.core.routing
    with pytest.raises(ReloadError, match=r"^llm\.upstreams\.agent\.runnable: "):
        await shared_service.service.reload(settings(runnable="no_such_module:agent"))
    assert shared_service.service.core.routing is before


def run(code_or_module: list[str], folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "parley.yaml").write_text(config)
    env = {"PYTHONPATH": ":".join([str(folder), *sys.path]), "PATH": "/usr/bin"}
    return subprocess.run(
        [sys.executable, *code_or_module], capture_output=True, text=True, timeout=60, env=env, cwd=folder, check=False
    )


CONFIG = """
llm:
  upstreams: {agent: {kind: langchain, runnable: "broken_module:agent"}}
  models: {"*": {targets: [{upstream: agent}]}}
"""


def test_the_process_says_what_is_wrong_and_exits(tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no key set')")
    ended = run(["-m", "parley_llm"], tmp_path, CONFIG)
    assert ended.returncode == 2
    assert "llm.upstreams.agent.runnable: 'broken_module' can't be imported: RuntimeError: no key set" in (
        ended.stdout + ended.stderr
    )


def test_without_langchain_the_package_to_install_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['langchain_core'] = None\nfrom parley_llm.__main__ import main\nsys.exit(main([]))"
    ended = run(["-c", code], tmp_path, CONFIG)
    assert ended.returncode == 2
    assert "pip install 'parley-llm[langchain]'" in ended.stdout + ended.stderr


def test_langchain_is_not_imported_unless_configured(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom parley_llm import server\nfrom parley_llm.config import LLMSettings\n"
        "from parley_llm.calls.routing import build_routing\n"
        "settings = {'upstreams': {'demo': {'preset': 'demo'}}, 'models': {'*': {'targets': [{'upstream': 'demo'}]}}}\n"
        "build_routing(LLMSettings.model_validate(settings), {})\n"
        "sys.exit(any(name.startswith(('langchain', 'langsmith')) for name in sys.modules))"
    )
    assert run(["-c", code], tmp_path, "{}").returncode == 0
