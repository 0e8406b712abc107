"""Follows a stream of server-sent events while it passes: what is content, what is an error, whether it was complete.

Pure: bytes in, events out. What makes an answer complete differs between endpoints and stands in the subclasses.
"""

from dataclasses import dataclass
from typing import Any

from parley_llm.errors import LLMError, StreamBrokenError
from parley_llm.jsontext import load
from parley_llm.upstream.errors import error_from_event, reports_error
from parley_llm.upstream.source import Source
from parley_llm.upstream.sse import MAX_EVENT, EventSplitter, EventTooLargeError


@dataclass(slots=True)
class StreamEvent:
    """A piece of a streamed answer: an event's JSON text and name, or raw bytes; `chunk` is the text decoded."""

    data: bytes
    chunk: dict[str, Any]
    has_content: bool
    usage_only: bool = False
    name: bytes = b""


class EventJudge:
    """Follows one stream. After `feed` or `end`, `error` says what went wrong behind the returned events."""

    def __init__(self, source: Source, max_event: int = MAX_EVENT) -> None:
        self._source = source
        self._splitter = EventSplitter(max_event)
        self.usage: dict[str, Any] | None = None
        self.text = 0
        self.response_id = ""
        self.response_model = ""
        self.error: LLMError | None = None
        self.over = False

    @property
    def complete(self) -> bool:
        """Tell whether the answer has said its regular end; only formalities may be missing."""
        return self.over

    @property
    def reasons(self) -> list[str]:
        """Why the answer ended, by choice."""
        return []

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the events that `data` completes."""
        try:
            return self._judge(self._splitter.feed(data))
        except EventTooLargeError as exc:
            self._break(str(exc))
            return []

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Return what the end of the body cut off; `cause` says why the body ended, if not regularly."""
        events = [] if self.over else self._judge(self._splitter.end(), cut_off=True)
        if not self.over and self.error is None:
            self._finish(cause or self._unfinished())
        return events

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        """Read one event; None, with `error` set, when it is malformed."""
        raise NotImplementedError

    def _unfinished(self) -> str:
        """Say what an end that came too early lacks."""
        return "it ended before the answer was complete"

    def _judge(self, pairs: list[tuple[bytes, bytes]], *, cut_off: bool = False) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for name, data in pairs:
            if self.over or self.error is not None:
                break
            if data.strip() == b"[DONE]":
                self._finish(f"{self._unfinished()}, though it said [DONE]")
                break
            try:
                chunk = load(data)
            except ValueError:
                if not cut_off:
                    self._break("a chunk is not JSON")
                break
            if name == b"error" or not isinstance(chunk, dict) or reports_error(chunk, self._source.preset):
                self.error = error_from_event(self._source.name, self._source.preset, chunk, self._source.secret)
                break
            event = self._read(name, data, chunk)
            if event is not None:
                events.append(event)
        return events

    def _finish(self, otherwise: str) -> None:
        if self.complete:
            self.over = True
        else:
            self._break(otherwise)

    def _break(self, why: str) -> None:
        name = self._source.name
        self.error = StreamBrokenError(f"Upstream {name!r} broke its stream: {why}.", metadata={"upstream": name})
