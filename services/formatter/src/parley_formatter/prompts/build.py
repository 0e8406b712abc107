"""Builds the messages of a prompt: the system prompt, as much history as fits, the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError

from parley_formatter.errors import BudgetTooSmallError, InvalidPartsError, InvalidVariablesError, PromptFailedError
from parley_formatter.prompts.template import Prompt
from parley_formatter.prompts.tokens import MESSAGE_TOKENS, TokenCounter, cut_to_tokens
from parley_formatter.sentences import sentences_for

# Below this many tokens of a question an answer makes no sense.
_LEAST_QUESTION = 32


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message for the model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class BuiltPrompt:
    """The messages and what was left out: whole turns, or the end of the question."""

    messages: tuple[Message, ...]
    estimated_tokens: int
    dropped_turns: int
    truncated: bool


def build_prompt(
    prompt: Prompt,
    variables: Mapping[str, str],
    history: Sequence[Turn],
    texts: Sequence[str],
    *,
    max_tokens: int,
    locale: str,
    count: TokenCounter,
) -> BuiltPrompt:
    """Build a prompt of at most `max_tokens` estimated tokens.

    Raises InvalidVariablesError, InvalidPartsError, BudgetTooSmallError, PromptFailedError.
    """
    system = _fill(prompt, variables)
    question = "\n\n".join(text for text in texts if text.strip())
    if not question:
        raise InvalidPartsError("The parts hold no text: there is nothing to ask.")
    fixed = count(system) + MESSAGE_TOKENS if system else 0
    room = max_tokens - fixed - MESSAGE_TOKENS
    if room < _LEAST_QUESTION:
        raise BudgetTooSmallError(
            f"The prompt {prompt.name!r} takes {fixed} of {max_tokens} tokens; too few are left for a question.",
            metadata={"prompt": prompt.name, "max_tokens": str(max_tokens)},
        )
    question_tokens = count(question)
    truncated = question_tokens > room
    if truncated:
        mark = sentences_for(locale).question_cut
        question = cut_to_tokens(question, room - count(mark), count) + mark
        question_tokens = count(question)
    kept, history_tokens = _recent(history, room - question_tokens, count)
    messages = [Message("system", system)] if system else []
    for turn in kept:
        messages += [Message("user", turn.question), Message("assistant", turn.answer)]
    messages.append(Message("user", question))
    total = fixed + history_tokens + question_tokens + MESSAGE_TOKENS
    return BuiltPrompt(tuple(messages), total, len(history) - len(kept), truncated)


def _fill(prompt: Prompt, variables: Mapping[str, str]) -> str:
    declared = prompt.variables
    if unknown := sorted(set(variables) - set(declared)):
        raise InvalidVariablesError(
            f"The prompt {prompt.name!r} declares no variable {', '.join(unknown)[:200]!r}. "
            f"It declares: {', '.join(sorted(declared)) or 'none'}.",
            metadata={"prompt": prompt.name, "variables": ",".join(unknown)},
        )
    values = {name: variables.get(name, variable.default) for name, variable in declared.items()}
    if missing := sorted(name for name, value in values.items() if value is None):
        raise InvalidVariablesError(
            f"The prompt {prompt.name!r} needs a value for {', '.join(missing)}.",
            metadata={"prompt": prompt.name, "variables": ",".join(missing)},
        )
    try:
        return prompt.template.render(values).strip()
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise PromptFailedError(
            f"The prompt {prompt.name!r} ({prompt.locale}) failed: {type(exc).__name__}.",
            metadata={"prompt": prompt.name},
        ) from exc


def _recent(history: Sequence[Turn], room: int, count: TokenCounter) -> tuple[list[Turn], int]:
    """Return the newest turns that fit, oldest first, and their tokens; a turn goes whole or not at all."""
    kept: list[Turn] = []
    used = 0
    for turn in reversed(history):
        cost = count(turn.question) + count(turn.answer) + 2 * MESSAGE_TOKENS
        if used + cost > room:
            break
        used += cost
        kept.append(turn)
    return kept[::-1], used
