"""Moderations: text, or text and pictures, judged. Source: OpenAI, "API reference", "Moderations"."""

from collections.abc import Iterator, Mapping
from typing import Any

from parley_llm.errors import InvalidRequestError
from parley_llm.exchange import Call
from parley_llm.jsontext import repeats_a_name
from parley_llm.operations.base import Operation, protocol_error
from parley_llm.upstream.shaping import urls_in
from parley_llm.upstream.source import Source
from parley_llm.usage import Usage, counted


class Moderation(Operation):
    """`/moderations`."""

    name = "moderation"
    gen_ai = "moderation"
    path = "/moderations"
    model_needed = False

    def check(self, call: Call) -> None:
        super().check(call)
        asked = call.values.get("input")
        if not isinstance(asked, str | list) or not asked:
            raise InvalidRequestError("input must be a string or a list, not empty.", param="input")
        if isinstance(asked, list) and repeats_a_name(call.texts["input"]):
            raise InvalidRequestError("input must not name a member of an object twice.", param="input")

    def streams(self, values: Mapping[str, Any]) -> bool:
        return False

    def media(self, call: Call) -> Iterator[str]:
        asked = call.values["input"]
        # A plain string is text to judge, whatever it looks like.
        return urls_in([one for one in asked if not isinstance(one, str)]) if isinstance(asked, list) else iter(())

    def check_answer(self, source: Source, decoded: dict[str, Any]) -> None:
        results = decoded.get("results")
        if not isinstance(results, list) or not results or not all(isinstance(one, dict) for one in results):
            raise protocol_error(source, "something that is not a moderation")

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        # Most vendors don't count tokens for these, and charge nothing.
        usage = decoded.get("usage")
        return counted(usage) if isinstance(usage, dict) else Usage()
