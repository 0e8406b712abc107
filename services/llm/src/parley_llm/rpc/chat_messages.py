"""Between the gRPC messages and the JSON of the chat completions format. Fields without a name of their own keep
their text in `extra_body_json`, both ways.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from parley.llm.v1 import chat_pb2

from parley_llm.errors import InvalidRequestError
from parley_llm.jsontext import JSONObject, dump, join_array, join_object, parse_array, parse_object
from parley_llm.upstream.events import StreamEvent

_PLAIN = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "n", "presence_penalty", "frequency_penalty",
)  # fmt: skip
_REFUSED_EXTRAS = frozenset({"stream", "stream_options"})
_COMPLETION = frozenset({"id", "object", "created", "model", "choices", "usage", "system_fingerprint"})
_CHUNK = frozenset({"id", "object", "created", "model", "choices", "usage"})
_CHOICE = frozenset({"index", "message", "finish_reason"})
_MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content"})
_TOOL_CALL = frozenset({"id", "type", "function"})
_CHUNK_CHOICE = frozenset({"index", "delta", "finish_reason", "usage"})
_DELTA = frozenset({"role", "content", "refusal", "reasoning_content", "tool_calls"})
_USAGE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def request_body(params: chat_pb2.ChatCompletionParams, *, stream: bool) -> JSONObject:
    """Return the request as JSON members. Raises InvalidRequestError, naming the field."""
    texts: dict[str, str] = {"model": dump(params.model), "messages": _messages(params.messages)}
    for name in _PLAIN:
        if params.HasField(name):
            texts[name] = dump(getattr(params, name))
    if params.stop:
        texts["stop"] = dump(list(params.stop))
    if params.tools:
        texts["tools"] = join_array(_json(tool.json, f"tools[{at}].json") for at, tool in enumerate(params.tools))
    if params.tool_choice_json:
        texts["tool_choice"] = _json(params.tool_choice_json, "tool_choice_json")
    if params.response_format_json:
        texts["response_format"] = _json(params.response_format_json, "response_format_json")
    if params.user:
        texts["user"] = dump(params.user)
    if stream:
        texts["stream"] = "true"
    add_extras(texts, params.extra_body_json, "extra_body_json", refused=_REFUSED_EXTRAS)
    return parse_object(join_object(texts))


def completion_message(data: bytes, decoded: Mapping[str, Any]) -> chat_pb2.ChatCompletion:
    """Return a complete answer as a message."""
    choice_texts: list[str] = []
    if any(choice.keys() - _CHOICE or choice["message"].keys() - _MESSAGE for choice in decoded["choices"]):
        choice_texts = parse_array(parse_object(data).texts["choices"])
    choices = []
    for at, choice in enumerate(decoded["choices"]):
        text = parse_object(choice_texts[at]).texts if choice_texts else {}
        choices.append(
            chat_pb2.Choice(
                index=whole(choice.get("index"), at),
                message=_answer(choice["message"], text.get("message", "{}")),
                finish_reason=text_of(choice.get("finish_reason")),
                extra_body_json=rest(text, _CHOICE),
            )
        )
    return chat_pb2.ChatCompletion(
        id=text_of(decoded.get("id")),
        created=whole(decoded.get("created")),
        model=text_of(decoded.get("model")),
        choices=choices,
        usage=usage_message(decoded.get("usage")),
        system_fingerprint=text_of(decoded.get("system_fingerprint")),
        extra_body_json=rest(parse_object(data).texts, _COMPLETION) if decoded.keys() - _COMPLETION else b"",
    )


def usage_message(usage: Any) -> chat_pb2.Usage | None:
    """Return token counts as a message, None when there are none."""
    if not isinstance(usage, dict):
        return None
    asked, said = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    more = {name: value for name, value in usage.items() if name not in (*_USAGE, f"{asked}_tokens", f"{said}_tokens")}
    return chat_pb2.Usage(
        prompt_tokens=whole(usage.get(f"{asked}_tokens")),
        completion_tokens=whole(usage.get(f"{said}_tokens")),
        total_tokens=whole(usage.get("total_tokens")),
        cached_tokens=_detail(usage, f"{asked}_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, f"{said}_tokens_details", "reasoning_tokens"),
        extra_body_json=dump(more).encode() if more else b"",
    )


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int:
    counts = usage.get(details)
    return whole(counts.get(name)) if isinstance(counts, dict) else 0


class EventConverter:
    """Turns a stream's chunks into events; remembers what was already said about the whole stream."""

    def __init__(self) -> None:
        self._begun = False
        self._extras = b""

    def events(self, chunk: StreamEvent) -> Iterator[chat_pb2.ChatCompletionEvent]:
        """Return the events of one chunk."""
        body = chunk.chunk
        if not self._begun:
            self._begun = True
            start = chat_pb2.Start(
                id=text_of(body.get("id")), created=whole(body.get("created")), model=text_of(body.get("model"))
            )
            yield chat_pb2.ChatCompletionEvent(start=start)
        events = [event for choice in body["choices"] for event in _choice_events(choice)]
        if (usage := usage_message(body.get("usage"))) is not None:
            events.append(chat_pb2.ChatCompletionEvent(usage=usage))
        extras = _chunk_extras(chunk)
        if extras and extras != self._extras:
            self._extras = extras
            if not events:
                events.append(chat_pb2.ChatCompletionEvent())
            events[0].extra_body_json = extras
        yield from events


