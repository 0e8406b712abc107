"""Chat completions: the endpoint that presets know everything about, and the one that must be fast."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import repeats_a_name
from parley_llm.operations.base import Operation, decoded_answer
from parley_llm.upstream.adaptation import body_for
from parley_llm.upstream.answers import unified
from parley_llm.upstream.features import PARAMS, used_features
from parley_llm.upstream.shaping import media_urls
from parley_llm.upstream.source import Source
from parley_llm.upstream.stream import MAX_CHOICES, StreamJudge

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target


class Chat(Operation):
    """`/chat/completions`."""

    name = "chat"
    gen_ai = "chat"
    path = "/chat/completions"
    default_model = True

    def check(self, call: Call) -> None:
        messages = call.values.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequestError("messages must be a list with at least one message.", param="messages")
        super().check(call)
        check_stream_options(call)
        # Only a list inside the list of messages can hold content parts.
        if call.texts["messages"].count("[") > 1 and repeats_a_name(call.texts["messages"]):
            raise InvalidRequestError("messages must not name a member of an object twice.", param="messages")

    def media(self, call: Call) -> Iterator[str]:
        return media_urls(call.values["messages"])

    def lacking(self, call: Call, target: "Target", model: str) -> Mapping[str, str]:
        if not target.profiles.selective:
            return {}
        lacks = target.profiles.of(model, stream=call.stream).refuses & used_features(call.values)
        return {name: PARAMS[name] for name in sorted(lacks)}

    def bodies(self, call: Call, target: "Target", model: str) -> list[bytes]:
        return [body_for(call, model, target.profiles.of(model, stream=call.stream), stream=call.stream)]

    def answer(self, source: Source, call: Call, data: bytes, content_type: str) -> Answer:
        decoded = decoded_answer(source, data)
        data = unified(source, data, decoded)
        return Answer(data, decoded, self.usage(call, decoded, len(data)))

    def judge(self, source: Source, call: Call) -> StreamJudge:
        return StreamJudge(source, choices(call.values))

    def asked(self, call: Call) -> int:
        # The size of the messages as JSON is near enough, and already there.
        return len(call.texts["messages"])


def choices(values: Mapping[str, Any]) -> int:
    """Return how many choices a request asks for; 1 when it says nothing or nonsense, which the upstream refuses."""
    number = values.get("n")
    return int(number) if isinstance(number, float) and 1 <= number <= MAX_CHOICES else 1


def check_stream_options(call: Call) -> None:
    """Raise InvalidRequestError unless `stream_options` is an object, where it is anything."""
    options = call.values.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequestError("stream_options must be an object.", param="stream_options")
