"""The Responses API: typed events, and an end that is an event of its own instead of `[DONE]`.

A response can refer to what an upstream keeps, such as the response before it; only the upstream that keeps it can
answer, so such a request has no other targets. Source: OpenAI, "API reference", "Responses" and "Streaming events".
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from parley_llm.errors import InvalidRequestError, StreamBrokenError
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import repeats_a_name
from parley_llm.operations.base import Operation, decoded_answer, protocol_error
from parley_llm.operations.response_events import ResponseJudge
from parley_llm.upstream.features import is_forced, thinks
from parley_llm.upstream.shaping import urls_in
from parley_llm.upstream.source import Source

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target

_PARAMS = {
    "tools": "tools", "forced_tool": "tool_choice", "json_schema": "text", "json_object": "text",
    "vision": "input", "thinking": "reasoning",
}  # fmt: skip
_FETCHING = ("input", "tools", "prompt")
"""Members that may name what the upstream fetches."""
_WORDS = frozenset({"description", "parameters", "server_description", "headers", "filters"})
"""Members of a tool that describe it; a URL in them is not fetched."""


class Responses(Operation):
    """`/responses`."""

    name = "responses"
    gen_ai = "chat"
    path = "/responses"
    named_events = True
    default_model = True

    def check(self, call: Call) -> None:
        super().check(call)
        values = call.values
        if not isinstance(values.get("input"), str | list | None):
            raise InvalidRequestError("input must be a string or a list.", param="input")
        if values.get("background") is True:
            # Its result is fetched later, by a request that is not served here.
            raise InvalidRequestError("background is not offered here; leave it out.", param="background")
        for name in _FETCHING:
            if isinstance(values.get(name), list | dict) and repeats_a_name(call.texts[name]):
                raise InvalidRequestError(f"{name} must not name a member of an object twice.", param=name)

    def media(self, call: Call) -> Iterator[str]:
        for item in _objects(call.values.get("input")):
            if str(item.get("type")).startswith("input_"):
                yield from urls_in(item)
            for part in _parts(item):
                # What a model found in the web is quoted in its answer's annotations, not fetched again.
                yield from urls_in({name: value for name, value in part.items() if name != "annotations"})
        for tool in _objects(call.values.get("tools")):
            yield from urls_in({name: value for name, value in tool.items() if name not in _WORDS})
        yield from urls_in([value for value in _variables(call.values) if isinstance(value, dict)])

    def refers_to_state(self, call: Call) -> bool:
        values = call.values
        prompt = values.get("prompt")
        return (
            bool(values.get("previous_response_id") or values.get("conversation"))
            or (isinstance(prompt, dict) and bool(prompt.get("id")))
            or any(item.get("type") == "item_reference" for item in _objects(values.get("input")))
        )

    def lacking(self, call: Call, target: "Target", model: str) -> Mapping[str, str]:
        if not target.profiles.selective:
            return {}
        lacks = target.profiles.of(model, stream=call.stream).lacks & _used(call.values)
        return {name: _PARAMS[name] for name in sorted(lacks)}

    def answer(self, source: Source, call: Call, data: bytes, content_type: str) -> Answer:
        decoded = decoded_answer(source, data)
        if decoded.get("object", "response") != "response" or not isinstance(decoded.get("output"), list):
            raise protocol_error(source, "something that is not a response")
        if decoded.get("status") == "failed":
            raise StreamBrokenError(
                f"Upstream {source.name!r} answered with a response that failed and says no more.",
                metadata={"upstream": source.name},
            )
        return Answer(data, decoded, self.usage(call, decoded, len(data)))

    def judge(self, source: Source, call: Call) -> ResponseJudge:
        return ResponseJudge(source)

    def asked(self, call: Call) -> int:
        return len(call.texts.get("input", "")) + len(call.texts.get("instructions", ""))


def _objects(values: object) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _parts(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the parts of an item's content and output; where these are strings, they are text."""
    for name in ("content", "output"):
        value = item.get(name)
        yield from _objects([value] if isinstance(value, dict) else value)


def _variables(values: Mapping[str, Any]) -> list[Any]:
    """Return the values that are put into a prompt which the upstream keeps."""
    prompt = values.get("prompt")
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    return list(variables.values()) if isinstance(variables, dict) else []


def _used(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the features that a request uses. What is no request at all is left to the upstream."""
    used: set[str] = set()
    if any(tool.get("type") in ("function", "custom") for tool in _objects(values.get("tools"))):
        used.add("tools")
    choice = values.get("tool_choice")
    if is_forced(choice) and not (isinstance(choice, dict) and choice.get("mode") == "auto"):
        used.add("forced_tool")
    text = values.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind in ("json_schema", "json_object"):
        used.add(kind)
    reasoning = values.get("reasoning")
    if isinstance(reasoning, dict) and thinks(reasoning.get("effort")):
        used.add("thinking")
    if any(part.get("type") == "input_image" for item in _objects(values.get("input")) for part in _parts(item)):
        used.add("vision")
    return frozenset(used)
