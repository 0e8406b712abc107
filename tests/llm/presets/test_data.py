"""The presets themselves: no rule hides another, the page lists them, and no code knows a vendor by name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import parley_llm
import pytest
from parley_llm.config import LLMSettings
from parley_llm.presets import load_preset, preset_names
from parley_llm.presets.schema import Preset
from pydantic import ValidationError

SOURCE = Path(parley_llm.__file__).parent
PAGE = (Path(__file__).parents[3] / "docs" / "llm-models.md").read_text(encoding="utf-8")
BRANDS = ("deepseek", "dashscope", "qwen", "moonshot", "kimi", "zhipu", "glm", "minimax", "mistral", "vllm", "ollama")


def test_the_promised_presets_are_there() -> None:
    assert preset_names() == sorted(
        [
            "openai",
            "azure",
            "deepseek",
            "dashscope",
            "moonshot",
            "zhipu",
            "minimax",
            "mistral",
            "vllm",
            "ollama",
            "demo",
        ]
    )


@pytest.mark.parametrize("name", preset_names())
def test_no_rule_hides_a_later_one(name: str) -> None:
    preset = load_preset(name)
    for rule in preset.errors:
        if rule.message is None:
            for status in rule.status or (400,):
                for code in rule.code or ("",):
                    assert preset.meaning(status, frozenset({code}), "") == rule.means, rule


@pytest.mark.parametrize("name", preset_names())
def test_patterns_can_match_the_small_letters_that_names_are_compared_in(name: str) -> None:
    preset = load_preset(name)
    for pattern in (pattern for rule in preset.models for pattern in rule.models):
        assert pattern == pattern.lower()


def test_what_a_preset_can_not_say_is_refused() -> None:
    for wrong in ({"features": {"telepathy": True}}, {"params": {"set": {"model": "x"}}}, {"speed": 1}):
        with pytest.raises(ValidationError):
            Preset.model_validate({"provider": "x", **wrong})


def test_a_local_server_needs_neither_address_nor_key() -> None:
    section = {"upstreams": {"local": {"preset": "ollama"}}, "models": {"m": {"targets": [{"upstream": "local"}]}}}
    assert LLMSettings.model_validate(section).upstreams["local"].api_keys == ()


def words_in_code(path: Path) -> Iterator[str]:
    """Yield a module's names and strings, without docstrings and descriptions of settings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            prose.add(id(node.value))
        elif isinstance(node, ast.keyword) and node.arg == "description":
            prose.update(id(inner) for inner in ast.walk(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        elif isinstance(node, ast.Name | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.id if isinstance(node, ast.Name) else node.name


def test_no_code_knows_a_vendor() -> None:
    found = {
        (path.name, word)
        for path in SOURCE.rglob("*.py")
        for word in words_in_code(path)
        if any(brand in word.lower() for brand in BRANDS)
    }
    assert not found


def row_of(name: str) -> str:
    """Return the row of the page's table that says what the preset's data say."""
    preset = load_preset(name)
    lacks = ", ".join(f"`{feature}`" for feature, has in preset.features.items() if not has)
    params = [f"`{old}` → `{new}`" for old, new in preset.params.rename.items()]
    params += [f"no `{param}`" for param in preset.params.drop]
    rules = "; ".join(f"`{pattern}`" for rule in preset.models for pattern in rule.models)
    missing = ", ".join(f"`{operation}`" for operation, path in preset.paths.items() if path is None)
    reasoning = [f"`{member}`" for member in preset.reasoning.members] + ["`<think>`"] * preset.reasoning.think
    cells = [
        f"`{name}`",
        preset.base_url or "set `base_url`",
        lacks,
        ", ".join(params),
        rules,
        ", ".join([*reasoning, *["parts"] * preset.reasoning.parts]),
        missing,
        embeddings_of(preset),
    ]
    return re.sub(" +", " ", "| " + " | ".join(cells) + " |")


def embeddings_of(preset: Preset) -> str:
    """Return what the row says about embeddings: how many inputs go at a time, and whether tokens may be inputs."""
    if not preset.offers("embeddings"):
        return ""
    most = str(preset.embeddings.max_inputs or "any number")
    return most if preset.embeddings.token_arrays else f"{most}, no tokens"


@pytest.mark.parametrize("name", sorted({*preset_names()} - {"demo"}))
def test_the_page_says_what_the_data_say(name: str) -> None:
    row = row_of(name)
    assert row in PAGE.splitlines(), f"docs/llm-models.md needs the row\n{row}"


def test_the_page_explains_all_that_a_preset_can_say() -> None:
    explained = PAGE.partition("### Add a vendor")[2].partition("\n## ")[0]
    missing = {field for field in Preset.model_fields if f"`{field}`" not in explained}
    assert not missing
