"""Follows a stream of events that say their `type`; one type says that the answer is complete."""

from typing import Any

from parley_llm.upstream.errors import error_from_event
from parley_llm.upstream.events import EventJudge, StreamEvent
from parley_llm.upstream.source import Source
from parley_llm.upstream.sse import MAX_EVENT

_CONTENT = ("delta", "text", "audio", "b64_json", "url")


class TypedEventJudge(EventJudge):
    """Follows the events of sound and pictures: `wanted` events of one of the types `ends` make the answer complete."""

    def __init__(self, source: Source, ends: frozenset[str], wanted: int = 1, max_event: int = MAX_EVENT) -> None:
        super().__init__(source, max_event)
        self._ends = ends
        self._wanted = wanted
        self._ended = 0

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Return what the end of the body completes."""
        if not cause:
            # The body came to its regular end, so the upstream had no more to say than it did.
            self._wanted = 1
        return super().end(cause)

    @property
    def complete(self) -> bool:
        """Tell whether as many ends were said as there must be."""
        return self.over or self._ended >= self._wanted

    def _unfinished(self) -> str:
        return f"it ended without {' or '.join(sorted(self._ends))}"

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        kind = chunk.get("type")
        if not isinstance(kind, str):
            self._break("an event has no type")
            return None
        if kind == "error":
            source = self._source
            self.error = error_from_event(source.name, source.preset, {"error": chunk}, source.secret)
            return None
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        self._count_text(chunk.get("delta"))
        if kind in self._ends:
            self._ended += 1
            self.over = self._ended >= self._wanted
        has_content = kind in self._ends or any(chunk.get(member) for member in _CONTENT)
        return StreamEvent(data, chunk, has_content, name=name)

    def _count_text(self, text: object) -> None:
        if isinstance(text, str):
            self.text += len(text.encode(errors="replace"))
