"""Follows the events of a streamed response. Source: OpenAI, "API reference", "Streaming events"."""

from typing import Any

from parley_llm.upstream.errors import error_from_event
from parley_llm.upstream.events import EventJudge, StreamEvent
from parley_llm.upstream.source import Source

# Events that say no more than that work began: until another one comes, the request may be sent elsewhere.
_PRELUDE = frozenset(
    {
        "response.created", "response.queued", "response.in_progress", "response.output_item.added",
        "response.content_part.added", "response.reasoning_summary_part.added", "keepalive",
    }
)  # fmt: skip
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class ResponseJudge(EventJudge):
    """Follows one response to the event that ends it.

    One that fails before anything was passed on is an error, so that another attempt can do better. One that fails
    later ends with the upstream's own event for that; `error` says it besides.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._status = ""
        self._content = False

    @property
    def reasons(self) -> list[str]:
        """The response's last status."""
        return [self._status] if self._status else []

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        kind = chunk.get("type")
        if not isinstance(kind, str):
            self._break("an event has no type")
            return None
        if kind == "error":
            self._fail(chunk)
            return None
        response = chunk.get("response")
        if isinstance(response, dict):
            self._note(response)
        if kind == "response.failed":
            self._fail((response.get("error") if isinstance(response, dict) else None) or {})
            if not self._content:
                return None
        if kind in _ENDS:
            self._status = kind.removeprefix("response.")
            self.over = True
        elif kind not in _PRELUDE:
            self._content = True
            delta = chunk.get("delta")
            if isinstance(delta, str):
                self.text += len(delta.encode(errors="replace"))
        return StreamEvent(data, chunk, self._content or self.over, name=name)

    def _note(self, response: dict[str, Any]) -> None:
        self.response_id = self.response_id or str(response.get("id") or "")
        self.response_model = str(response.get("model") or "")
        if isinstance(response.get("usage"), dict):
            self.usage = response["usage"]

    def _fail(self, told: object) -> None:
        self.error = error_from_event(self._source.name, self._source.preset, {"error": told}, self._source.secret)
