"""Text completions, OpenAI's older endpoint: a prompt in, text out. Source: OpenAI, "API reference", "Completions"."""

from typing import TYPE_CHECKING, Any

from parley_llm.errors import InvalidRequestError, StreamBrokenError
from parley_llm.exchange import Call
from parley_llm.operations.base import Operation, protocol_error
from parley_llm.operations.chat import check_stream_options, choices
from parley_llm.upstream.events import EventJudge, StreamEvent
from parley_llm.upstream.shaping import shape_body
from parley_llm.upstream.source import Source
from parley_llm.upstream.stream import MAX_CHOICES

if TYPE_CHECKING:
    from parley_llm.calls.routing import Target


class TextCompletion(Operation):
    """`/completions`."""

    name = "text_completion"
    gen_ai = "text_completion"
    path = "/completions"
    default_model = True

    def check(self, call: Call) -> None:
        super().check(call)
        if not isinstance(call.values.get("prompt"), str | list | None):
            raise InvalidRequestError("prompt must be a string or a list.", param="prompt")
        check_stream_options(call)

    def bodies(self, call: Call, target: "Target", model: str) -> list[bytes]:
        adapted: list[str] = []
        ask_usage = call.stream and "stream_usage" not in target.profiles.of(model, stream=call.stream).lacks
        body = shape_body(call.texts, model, target.profiles.own, ask_usage=ask_usage, adapted=adapted)
        call.course.adapted = tuple(dict.fromkeys(adapted))
        return [body]

    def check_answer(self, source: Source, decoded: dict[str, Any]) -> None:
        found = decoded.get("choices")
        well_formed = isinstance(found, list) and all(
            isinstance(choice, dict) and isinstance(choice.get("text"), str) for choice in found
        )
        if not found or not isinstance(found, list) or not well_formed:
            raise protocol_error(source, "something that is not a completion")
        for choice in found:
            if error := _interruption(source, choice.get("finish_reason")):
                raise error

    def judge(self, source: Source, call: Call) -> "CompletionJudge":
        return CompletionJudge(source, choices(call.values) * _prompts(call.values.get("prompt")))

    def asked(self, call: Call) -> int:
        return len(call.texts.get("prompt", ""))


def _prompts(prompt: object) -> int:
    """Return how many prompts there are: a list holds several, unless it is one prompt as a list of tokens."""
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], float) else 1


def _interruption(source: Source, reason: object) -> StreamBrokenError | None:
    """Return the error for a finish reason by which the upstream says that it gave up."""
    if not isinstance(reason, str) or source.preset.finish_reasons.get(reason) != "interrupted":
        return None
    return StreamBrokenError(
        f"Upstream {source.name!r} ended the answer with finish_reason {reason!r}: it is not complete.",
        metadata={"upstream": source.name},
    )


class CompletionJudge(EventJudge):
    """Follows a stream of text completion chunks: complete when each choice has its `finish_reason`."""

    def __init__(self, source: Source, wanted: int) -> None:
        super().__init__(source)
        self._wanted = wanted
        self._begun: set[int] = set()
        self._finished: dict[int, str] = {}

    @property
    def complete(self) -> bool:
        """Tell whether every choice that was asked for, and every one that began, has finished."""
        return len(self._finished) > 0 and len(self._finished) >= max(self._wanted, len(self._begun))

    @property
    def reasons(self) -> list[str]:
        """Why each choice ended."""
        return list(self._finished.values())

    def _unfinished(self) -> str:
        return "it ended without a finish_reason"

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        found = chunk.get("choices")
        if not isinstance(found, list):
            self._break("a chunk has no choices")
            return None
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        if not self.response_id:
            self.response_id, self.response_model = str(chunk.get("id") or ""), str(chunk.get("model") or "")
        has_content = False
        for choice in found:
            if not _is_choice(choice) or len(self._begun) > max(self._wanted, MAX_CHOICES):
                self._break("a choice of a chunk is malformed")
                return None
            reason = choice.get("finish_reason")
            self.error = _interruption(self._source, reason)
            if self.error is not None:
                return None
            index, text = choice.get("index", 0), choice.get("text") or ""
            self._begun.add(index)
            if reason:
                self._finished[index] = reason
            self.text += len(text.encode(errors="replace"))
            has_content = has_content or bool(text or reason)
        return StreamEvent(data, chunk, has_content, not found and isinstance(usage, dict))


def _is_choice(choice: object) -> bool:
    return (
        isinstance(choice, dict)
        and isinstance(choice.get("index", 0), int)
        and isinstance(choice.get("text"), str | None)
        and isinstance(choice.get("finish_reason"), str | None)
    )
