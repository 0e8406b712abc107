"""Documents tell the truth: links lead somewhere, options exist, commands parse, both READMEs say the same."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from parley_common.settings import load
from parley_formatter import config as formatter_config
from parley_gateway.cli import main as gateway_main
from parley_gateway.config import load_settings as load_gateway
from parley_gateway.platforms.base import CAPABILITIES
from parley_llm.config import LLMSettings
from parley_llm.env import section_from_env

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "services/**/*.md", "packages/**/*.md", "protos/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> list[tuple[str, str]]:
    """Return every line of every shell block, with its page."""
    found = []
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language in ("sh", "bash", "console"):
                joined = block.replace("\\\n", " ")
                found += [(name(page), line.strip()) for line in joined.splitlines() if line.strip()]
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("script", ["settings_docs.py", "metrics_docs.py"])
def test_tables_made_from_the_code_are_current(script: str) -> None:
    result = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_queries_of_the_metrics_page_name_metrics_and_labels_that_exist() -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    tables, _, queries = page.partition("## Questions and queries")
    labels = {
        found[1]: set(re.findall(r"`(\w+)`", found[2]))
        for found in re.finditer(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \| (.*?) \|", tables, re.MULTILINE)
    }
    asked = re.findall(r"\b((?:parley|gen_ai)_\w+)(?:\{([^}]*)\})?\[", queries)
    assert len(asked) > 5
    for metric, selectors in asked:
        known = labels[metric.removesuffix("_bucket")]
        assert set(re.findall(r"(\w+)=", selectors)) <= known, metric


def test_example_file_is_valid_for_every_service(tmp_path: Path) -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    (example,) = [block for language, block in FENCE.findall(page) if language == "yaml"]
    secret = tmp_path / "deepseek"
    secret.write_text("sk-deep\n")
    file = tmp_path / "parley.yaml"
    file.write_text(example.replace("/secrets/deepseek", str(secret)), encoding="utf-8")
    names = [
        "OPENAI_API_KEY", "PARLEY_GATEWAY_KEY", "CRM_KEY", "WECHAT_APP_ID", "WECHAT_APP_SECRET", "WECHAT_TOKEN",
        "FEISHU_APP_ID", "FEISHU_APP_SECRET", "FEISHU_ENCRYPT_KEY", "FEISHU_VERIFICATION_TOKEN",
    ]  # fmt: skip
    env = {each: f"value-of-{each.lower()}" for each in names} | {"WECHAT_ENCODING_AES_KEY": "a" * 43}
    assert len(load_gateway(env, str(file)).settings.bots) == 2
    llm = load(LLMSettings, section="llm", env=env, from_env=section_from_env, config=str(file)).settings
    assert set(llm.models) == {"chat"}
    formatter = formatter_config.load_settings(env, str(file)).settings
    assert str(formatter.prompts_dir) == "prompts"


def test_readmes_have_the_same_headings_tables_and_commands() -> None:
    def shape(path: str) -> tuple[list[int], int, list[str]]:
        text = (ROOT / path).read_text(encoding="utf-8")
        blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
        prose = FENCE.sub("", text)
        headings = [len(match[1]) for match in re.finditer(r"^(#+) ", prose, re.MULTILINE)]
        return headings, prose.count("\n|"), blocks

    assert shape("README.md") == shape("README.zh-CN.md")


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {(page, match[1]) for page, line in commands() if (match := re.match(r"(?:\w+=\S+ )*make ([a-z-]+)", line))}
    assert used
    assert [pair for pair in used if pair[1] not in targets] == []


@pytest.mark.parametrize(
    ("page", "line"), [pair for pair in commands() if "parley-gateway" in pair[1]], ids=lambda value: str(value)[:60]
)
def test_gateway_commands_in_documents_parse(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line.partition(" #")[0])
    index = next(index for index, word in enumerate(words) if word.endswith("parley-gateway"))
    cli = importlib.import_module("parley_gateway.cli")
    parsed = cli._parser().parse_args([word for word in words[index + 1 :] if word != "&"])
    assert callable(parsed.run)


@pytest.mark.parametrize("platform", ["wechat", "feishu"])
def test_platform_page_names_every_capability(platform: str) -> None:
    page = ROOT / f"services/gateway/src/parley_gateway/platforms/{platform}/README.md"
    text = page.read_text(encoding="utf-8")
    assert [each for each in CAPABILITIES if f"`{each}`" not in text] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/adr/*.md")), ids=name)
def test_decisions_have_their_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(r"# \d{4} ", text)
    for part in ("Status:", "## Context", "## Decision", "## Alternatives", "## Consequences"):
        assert part in text, part


def test_schema_and_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway_main(["--schema"]) == 0
    assert '"additionalProperties": false' in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        gateway_main(["simulate", "--help"])
    assert caught.value.code == 0
