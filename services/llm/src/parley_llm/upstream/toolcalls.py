"""Gives every tool call of an answer an id and a place of its own, where an upstream forgets to.

Callers put a streamed call together by its `index` and name its result by its `id`. Some servers leave the id out, or
give every parallel call the index 0; then arguments of different calls would run into one another.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from parley_llm.jsontext import load

MAX_CALLS = 128
MAX_ARGUMENTS = 64 * 1024
"""Characters of a call's arguments that are kept for telling whether it is whole; a longer one never seems so."""


@dataclass(slots=True)
class _Call:
    index: int
    id: str
    arguments: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, arguments: str) -> None:
        """Keep a piece of the arguments."""
        self.length += len(arguments)
        if self.length <= MAX_ARGUMENTS:
            self.arguments.append(arguments)

    @property
    def whole(self) -> bool:
        """Whether the arguments are a whole object."""
        if self.length > MAX_ARGUMENTS:
            return False
        try:
            return isinstance(load("".join(self.arguments).encode(errors="replace")), dict)
        except ValueError:
            return False


class ToolCallRepair:
    """Follows the tool calls of one choice."""

    __slots__ = ("_by_index", "_count")

    def __init__(self) -> None:
        self._by_index: dict[int, _Call] = {}
        self._count = 0

    def fix(self, pieces: list[Any]) -> list[Any] | None:
        """Return the repaired calls, or pieces of calls, of a message or delta; None when nothing is wrong."""
        fixed = [self._fix(position, piece) for position, piece in enumerate(pieces)]
        return fixed if fixed != pieces else None

    def _fix(self, position: int, piece: Any) -> Any:
        index = piece.get("index", position) if isinstance(piece, dict) else None
        if not isinstance(index, int):
            return piece
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        call = self._by_index.get(index)
        changes: dict[str, Any] = {}
        if call is None or _begins_another(call, piece.get("id"), function.get("name")):
            if self._count >= MAX_CALLS:
                return piece
            given = piece.get("id")
            call = _Call(
                self._count, given if isinstance(given, str) and given else f"call_{random.getrandbits(96):024x}"
            )
            self._by_index[index] = call
            self._count += 1
            changes["id"] = call.id
        if "index" in piece:
            changes["index"] = call.index
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.add(arguments)
        return {**piece, **changes}


def _begins_another(call: _Call, given: object, name: object) -> bool:
    """Tell whether a piece under a known index is the start of a further call."""
    if isinstance(given, str) and given:
        return given != call.id
    # Only some servers repeat the name in every piece; a call whose arguments are whole has no more pieces.
    return bool(name) and call.whole
