"""Finds out what a Runnable takes, and makes that of a conversation.

Chat models, agents' model steps and functions of messages take the list; prompts and graphs take a dict; functions of
a string the question alone. A Runnable tells by its input schema, the operator by the setting `input`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable
from pydantic import BaseModel
from typing_extensions import is_typeddict

from parley_llm.upstream.langchain.messages import text_of

Kind = Literal["messages", "prompt", "text", "dict"]

_QUESTIONS = ("input", "question", "query")
_HISTORIES = ("chat_history", "history")
_OPEN = ("messages", "input")
"""Keys of the dict for a Runnable that doesn't say which it wants."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a Runnable takes; `keys` are those of the dict."""

    kind: Kind
    keys: tuple[str, ...] = ()

    def of(self, messages: list[BaseMessage]) -> Any:
        """Return the input that a conversation makes."""
        if self.kind == "messages":
            return messages
        if self.kind == "prompt":
            return ChatPromptValue(messages=messages)
        last = max((at for at, one in enumerate(messages) if isinstance(one, HumanMessage)), default=len(messages) - 1)
        question = text_of(messages[last])
        if self.kind == "text":
            return question
        made: dict[str, Any] = {"messages": messages}
        made |= dict.fromkeys(_QUESTIONS, question)
        made |= dict.fromkeys(_HISTORIES, messages[:last])
        return {key: made[key] for key in self.keys}


def shape_for(runnable: Runnable[Any, Any], setting: Kind | Literal["auto"]) -> Shape:
    """Return what a Runnable takes. Raises ValueError when it needs what a conversation doesn't have."""
    try:
        kind, fields = _told(runnable)
    except Exception as exc:  # The schema comes from code of the Runnable's author.
        if setting == "auto":
            raise ValueError(
                f"does not tell what it takes ({type(exc).__name__}); set `input` to messages, prompt, text or dict"
            ) from exc
        kind, fields = setting, {}
    if setting != "auto":
        kind, fields = setting, fields if kind == "dict" else {}
    if kind != "dict":
        return Shape(kind)
    known = ("messages", *_QUESTIONS, *_HISTORIES)
    unknown = sorted(name for name, needed in fields.items() if needed and name not in known)
    if unknown:
        raise ValueError(
            f"needs {', '.join(map(repr, unknown))} in its input, where only {', '.join(known)} are known;"
            " put a RunnableLambda before it that makes the rest of these"
        )
    return Shape("dict", tuple(name for name in fields if name in known) or _OPEN)


def _told(runnable: Runnable[Any, Any]) -> tuple[Kind, Mapping[str, bool]]:
    """Return what the Runnable's input schema says; for a dict also its keys, and whether each is needed."""
    schema: Any = runnable.get_input_schema()
    if issubclass(schema, PromptValue):
        return "prompt", {}
    fields = schema.model_fields
    if set(fields) != {"root"}:
        return "dict", {name: field.is_required() for name, field in fields.items()}
    return _kind_of(fields["root"].annotation)


def _kind_of(annotation: Any) -> tuple[Kind, Mapping[str, bool]]:
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType):
        kinds = [_kind_of(one) for one in get_args(annotation)]
        # What takes messages among others gets them: nothing of the conversation is lost.
        return next((one for one in kinds if one[0] == "messages"), kinds[0])
    if not isinstance(origin, type):
        return "messages", {}
    if is_typeddict(origin):
        needed: frozenset[str] = origin.__required_keys__  # type: ignore[attr-defined]  # a TypedDict has them
        return "dict", {name: name in needed for name in origin.__annotations__}
    if issubclass(origin, str):
        return "text", {}
    if issubclass(origin, PromptValue):
        return "prompt", {}
    if issubclass(origin, BaseModel) and not issubclass(origin, BaseMessage):
        return "dict", {name: field.is_required() for name, field in origin.model_fields.items()}
    if issubclass(origin, Mapping):
        return "dict", {}
    if issubclass(origin, Sequence) or origin is object:
        return "messages", {}
    return "messages", {}