def _choice_events(choice: Mapping[str, Any]) -> Iterator[chat_pb2.ChatCompletionEvent]:
    index = choice.get("index", 0)
    delta = choice["delta"]
    if reasoning := text_of(delta.get("reasoning_content")):
        yield chat_pb2.ChatCompletionEvent(reasoning=chat_pb2.ReasoningDelta(index=index, content=reasoning))
    content, refusal = text_of(delta.get("content")), text_of(delta.get("refusal"))
    if content or refusal:
        yield chat_pb2.ChatCompletionEvent(delta=chat_pb2.Delta(index=index, content=content, refusal=refusal))
    for at, call in enumerate(delta.get("tool_calls") or []):
        if not isinstance(call, dict):
            continue
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        tool_call = chat_pb2.ToolCallDelta(
            index=index,
            call_index=whole(call.get("index"), at),
            id=text_of(call.get("id")),
            type=text_of(call.get("type")),
            name=text_of(function.get("name")),
            arguments=text_of(function.get("arguments")),
        )
        yield chat_pb2.ChatCompletionEvent(tool_call=tool_call)
    if reason := text_of(choice.get("finish_reason")):
        yield chat_pb2.ChatCompletionEvent(finish=chat_pb2.Finish(index=index, finish_reason=reason))
    if (usage := usage_message(choice.get("usage"))) is not None:
        yield chat_pb2.ChatCompletionEvent(usage=usage)


def _chunk_extras(event: StreamEvent) -> bytes:
    """Return what no event names: members of the chunk, and of its choices and deltas below `choices`."""
    body = event.chunk
    inner = any(choice.keys() - _CHUNK_CHOICE or choice["delta"].keys() - _DELTA for choice in body["choices"])
    if not inner and not body.keys() - _CHUNK:
        return b""
    texts = parse_object(event.data).texts
    extras = {name: text for name, text in texts.items() if name not in _CHUNK}
    if inner:
        choices = []
        for text in parse_array(texts["choices"]):
            choice = parse_object(text).texts
            kept = {name: value for name, value in choice.items() if name == "index" or name not in _CHUNK_CHOICE}
            delta = choice.get("delta", "null")
            if delta != "null" and (more := rest(parse_object(delta).texts, _DELTA)):
                kept["delta"] = more.decode()
            choices.append(join_object(kept))
        extras["choices"] = join_array(choices)
    return join_object(extras).encode()


def _messages(messages: Collection[chat_pb2.ChatMessage]) -> str:
    return join_array(_message(message, f"messages[{at}]") for at, message in enumerate(messages))


