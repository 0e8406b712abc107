"""Prompts with history inside a budget."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley_formatter.errors import BudgetTooSmallError, InvalidPartsError, InvalidVariablesError, PromptFailedError
from parley_formatter.prompts.build import BuiltPrompt, Turn, build_prompt
from parley_formatter.prompts.library import BUILT_IN, load_library
from parley_formatter.prompts.template import Prompt, create_environment, load_prompt
from parley_formatter.prompts.tokens import MESSAGE_TOKENS, estimate_tokens

_ASSISTANT = load_library([BUILT_IN]).find("assistant", "en")


def _prompt(directory: Path, text: str) -> Prompt:
    path = directory / "test.md"
    path.write_text(text, encoding="utf-8")
    return load_prompt(path, "test", "en", create_environment())


def _build(
    question: str = "hi",
    history: list[Turn] | None = None,
    *,
    prompt: Prompt = _ASSISTANT,
    max_tokens: int = 1000,
    variables: dict[str, str] | None = None,
) -> BuiltPrompt:
    return build_prompt(
        prompt, variables or {}, history or [], [question], max_tokens=max_tokens, locale="en", count=estimate_tokens
    )


def test_users_text_is_never_a_template() -> None:
    built = _build("{{ 7 * 7 }}{% raw %}", variables={"bot_name": "{{ 7 * 7 }}", "instructions": "{% for %}"})
    assert built.messages[-1].content == "{{ 7 * 7 }}{% raw %}"
    assert "You are {{ 7 * 7 }}," in built.messages[0].content
    assert built.messages[0].content.endswith("{% for %}")


def test_templates_run_in_a_sandbox(tmp_path: Path) -> None:
    prompt = _prompt(tmp_path, "---\nvariables: {x: }\n---\n{{ x.__class__.__mro__ }}")
    with pytest.raises(PromptFailedError):
        _build(prompt=prompt, variables={"x": "1"})


def test_missing_variable_is_refused(tmp_path: Path) -> None:
    prompt = _prompt(tmp_path, "---\nvariables: {x: , y: {default: d}}\n---\n{{ x }}{{ y }}")
    with pytest.raises(InvalidVariablesError, match="needs a value for x"):
        _build(prompt=prompt)
    assert _build(prompt=prompt, variables={"x": "1"}).messages[0].content == "1d"


def test_undeclared_variable_is_refused() -> None:
    with pytest.raises(InvalidVariablesError, match="mood"):
        _build(variables={"mood": "x"})


def test_nothing_to_ask_is_refused() -> None:
    with pytest.raises(InvalidPartsError):
        _build(" \n")


def test_history_is_cut_from_the_oldest_end_in_pairs() -> None:
    history = [Turn(f"question {number} " + "word " * 30, f"answer {number} " + "word " * 30) for number in range(20)]
    built = _build(history=history, max_tokens=800)
    roles = [message.role for message in built.messages]
    assert roles == ["system", *["user", "assistant"] * ((len(roles) - 2) // 2), "user"]
    kept = (len(roles) - 2) // 2
    assert 0 < kept < 20
    assert built.dropped_turns == 20 - kept
    assert built.messages[1].content.startswith(f"question {20 - kept} ")
    assert built.messages[-2].content.startswith("answer 19 ")
    assert built.estimated_tokens <= 800


def test_gap_in_the_history_is_never_made() -> None:
    history = [Turn("old", "old"), Turn("big " * 2000, "big"), Turn("new", "new")]
    built = _build(history=history)
    assert [message.content for message in built.messages[1:]] == ["new", "new", "hi"]
    assert built.dropped_turns == 2


def test_question_too_long_is_cut_with_a_mark() -> None:
    built = _build("word " * 5000, [Turn("a", "b")], max_tokens=500)
    assert built.truncated
    assert built.dropped_turns == 1
    assert built.messages[-1].content.endswith("[… the rest was cut because it is too long]")
    assert built.messages[-1].content.startswith("word word")
    assert 400 < built.estimated_tokens <= 500


def test_budget_without_room_for_a_question_is_refused() -> None:
    with pytest.raises(BudgetTooSmallError):
        _build(max_tokens=100)


@settings(max_examples=60, deadline=None)
@given(
    question=st.text(min_size=1, max_size=2000).filter(str.strip),
    history=st.lists(st.builds(Turn, st.text(max_size=200), st.text(max_size=200)), max_size=8),
    budget=st.integers(400, 1500),
)
def test_estimate_of_the_messages_keeps_the_budget(question: str, history: list[Turn], budget: int) -> None:
    built = _build(question, history, max_tokens=budget)
    counted = sum(estimate_tokens(message.content) + MESSAGE_TOKENS for message in built.messages)
    assert built.estimated_tokens == counted
    assert counted <= budget
    assert len(built.messages) == 2 + 2 * (len(history) - built.dropped_turns)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10, 18),
        ("床前明月光，疑是地上霜。", 12, 24),
        ("def f(x):\n    return x + 1\n", 10, 24),
        ("1234567890", 4, 10),
        ("👨‍👩‍👧", 5, 18),
        ("", 0, 0),
    ],
)
def test_estimate_is_on_the_safe_side_and_not_absurd(text: str, low: int, high: int) -> None:
    assert low <= estimate_tokens(text) <= high
