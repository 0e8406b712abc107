"""Judges a chat completion stream while it passes: what is content, what is an error, whether it was complete.

Pure: bytes in, events out. An answer is complete when each choice that was asked for has its
`finish_reason`; the `[DONE]` mark alone proves nothing, and its absence after that is forgiven.
"""

from dataclasses import dataclass
from typing import Any

from parley_llm.errors import LLMError, StreamBrokenError
from parley_llm.exchange import MAX_CHOICES
from parley_llm.jsontext import dump, join_array, join_object, load, parse_array, parse_object
from parley_llm.upstream.errors import error_from_event
from parley_llm.upstream.reasoning import ThinkSplitter, unify
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

    def __init__(self, upstream: str, choices: int = 1, secret: str = "") -> None:
        self._upstream = upstream
        self._wanted = choices
        self._secret = secret
        self._splitter = EventSplitter()
        self._think: dict[int, ThinkSplitter] = {}
        self.finish_reasons: dict[int, str] = {}
        self.usage: dict[str, Any] | None = None
        self.response_id = ""
        self.response_model = ""
        self.error: LLMError | None = None
        self.over = False

    @property
    def complete(self) -> bool:
        """Tell whether every choice that was asked for, and every one that began, has finished."""
        return len(self.finish_reasons) >= max(self._wanted, len(self._think))

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
            if name == b"error" or not isinstance(chunk, dict) or chunk.get("error"):
                self.error = error_from_event(self._upstream, chunk, self._secret)
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
        changes: dict[int, dict[str, str | None]] = {}
        for position, choice in enumerate(choices):
            delta = self._delta(choice)
            if delta is None or len(self._think) > MAX_CHOICES:
                self._break("a choice of a chunk is malformed")
                return None
            changed = self._follow(choice, delta)
            if changed:
                changes[position] = changed
            has_content = has_content or bool(choice.get("finish_reason")) or _has_content(delta)
        if changes:
            data = _respell(data, "delta", changes)
        return StreamEvent(data, chunk, has_content, False)

    def _follow(self, choice: dict[str, Any], delta: dict[str, Any]) -> dict[str, str | None]:
        """Note what a choice says about the stream; return the changes to its delta, which are already applied."""
        index = choice.get("index", 0)
        finish_reason = choice.get("finish_reason")
        splitter = self._think.get(index)
        if splitter is None:
            splitter = self._think[index] = ThinkSplitter()
        changed = unify(delta, splitter, final=bool(finish_reason))
        if changed:
            _apply(delta, changed)
        if finish_reason:
            self.finish_reasons[index] = finish_reason
        if isinstance(choice.get("usage"), dict):
            self.usage = choice["usage"]  # Moonshot counts the tokens inside the choice.
        return changed

    @staticmethod
    def _delta(choice: object) -> dict[str, Any] | None:
        """Return a choice's delta, an empty one where it has none, None where the choice is malformed."""
        if not isinstance(choice, dict):
            return None
        delta = choice.setdefault("delta", {})
        if delta is None:
            delta = choice["delta"] = {}
        well_formed = (
            isinstance(delta, dict)
            and isinstance(choice.get("index", 0), int)
            and isinstance(choice.get("finish_reason"), str | None)
            and isinstance(delta.get("tool_calls"), list | None)
        )
        return delta if well_formed else None


def _has_content(delta: dict[str, Any]) -> bool:
    return any(value for name, value in delta.items() if name != "role")


def unify_completion(data: bytes, completion: dict[str, Any]) -> bytes:
    """Bring the reasoning of a complete answer into one form, in `completion` and in the text returned."""
    changes: dict[int, dict[str, str | None]] = {}
    for position, choice in enumerate(completion["choices"]):
        changed = unify(choice["message"], ThinkSplitter(), final=True)
        if changed:
            changes[position] = changed
            _apply(choice["message"], changed)
    return _respell(data, "message", changes) if changes else data


def _apply(part: dict[str, Any], changes: dict[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            part.pop(name, None)
        else:
            part[name] = value


def _respell(data: bytes, part_name: str, changes: dict[int, dict[str, str | None]]) -> bytes:
    """Change members of some choices' deltas or messages and leave every other character as it was."""
    whole = parse_object(data).texts
    choices = parse_array(whole["choices"])
    for position, changed in changes.items():
        choice = parse_object(choices[position]).texts
        text = choice.get(part_name, "{}")
        part = {} if text == "null" else parse_object(text).texts
        for name, value in changed.items():
            if value is None:
                part.pop(name, None)
            else:
                part[name] = dump(value)
        choice[part_name] = join_object(part)
        choices[position] = join_object(choice)
    whole["choices"] = join_array(choices)
    return join_object(whole).encode()
