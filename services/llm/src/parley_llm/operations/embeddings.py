"""Embeddings. A request with more inputs than an upstream takes at a time goes there in several pieces.

Source: OpenAI, "API reference", "Embeddings".
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from parley_llm.errors import InvalidRequestError, UpstreamProtocolError
from parley_llm.exchange import Answer, Call
from parley_llm.jsontext import dump, join_array, join_object, parse_array, parse_object, repeats_a_name
from parley_llm.operations.base import Operation, protocol_error
from parley_llm.upstream.shaping import shape_body, urls_in
from parley_llm.upstream.source import Source
from parley_llm.usage import Usage, estimated

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target

MAX_INPUTS = 2048
"""Inputs of one call at most where it must go in pieces: OpenAI's own limit, so that the pieces stay few."""


class Embeddings(Operation):
    """`/embeddings`."""

    name = "embeddings"
    gen_ai = "embeddings"
    path = "/embeddings"

    def check(self, call: Call) -> None:
        super().check(call)
        asked = call.values.get("input")
        if not isinstance(asked, str | list) or not asked:
            raise InvalidRequestError(
                "input must be a string, a list of strings, a list of tokens or a list of lists of tokens, not empty.",
                param="input",
            )
        for name in ("input", "messages"):
            if isinstance(call.values.get(name), list) and repeats_a_name(call.texts[name]):
                raise InvalidRequestError(f"{name} must not name a member of an object twice.", param=name)

    def streams(self, values: Mapping[str, Any]) -> bool:
        return False

    def media(self, call: Call) -> Iterator[str]:
        """Some servers also take objects that show pictures, or a conversation that does."""
        asked = call.values["input"]
        if isinstance(asked, list):
            yield from urls_in([one for one in asked if isinstance(one, dict)])
        messages = call.values.get("messages")
        for message in messages if isinstance(messages, list) else []:
            if isinstance(message, dict) and isinstance(message.get("content"), list):
                yield from urls_in(message["content"])

    def lacking(self, call: Call, target: "Target", model: str) -> Mapping[str, str]:
        asked, limits = call.values["input"], target.upstream.preset.embeddings
        if not limits.token_arrays and isinstance(asked, list) and isinstance(asked[0], list | float):
            return {"inputs as lists of tokens": "input"}
        if limits.max_inputs is not None and _number(asked) > max(limits.max_inputs, MAX_INPUTS):
            return {f"more than {max(limits.max_inputs, MAX_INPUTS)} inputs": "input"}
        return {}

    def bodies(self, call: Call, target: "Target", model: str) -> list[bytes]:
        adapted: list[str] = []
        asked, most = call.values["input"], target.upstream.preset.embeddings.max_inputs
        if most is None or _number(asked) <= most:
            texts = [call.texts]
        else:
            inputs = parse_array(call.texts["input"])
            texts = [{**call.texts, "input": join_array(inputs[at : at + most])} for at in range(0, len(inputs), most)]
        bodies = [shape_body(one, model, target.profiles.own, ask_usage=False, adapted=adapted) for one in texts]
        call.course.adapted = tuple(dict.fromkeys(adapted))
        return bodies

    def check_answer(self, source: Source, decoded: dict[str, Any]) -> None:
        data = decoded.get("data")
        if not isinstance(data, list) or not data or not all(_is_embedding(one) for one in data):
            raise protocol_error(source, "something that is not a list of embeddings")

    def merged(self, call: Call, answers: list[Answer]) -> Answer:
        """Put the pieces together: the first one's members, everyone's embeddings under their place in the request.

        Each piece but the last has as many inputs as the first, so a piece that answered too few or too many shows.
        """
        size = len(answers[0].decoded["data"])
        embeddings: list[str] = []
        for number, answer in enumerate(answers):
            start = number * size
            expected = min(size, _number(call.values["input"]) - start)
            # The order of the answer need not be that of the inputs: the index says whose an embedding is.
            own = [one.get("index", at) for at, one in enumerate(answer.decoded["data"])]
            if sorted(own) != list(range(expected)):
                raise UpstreamProtocolError(
                    f"Upstream {call.course.upstream!r} answered with {len(own)} embeddings to a part of the request"
                    f" with {expected} inputs, or with indexes that are not theirs.",
                    metadata={"upstream": call.course.upstream},
                )
            texts = parse_array(parse_object(answer.data).texts["data"])
            for index, text in zip(own, texts, strict=True):
                embeddings.append(join_object({**parse_object(text).texts, "index": dump(start + index)}))
        whole = parse_object(answers[0].data).texts
        whole["data"] = join_array(embeddings)
        whole.pop("usage", None)
        usage = Usage(sum(answer.usage.input for answer in answers))
        if any(answer.usage.estimated for answer in answers):
            usage = estimated(self.asked(call), 0)
        else:
            whole["usage"] = dump({"prompt_tokens": usage.input, "total_tokens": usage.input})
        return Answer(join_object(whole).encode(), {}, usage)

    def usage(self, call: Call, decoded: Mapping[str, Any], said: int) -> Usage:
        return super().usage(call, decoded, 0)

    def asked(self, call: Call) -> int:
        return len(call.texts["input"])


def _number(asked: str | list[Any]) -> int:
    """Return how many inputs there are: a list of tokens is one."""
    return len(asked) if isinstance(asked, list) and not isinstance(asked[0], float) else 1


def _is_embedding(one: object) -> bool:
    return isinstance(one, dict) and "embedding" in one and isinstance(one.get("index", 0), int)
