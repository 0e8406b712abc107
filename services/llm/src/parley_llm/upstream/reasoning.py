"""Brings a model's reasoning into one form: `reasoning_content`, as DeepSeek's API names it.

Others write `reasoning`, put it between `<think>` and `</think>` at the start of the answer's text, or make a list
of parts of `content`; the preset says which. A `<think>` anywhere else is text like any other.
"""

from typing import Any

from parley_llm.presets.schema import Reasoning

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkSplitter:
    """Separates one choice's text, piece by piece, into reasoning and answer."""

    __slots__ = ("_held", "_state")

    def __init__(self, *, enabled: bool = True) -> None:
        self._state = "start" if enabled else "text"
        self._held = ""

    @property
    def idle(self) -> bool:
        """Tell that the text passes unchanged from here on."""
        return self._state == "text"

    def feed(self, text: str, *, final: bool) -> tuple[str, str]:
        """Return (reasoning, answer) of the next piece; `final` gives out what was held back."""
        if self._state == "text":
            return "", text
        text = self._held + text
        self._held = ""
        if self._state == "start":
            begin = text.lstrip()
            if begin.startswith(_OPEN):
                self._state = "think"
                text = begin[len(_OPEN) :].removeprefix("\n")
            elif _OPEN.startswith(begin) and not final:
                self._held = text
                return "", ""
            else:
                self._state = "text"
                return "", text
        if self._state == "think":
            reasoning, closed, text = text.partition(_CLOSE)
            if not closed:
                if not final:
                    kept = _overlap(reasoning, _CLOSE)
                    self._held = reasoning[len(reasoning) - kept :]
                    reasoning = reasoning[: len(reasoning) - kept]
                return reasoning, ""
            self._state = "after"
        else:
            reasoning = ""
        text = text.lstrip("\r\n")
        if text or final:
            self._state = "text"
        return reasoning.removesuffix("\n") if self._state != "think" else reasoning, text


def _overlap(text: str, mark: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `mark`."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0


def unify(part: dict[str, Any], splitter: ThinkSplitter, form: Reasoning, *, final: bool) -> dict[str, Any]:
    """Return what must change in a message or delta: member name to new value, or to None to take it out."""
    changes: dict[str, Any] = {}
    for name in form.members:
        reasoning = part.get(name)
        if isinstance(reasoning, str):
            if name != "reasoning_content":
                changes[name] = None
                changes["reasoning_content"] = reasoning
            break
    content = part.get("content")
    if form.parts and isinstance(content, list) and (texts := _texts(content)) is not None:
        thought, content = texts
        changes["content"] = content
        if thought:
            changes["reasoning_content"] = thought
    if splitter.idle or (not content and not final) or not (content is None or isinstance(content, str)):
        return changes
    thought, answer = splitter.feed(content or "", final=final)
    if thought:
        known = changes.get("reasoning_content") or part.get("reasoning_content") or ""
        changes["reasoning_content"] = f"{known}{thought}"
    if answer != (content or ""):
        changes["content"] = answer
    return changes


def _texts(parts: list[Any]) -> tuple[str, str] | None:
    """Return reasoning and answer of a list of parts, None when one of them is neither."""
    said: dict[str, list[str]] = {"thinking": [], "text": []}
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in said:
            return None
        inner = part.get(kind)
        pieces = [one.get("text") for one in inner if isinstance(one, dict)] if isinstance(inner, list) else [inner]
        said[kind] += [piece for piece in pieces if isinstance(piece, str)]
    return "".join(said["thinking"]), "".join(said["text"])
