"""Brings the choices of an upstream's answer into the one form that callers get, as its preset says.

Reasoning, finish reasons, tool calls, empty members. What nothing is wrong with keeps every character.
"""

from dataclasses import dataclass, field
from typing import Any

from parley_llm.errors import StreamBrokenError, UpstreamProtocolError
from parley_llm.jsontext import dump, join_array, join_object, parse_array, parse_object
from parley_llm.presets.schema import Preset
from parley_llm.upstream.reasoning import ThinkSplitter, unify
from parley_llm.upstream.source import Source
from parley_llm.upstream.toolcalls import ToolCallRepair

RAW_FINISH = "native_finish_reason"
"""Where the upstream's own finish reason stays when it is mapped to one of OpenAI's; the name is OpenRouter's."""


@dataclass(slots=True)
class Changes:
    """What changes in a choice: its own members, and those of its delta or message; None takes a member out."""

    part: dict[str, Any]
    choice: dict[str, Any] = field(default_factory=dict)


class ChoiceReader:
    """Follows one choice of an answer, whole or in pieces."""

    __slots__ = ("_calls", "_plain", "_preset", "_special", "_think", "_upstream")

    def __init__(self, upstream: str, preset: Preset) -> None:
        self._upstream = upstream
        self._preset = preset
        self._think = ThinkSplitter(enabled=preset.reasoning.think)
        self._calls = ToolCallRepair() if preset.repair_tool_calls else None
        # Most chunks of most upstreams need nothing: these tell it without looking into the preset each time.
        self._plain = not preset.reasoning.parts
        self._special: frozenset[str] | None = None

    def passes(self, part: dict[str, Any]) -> bool:
        """Tell that nothing can be wrong with a piece that doesn't end the choice."""
        if self._special is None:
            preset = self._preset
            calls = ("tool_calls",) if preset.repair_tool_calls else ()
            members = (*preset.reasoning.members, *preset.drop_if_empty, *calls)
            self._special = frozenset(members) - {"reasoning_content"}
        return self._plain and self._think.idle and self._special.isdisjoint(part)

    def read(self, choice: dict[str, Any], part: dict[str, Any], *, whole: bool = False) -> Changes | None:
        """Unify a choice and its delta or message in place; return what changed, None when nothing did.

        Raises StreamBrokenError for a finish reason that says the answer is incomplete.
        """
        raw = choice.get("finish_reason")
        if not raw and self.passes(part):
            return None
        preset = self._preset
        changed = unify(part, self._think, preset.reasoning, final=whole or bool(raw))
        for name in preset.drop_if_empty:
            if part.get(name) == "":
                changed[name] = None
        calls = part.get("tool_calls")
        if self._calls is not None and isinstance(calls, list) and (fixed := self._calls.fix(calls)) is not None:
            changed["tool_calls"] = fixed
        if changed:
            _apply(part, changed)
        mapped = preset.finish_reasons.get(raw) if isinstance(raw, str) else None
        if mapped is None:
            return Changes(changed) if changed else None
        if mapped == "interrupted":
            raise StreamBrokenError(
                f"Upstream {self._upstream!r} ended the answer with finish_reason {raw!r}: it is not complete.",
                metadata={"upstream": self._upstream},
            )
        finish = {"finish_reason": mapped, RAW_FINISH: raw}
        choice.update(finish)
        return Changes(changed, finish)


def unified(source: Source, data: bytes, decoded: dict[str, Any]) -> bytes:
    """Return a whole chat completion in the form that callers get, `decoded` changed likewise. Raises LLMError."""
    choices = decoded.get("choices")
    well_formed = (
        isinstance(choices, list)
        and len(choices) > 0
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )
    if not isinstance(choices, list) or not well_formed:
        raise UpstreamProtocolError(
            f"Upstream {source.name!r} answered with something that is not a chat completion.",
            metadata={"upstream": source.name},
        )
    changes: dict[int, Changes] = {}
    for position, choice in enumerate(choices):
        changed = ChoiceReader(source.name, source.preset).read(choice, choice["message"], whole=True)
        if changed is not None:
            changes[position] = changed
    return respell(data, "message", changes) if changes else data


def respell(data: bytes, part_name: str, changes: dict[int, Changes], **whole_changes: Any) -> bytes:
    """Change members of an answer and of some of its choices, and leave every other character as it was."""
    whole = parse_object(data).texts
    choices = parse_array(whole["choices"])
    for position, changed in changes.items():
        choice = parse_object(choices[position]).texts
        text = choice.get(part_name, "null")
        part = {} if text == "null" else parse_object(text).texts
        _apply_texts(part, changed.part)
        choice[part_name] = join_object(part)
        _apply_texts(choice, changed.choice)
        choices[position] = join_object(choice)
    whole["choices"] = join_array(choices)
    _apply_texts(whole, whole_changes)
    return join_object(whole).encode()


def _apply(members: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            members.pop(name, None)
        else:
            members[name] = value


def _apply_texts(texts: dict[str, str], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            texts.pop(name, None)
        else:
            texts[name] = dump(value)
