"""Makes the body for one target from a caller's request, and notes what had to be changed for it.

Where a model lacks a `response_format` and the operator allows it, the format goes into the prompt: the model is asked
for the JSON that others enforce. The answer is not checked against the schema.
"""

from typing import Any

from parley_llm.exchange import Call
from parley_llm.jsontext import dump, join_array, join_object, parse_array, parse_object
from parley_llm.upstream.profiles import Profile
from parley_llm.upstream.shaping import shape_body

_SCHEMA = "Answer with one JSON object that is valid against this JSON Schema, and with nothing else:\n"
_OBJECT = "Answer with one JSON object, and with nothing else."


def body_for(call: Call, model: str, profile: Profile, *, stream: bool) -> bytes:
    """Return the body for a target; the names of the caller's parameters that it changes go into the call's course."""
    texts = call.texts
    adapted: list[str] = []
    response_format = call.values.get("response_format")
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "json_schema" and kind in profile.lacks:
        texts = _emulated(texts, _SCHEMA + _schema(texts["response_format"]), profile)
    elif kind == "json_object" and (
        kind in profile.lacks or (profile.json_word and "json" not in texts["messages"].lower())
    ):
        texts = _emulated(texts, _OBJECT, profile)
    if texts is not call.texts:
        adapted.append("response_format")
    if profile.drop_from_messages:
        messages = _without(texts["messages"], profile.drop_from_messages)
        if messages is not None:
            texts = {**texts, "messages": messages}
            adapted.append("messages")
    ask_usage = stream and "stream_usage" not in profile.lacks
    body = shape_body(texts, model, profile.params, ask_usage=ask_usage, adapted=adapted)
    call.course.adapted = tuple(dict.fromkeys(adapted))
    return body


def _emulated(texts: dict[str, str], instruction: str, profile: Profile) -> dict[str, str]:
    changed = {**texts, "messages": _with_instruction(texts["messages"], instruction)}
    if "json_object" in profile.lacks:
        del changed["response_format"]
    else:
        changed["response_format"] = '{"type":"json_object"}'
    return changed


def _without(messages: str, names: tuple[str, ...]) -> str | None:
    """Return messages without some of their members, None when none has one of them."""
    if not any(f'"{name}"' in messages for name in names):
        return None
    kept = []
    for message in parse_array(messages):
        members = parse_object(message).texts if message.startswith("{") else {}
        if any(name in members for name in names):
            message = join_object({name: text for name, text in members.items() if name not in names})
        kept.append(message)
    return join_array(kept)


def _schema(response_format: str) -> str:
    """Return the schema's own text."""
    wrapped = parse_object(response_format).texts.get("json_schema", "")
    return parse_object(wrapped).texts.get("schema", "{}") if wrapped.startswith("{") else "{}"


def _with_instruction(messages: str, instruction: str) -> str:
    """Add to the first message if it is the system prompt, since some models take only one; else put one before it."""
    all_messages = parse_array(messages)
    first = parse_object(all_messages[0] if all_messages[0].startswith("{") else "{}")
    content: Any = first.values.get("content")
    if first.values.get("role") not in ("system", "developer") or not isinstance(content, str | list):
        return join_array([join_object({"role": '"system"', "content": dump(instruction)}), *all_messages])
    if isinstance(content, str):
        first.texts["content"] = dump(f"{content}\n\n{instruction}")
    else:
        part = join_object({"type": '"text"', "text": dump(instruction)})
        first.texts["content"] = join_array([*parse_array(first.texts["content"]), part])
    return join_array([join_object(first.texts), *all_messages[1:]])
