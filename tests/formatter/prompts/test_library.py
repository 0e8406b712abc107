"""Prompt files: loading, overriding, mistakes with their line."""

from pathlib import Path

import pytest
from parley_formatter.errors import UnknownPromptError
from parley_formatter.prompts.library import BUILT_IN, load_library


def _write(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text, encoding="utf-8")


def test_built_in_prompts_are_sound() -> None:
    library = load_library([BUILT_IN])
    assert library.problems == ()
    assert set(library.prompts["assistant"]) == {"en", "zh-CN"}
    assert all(prompt.description for versions in library.prompts.values() for prompt in versions.values())


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("zh-CN", "zh-CN"), ("zh_TW", "zh-CN"), ("ZH", "zh-CN"), ("en-GB", "en"), ("fr", "en"), ("", "en")],
)
def test_locale_picks_the_nearest_language(locale: str, expected: str) -> None:
    assert load_library([BUILT_IN]).find("assistant", locale).locale == expected


def test_empty_name_is_the_assistant() -> None:
    assert load_library([BUILT_IN]).find("", "en").name == "assistant"


def test_own_directory_overrides_file_by_file(tmp_path: Path) -> None:
    _write(tmp_path, "assistant.md", "---\ndescription: mine\n---\nMine.")
    _write(tmp_path, "pirate.md", "---\ndescription: new\n---\nArr.")
    library = load_library([BUILT_IN, tmp_path])
    assert library.find("assistant", "en").description == "mine"
    assert library.find("assistant", "zh-CN").description != "mine"
    assert library.find("pirate", "zh-CN").template.render() == "Arr."


def test_unknown_prompt_names_what_exists() -> None:
    with pytest.raises(UnknownPromptError, match="assistant"):
        load_library([BUILT_IN]).find("nope", "en")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("Hello", 1, "front matter"),
        ("---\nname: x\n", 1, "never closed"),
        ("---\nname: [\n---\nx", 3, "not YAML"),
        ("---\nnames: x\n---\nx", 2, "unknown front matter"),
        ("---\nname: other\n---\nx", 1, "differs"),
        ("---\nvariables: [a]\n---\nx", 2, "variables"),
        ("---\nvariables: {a: 3}\n---\nx", 2, "'a'"),
        ("---\nname: broken\n---\nfine\n{% if %}\n", 5, "Expected an expression"),
        ("---\nname: broken\n---\n\n\n{{ ghost }}\n", 6, "'ghost' is not declared"),
        ("---\nname: broken\n---\n{% include 'x' %}{{ y }}", 4, "'y'"),
    ],
)
def test_mistake_is_reported_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    _write(tmp_path, "broken.md", text)
    library = load_library([BUILT_IN, tmp_path])
    (found,) = library.problems
    assert (found.path.name, found.line) == ("broken.md", line)
    assert problem in found.problem
    assert "broken" not in library.prompts
    assert library.find("assistant", "en")


def test_broken_override_leaves_the_built_in_prompt(tmp_path: Path) -> None:
    _write(tmp_path, "assistant.md", "no front matter")
    library = load_library([BUILT_IN, tmp_path])
    assert len(library.problems) == 1
    assert "helpful assistant" in library.find("assistant", "en").template.render(
        bot_name="x", platform="", date="", instructions=""
    )


def test_odd_file_names_and_a_missing_directory_are_reported(tmp_path: Path) -> None:
    _write(tmp_path, "My Prompt.md", "x")
    _write(tmp_path, "README.md", "x")
    library = load_library([BUILT_IN, tmp_path, tmp_path / "gone"])
    assert [problem.path.name for problem in library.problems] == ["My Prompt.md", "gone"]


def test_file_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "latin.md").write_bytes(b"---\n---\n\xff")
    (problem,) = load_library([tmp_path]).problems
    assert "UTF-8" in problem.problem
