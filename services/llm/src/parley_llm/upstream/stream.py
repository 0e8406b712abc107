"""Judges a chat completion stream while it passes.

An answer is complete when each choice that was asked for has its `finish_reason`; the `[DONE]` mark alone proves
nothing, and its absence after that is forgiven.
"""

from typing import Any

from parley_llm.errors import StreamBrokenError
from parley_llm.upstream.answers import Changes, ChoiceReader, respell
from parley_llm.upstream.events import EventJudge, StreamEvent
from parley_llm.upstream.source import Source

MAX_CHOICES = 128


class StreamJudge(EventJudge):
    """Follows one chat completion; `choices` is how many were asked for."""

    def __init__(self, source: Source, choices: int = 1) -> None:
        super().__init__(source)
        self._wanted = choices
        self._readers: dict[int, ChoiceReader] = {}
        self.finish_reasons: dict[int, str] = {}

    @property
    def complete(self) -> bool:
        """Tell whether every choice that was asked for, and every one that began, has finished."""
        finished = len(self.finish_reasons)
        return finished > 0 and finished >= max(self._wanted, len(self._readers))

    @property
    def reasons(self) -> list[str]:
        """Why each choice ended."""
        return list(self.finish_reasons.values())

    def _unfinished(self) -> str:
        return "it ended without a finish_reason"

    def _read(self, name: bytes, data: bytes, chunk: dict[str, Any]) -> StreamEvent | None:
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
        if len(choices) == 1 and (event := self._plain(data, chunk, choices[0])) is not None:
            return event
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
            self.text += _text_length(delta)
        lifted = self._lift_usage(chunk, choices, changes) if self._source.preset.usage_in_choice else {}
        if changes:
            data = respell(data, "delta", changes, **lifted)
        return StreamEvent(data, chunk, has_content, False)

    def _plain(self, data: bytes, chunk: dict[str, Any], choice: object) -> StreamEvent | None:
        """Return the event of a chunk that only continues the text of one choice; None if it needs a closer look.

        Nearly all chunks are such, and most of what a chunk costs is looking at it.
        """
        if not isinstance(choice, dict) or choice.get("finish_reason") is not None or "usage" in choice:
            return None
        index, delta = choice.get("index", 0), choice.get("delta")
        if type(index) is not int or not isinstance(delta, dict):
            return None
        reader = self._readers.get(index)
        if reader is None or not reader.passes(delta):
            return None
        length = 0
        has_content = False
        for name, value in delta.items():
            if isinstance(value, str):
                length += len(value) if value.isascii() else len(value.encode(errors="replace"))
                has_content = has_content or (value != "" and name != "role")
            elif value is not None:
                return None
        self.text += length
        return StreamEvent(data, chunk, has_content)

    def _follow(self, choice: dict[str, Any], delta: dict[str, Any]) -> Changes | None:
        """Note what a choice says about the stream; return the changes to it, which are already applied."""
        index = choice.get("index", 0)
        reader = self._readers.get(index)
        if reader is None:
            reader = self._readers[index] = ChoiceReader(self._source.name, self._source.preset)
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


def _text_length(delta: dict[str, Any]) -> int:
    length = 0
    for value in delta.values():
        if isinstance(value, str):
            length += len(value) if value.isascii() else len(value.encode(errors="replace"))
    return length


def _has_content(delta: dict[str, Any]) -> bool:
    for name, value in delta.items():  # noqa: SIM110 - runs for every chunk, and `any` makes a generator each time
        if value and name != "role":
            return True
    return False
