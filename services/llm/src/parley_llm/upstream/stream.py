"""Judges a chat completion stream while it passes: what is content, what is an error, whether it was complete.

Pure: bytes in, events out. An answer is complete when each choice that was asked for has its
`finish_reason`; the `[DONE]` mark alone proves nothing, and its absence after that is forgiven.
"""

from dataclasses import dataclass
from typing import Any

from parley_llm.errors import LLMError, StreamBrokenError
from parley_llm.exchange import MAX_CHOICES
from parley_llm.jsontext import load
from parley_llm.presets.schema import Preset
from parley_llm.upstream.answers import Changes, ChoiceReader, respell
from parley_llm.upstream.errors import error_from_event, reports_error
from parley_llm.upstream.sse import EventSplitter, EventTooLargeError


@dataclass(slots=True)
class StreamEvent:
    """One chunk: as the JSON text that leaves, and decoded."""

    data: bytes
    chunk: dict[str, Any]
    has_content: bool
    usage_only: bool


class StreamJudge:
    """Follows one stream. After `feed` or `end`, `error` says what went wrong behind the returned events."""

    def __init__(self, upstream: str, preset: Preset, choices: int = 1, secret: str = "") -> None:
        self._upstream = upstream
        self._preset = preset
        self._wanted = choices
        self._secret = secret
        self._splitter = EventSplitter()
        self._readers: dict[int, ChoiceReader] = {}
        self.finish_reasons: dict[int, str] = {}
        self.usage: dict[str, Any] | None = None
        self.response_id = ""
        self.response_model = ""
        self.error: LLMError | None = None
        self.over = False

    @property
    def complete(self) -> bool:
        """Tell whether every choice that was asked for, and every one that began, has finished."""
        finished = len(self.finish_reasons)
        return finished > 0 and finished >= max(self._wanted, len(self._readers))

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return the chunks that `data` completes."""
        try:
            return self._judge(self._splitter.feed(data))
        except EventTooLargeError as exc:
            self._break(str(exc))
            return []

    def end(self, cause: str = "") -> list[StreamEvent]:
        """Return what the end of the body cut off; `cause` says why the body ended, if not regularly."""
        events = [] if self.over else self._judge(self._splitter.end(), cut_off=True)
        if not self.over and self.error is None:
            self._finish(cause or "it ended without a finish_reason")
        return events

    def _judge(self, pairs: list[tuple[bytes, bytes]], *, cut_off: bool = False) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for name, data in pairs:
            if self.over or self.error is not None:
                break
            if data.strip() == b"[DONE]":
                self._finish("it said [DONE] without a finish_reason")
                break
            try:
                chunk = load(data)
            except ValueError:
                if not cut_off:
                    self._break("a chunk is not JSON")
                break
            if name == b"error" or not isinstance(chunk, dict) or reports_error(chunk, self._preset):
                self.error = error_from_event(self._upstream, self._preset, chunk, self._secret)
                break
            event = self._chunk(data, chunk)
            if event is not None:
                events.append(event)
        return events

    def _finish(self, otherwise: str) -> None:
        if self.complete:
            self.over = True
        else:
            self._break(otherwise)

    def _break(self, why: str) -> None:
        self.error = StreamBrokenError(
            f"Upstream {self._upstream!r} broke its stream: {why}.", metadata={"upstream": self._upstream}
        )

    def _chunk(self, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            self._break("a chunk has no choices")
            return None
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        if not self.response_id:
            self.response_id = str(chunk.get("id") or "")
            self.response_model = str(chunk.get("model") or "")
        if not choices:
            return StreamEvent(data, chunk, False, isinstance(usage, dict))
        has_content = False
        changes: dict[int, Changes] = {}
        for position, choice in enumerate(choices):
            bare = isinstance(choice, dict) and "delta" not in choice
            delta = self._delta(choice)
            if delta is None or len(self._readers) > MAX_CHOICES:
                self._break("a choice of a chunk is malformed")
                return None
            try:
                changed = self._follow(choice, delta)
            except StreamBrokenError as exc:
                self.error = exc
                return None
            if changed is not None or bare:
                # Callers read the delta of every choice, so one that is missing is spelled out as well.
                changes[position] = changed or Changes({})
            has_content = has_content or bool(choice.get("finish_reason")) or _has_content(delta)
        lifted = self._lift_usage(chunk, choices, changes) if self._preset.usage_in_choice else {}
        if changes:
            data = respell(data, "delta", changes, **lifted)
        return StreamEvent(data, chunk, has_content, False)

    def _follow(self, choice: dict[str, Any], delta: dict[str, Any]) -> Changes | None:
        """Note what a choice says about the stream; return the changes to it, which are already applied."""
        index = choice.get("index", 0)
        reader = self._readers.get(index)
        if reader is None:
            reader = self._readers[index] = ChoiceReader(self._upstream, self._preset)
        changed = reader.read(choice, delta)
        if finish_reason := choice.get("finish_reason"):
            self.finish_reasons[index] = finish_reason
        if isinstance(choice.get("usage"), dict):
            self.usage = choice["usage"]
        return changed

    @staticmethod
    def _lift_usage(
        chunk: dict[str, Any], choices: list[dict[str, Any]], changes: dict[int, Changes]
    ) -> dict[str, Any]:
        """Move the token counts from inside a choice to where callers look for them."""
        for position, choice in enumerate(choices):
            if isinstance(choice.get("usage"), dict):
                chunk["usage"] = choice.pop("usage")
                changes.setdefault(position, Changes({})).choice["usage"] = None
                return {"usage": chunk["usage"]}
        return {}

    @staticmethod
    def _delta(choice: object) -> dict[str, Any] | None:
        """Return a choice's delta, an empty one where it has none, None where the choice is malformed."""
        if not isinstance(choice, dict):
            return None
        delta = choice.setdefault("delta", {})
        if delta is None:
            delta = choice["delta"] = {}
        if not isinstance(delta, dict) or not isinstance(choice.get("index", 0), int):
            return None
        finish_reason, calls = choice.get("finish_reason"), delta.get("tool_calls")
        well_formed = (finish_reason is None or isinstance(finish_reason, str)) and (
            calls is None or isinstance(calls, list)
        )
        return delta if well_formed else None


def _has_content(delta: dict[str, Any]) -> bool:
    for name, value in delta.items():  # noqa: SIM110 - runs for every chunk, and `any` makes a generator each time
        if value and name != "role":
            return True
    return False
