"""Which features a request uses that not every model has."""

from collections.abc import Mapping
from typing import Any

from parley_llm.presets.schema import Feature

_PICTURES = frozenset({"image_url", "input_image", "image", "video_url", "input_video", "video"})

PARAMS: Mapping[str, str] = {
    "tools": "tools",
    "forced_tool": "tool_choice",
    "json_schema": "response_format",
    "json_object": "response_format",
    "vision": "messages",
    "thinking": "reasoning_effort",
}
"""The parameter by which a caller asks for a feature."""


def used_features(values: Mapping[str, Any]) -> frozenset[Feature]:
    """Return the features that a request's decoded members use. What is no request at all is left to the upstream."""
    used: set[Feature] = set()
    if values.get("tools") or values.get("functions"):
        used.add("tools")
    if is_forced(values.get("tool_choice")):
        used.add("forced_tool")
    response_format = values.get("response_format")
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_schema":
        used.add("json_schema")
    elif kind == "json_object":
        used.add("json_object")
    if _thinks(values):
        used.add("thinking")
    if _shows(values.get("messages")):
        used.add("vision")
    return frozenset(used)


def is_forced(choice: object) -> bool:
    """Tell whether a `tool_choice` makes the model call a tool."""
    return isinstance(choice, dict) or choice in ("required", "any")


def thinks(effort: object) -> bool:
    """Tell whether a reasoning effort is more than none."""
    return isinstance(effort, str) and effort not in ("none", "minimal")


def _thinks(values: Mapping[str, Any]) -> bool:
    """Tell whether the model is told to think, in one of the usual ways."""
    thinking = values.get("thinking")
    template = values.get("chat_template_kwargs")
    return (
        values.get("enable_thinking") is True
        or thinks(values.get("reasoning_effort"))
        or (isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"))
        or (isinstance(template, dict) and (template.get("enable_thinking") or template.get("thinking")) is True)
    )


def _shows(messages: object) -> bool:
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and any(isinstance(one, dict) and one.get("type") in _PICTURES for one in content):
            return True
    return False
