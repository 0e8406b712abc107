"""Follows answers in pieces that are no events: sound, and a transcription that came whole."""

from collections.abc import Mapping
from typing import Any

from parley_llm.errors import LLMError, StreamBrokenError
from parley_llm.jsontext import join_object, load, parse_object
from parley_llm.operations.base import decoded_answer, protocol_error
from parley_llm.upstream.events import StreamEvent
from parley_llm.upstream.source import Source
from parley_llm.upstream.sse import MAX_EVENT


class _BodyJudge:
    """Follows one body. Only its end, as HTTP says it must be, tells that it is complete."""

    complete = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self.error: LLMError | None = None
        self.over = False
        self.usage: dict[str, Any] | None = None
        self.text = 0
        self.response_id = ""
        self.response_model = ""
        self.reasons: list[str] = []

    def _break(self, why: str) -> None:
        name = self._source.name
        self.error = StreamBrokenError(f"Upstream {name!r} broke its answer: {why}.", metadata={"upstream": name})


class RawJudge(_BodyJudge):
    """Passes on bytes that mean nothing to us."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the bytes."""
        self.text += len(data)
        return [StreamEvent(data, {}, has_content=True)]

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Note the end of the body."""
        if cause or not self.text:
            self._break(cause or "it is empty")
        else:
            self.over = True
        return []


class WholeTranscript(_BodyJudge):
    """Makes the events that were asked for of an answer that came whole: OpenAI ignores `stream` for `whisper-1`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._data = bytearray()

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Wait for the rest."""
        self._data += data
        if len(self._data) > MAX_EVENT:
            self._break(f"it is longer than {MAX_EVENT} bytes")
        return []

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Return the whole text as one piece, and the event that ends it, with all that the answer says."""
        if cause:
            self._break(cause)
            return []
        data = bytes(self._data)
        try:
            decoded = decoded_transcript(self._source, data)
            members = parse_object(data).texts
        except LLMError as error:
            self.error = error
            return []
        except ValueError as exc:
            self._break(f"it can't be read: {exc}")
            return []
        usage = decoded.get("usage")
        self.usage = usage if isinstance(usage, dict) else None
        self.text = transcript_length(decoded)
        self.over = True
        delta = {"type": '"transcript.text.delta"', "delta": members["text"]}
        return [_event(delta), _event({**members, "type": '"transcript.text.done"'})]


def decoded_transcript(source: Source, data: bytes) -> dict[str, Any]:
    """Decode a transcription in JSON. Raises LLMError when it is none, or reports an error."""
    decoded = decoded_answer(source, data)
    if not isinstance(decoded.get("text"), str):
        raise protocol_error(source, "something that is not a transcription")
    return decoded


def transcript_length(decoded: Mapping[str, Any]) -> int:
    """Return the length of a transcription's text in bytes."""
    return len(decoded["text"].encode(errors="replace"))


def _event(members: Mapping[str, str]) -> StreamEvent:
    data = join_object(members).encode(errors="replace")
    return StreamEvent(data, load(data), has_content=True)
