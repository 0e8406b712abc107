"""Makes LangChain's messages of a request's `messages`.

Content parts keep OpenAI's form, which LangChain's model integrations take. Members that LangChain does not know are
left out: in its messages they could mean something else than the caller may decide.
"""

from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from parley_llm.jsontext import load
from parley_llm.upstream.langchain.refusals import RequestError

Content = str | list[str | dict[str, Any]]


def messages_from(messages: object) -> list[BaseMessage]:
    """Return the conversation. Raises RequestError naming the message that is wrong."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message.", param="messages")
    return [_message(message, f"messages.{position}") for position, message in enumerate(messages)]


def text_of(message: BaseMessage) -> str:
    """Return a message's text without pictures and the like."""
    content = message.content
    if isinstance(content, str):
        return content
    texts = [part if isinstance(part, str) else part.get("text") for part in content]
    return "\n".join(text for text in texts if isinstance(text, str))


def _message(message: object, place: str) -> BaseMessage:
    if not isinstance(message, dict):
        raise RequestError(f"{place} must be an object.", param=place)
    role, name = message.get("role"), message.get("name")
    content = _content(message.get("content"), place)
    name = name if isinstance(name, str) else None
    if role == "user":
        return HumanMessage(content, name=name)
    if role == "system":
        return SystemMessage(content, name=name)
    if role == "developer":
        # LangChain's own mark for the role; OpenAI's integration sends it on, others see a system message.
        return SystemMessage(content, name=name, additional_kwargs={"__openai_role__": "developer"})
    if role == "assistant":
        return _assistant(message, content, name, place)
    if role == "tool":
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str):
            raise RequestError(f"{place}.tool_call_id must be a string.", param=f"{place}.tool_call_id")
        return ToolMessage(content, tool_call_id=call_id, name=name)
    raise RequestError(
        f"{place}.role must be system, developer, user, assistant or tool for this model.", param=f"{place}.role"
    )


def _content(content: object, place: str) -> Content:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return content
    raise RequestError(f"{place}.content must be a string or a list of objects.", param=f"{place}.content")


def _assistant(message: dict[str, Any], content: Content, name: str | None, place: str) -> AIMessage:
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    given = message.get("tool_calls") or []
    for call in given if isinstance(given, list) else [given]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError(
                f"{place}.tool_calls must be a list of calls of named functions.", param=f"{place}.tool_calls"
            )
        call_id, arguments = str(call.get("id") or ""), str(function.get("arguments") or "{}")
        decoded = _decoded(arguments)
        if decoded is None:
            invalid.append(
                InvalidToolCall(
                    type="invalid_tool_call", id=call_id, name=function["name"], args=arguments, error="not an object"
                )
            )
        else:
            calls.append(ToolCall(type="tool_call", id=call_id, name=function["name"], args=decoded))
    reasoning = message.get("reasoning_content")
    kwargs = {"reasoning_content": reasoning} if isinstance(reasoning, str) else {}
    return AIMessage(content, name=name, tool_calls=calls, invalid_tool_calls=invalid, additional_kwargs=kwargs)


def _decoded(arguments: str) -> dict[str, Any] | None:
    try:
        decoded = load(arguments.encode(errors="replace"))
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None