def _message(message: chat_pb2.ChatMessage, where: str) -> str:
    texts = {"role": dump(message.role)}
    if message.HasField("content") and message.parts:
        raise InvalidRequestError(f"{where}: set content or parts, not both.", param="messages")
    if message.parts:
        texts["content"] = join_array(_part(part, f"{where}.parts[{at}]") for at, part in enumerate(message.parts))
    else:
        texts["content"] = dump(message.content) if message.HasField("content") else "null"
    for name in ("name", "tool_call_id"):
        if value := getattr(message, name):
            texts[name] = dump(value)
    for name in ("refusal", "reasoning_content"):
        if message.HasField(name):
            texts[name] = dump(getattr(message, name))
    if message.tool_calls:
        texts["tool_calls"] = join_array(
            _tool_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(message.tool_calls)
        )
    add_extras(texts, message.extra_body_json, f"{where}.extra_body_json")
    return join_object(texts)


def _part(part: chat_pb2.ContentPart, where: str) -> str:
    kind = part.WhichOneof("part")
    if kind == "text":
        return join_object({"type": '"text"', "text": dump(part.text)})
    if kind == "image_url":
        image = {"url": dump(part.image_url.url)}
        if part.image_url.detail:
            image["detail"] = dump(part.image_url.detail)
        return join_object({"type": '"image_url"', "image_url": join_object(image)})
    if kind == "other_json":
        return join_object(_object(part.other_json, f"{where}.other_json"))
    raise InvalidRequestError(f"{where}: the part is empty.", param="messages")


def _tool_call(call: chat_pb2.ToolCall, where: str) -> str:
    function = join_object({"name": dump(call.name), "arguments": dump(call.arguments)})
    texts = {"id": dump(call.id), "type": dump(call.type or "function"), "function": function}
    add_extras(texts, call.extra_body_json, f"{where}.extra_body_json")
    return join_object(texts)


def _answer(message: Mapping[str, Any], text: str) -> chat_pb2.ChatMessage:
    content = message.get("content")
    answer = chat_pb2.ChatMessage(
        role=text_of(message.get("role")) or "assistant",
        tool_calls=[_answered_call(call) for call in message.get("tool_calls") or [] if isinstance(call, dict)],
        extra_body_json=rest(parse_object(text).texts, _MESSAGE),
    )
    if isinstance(content, str):
        answer.content = text_of(content)
    for name in ("refusal", "reasoning_content"):
        if isinstance(message.get(name), str):
            setattr(answer, name, text_of(message[name]))
    return answer


def _answered_call(call: Mapping[str, Any]) -> chat_pb2.ToolCall:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    rest = {name: value for name, value in call.items() if name not in _TOOL_CALL}
    return chat_pb2.ToolCall(
        id=text_of(call.get("id")),
        type=text_of(call.get("type")),
        name=text_of(function.get("name")),
        arguments=text_of(function.get("arguments")),
        extra_body_json=dump(rest).encode() if rest else b"",
    )


def _object(data: bytes, where: str) -> dict[str, str]:
    try:
        return parse_object(data).texts
    except ValueError as exc:
        raise InvalidRequestError(f"{where} must be a JSON object: {exc}.") from exc


def _json(data: bytes, where: str) -> str:
    try:
        (text,) = parse_array(f"[{data.decode()}]")
    except ValueError as exc:
        raise InvalidRequestError(f"{where} must be one JSON value.") from exc
    return text


def add_extras(texts: dict[str, str], data: bytes, where: str, *, refused: Collection[str] = ()) -> None:
    """Add further members given as JSON. Raises InvalidRequestError when one has a field of its own, or is refused."""
    if not data:
        return
    extras = _object(data, where)
    clash = sorted(name for name in extras if name in texts or name in refused)
    if clash:
        raise InvalidRequestError(f"{where} must not set {', '.join(clash)[:200]}: a field of its own does.")
    texts.update(extras)


def rest(texts: Mapping[str, str], known: Collection[str]) -> bytes:
    """Return the members without a field of their own as JSON, empty when there are none."""
    rest = {name: text for name, text in texts.items() if name not in known}
    return join_object(rest).encode() if rest else b""


def text_of(value: object) -> str:
    """Return a string that protobuf takes: half of a surrogate pair, which JSON may hold, is no text in UTF-8."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode(errors="replace").decode()


def whole(value: object, otherwise: int = 0) -> int:
    """Return a whole number, `otherwise` when it is something else."""
    return value if isinstance(value, int) and abs(value) < 2**31 else otherwise
