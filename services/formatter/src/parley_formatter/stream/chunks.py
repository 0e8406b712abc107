"""Cuts Markdown that is still being written into chunks that can be parsed one by one: a paragraph, a list item, code.

Only the beginnings of lines are looked at, each once, so the cost is linear. Where this differs from the parser (a
heading marked by the line below it, for instance) only unfinished states look different, never the final answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

# A longer chunk or line is closed where it stands, so that no unfinished chunk is parsed at a cost that hurts.
_LONGEST = 4_000
_MATH_LINES = 100
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`]*)$")
_LIST = re.compile(r" ?(?:[-*+]|\d{1,9}[.)])[ \t]+(?=\S)")
_HEADING = re.compile(r" {0,3}#{1,6}(?:[ \t]|$)")
_RULE = re.compile(r" {0,3}(?:(?:=+|-+)[ \t]*|(?:[-*_][ \t]*){3,})$")
_MATH = re.compile(r" {0,3}(\$\$|\\\[)")
_MATH_END = {"$$": "$$", "\\[": "\\]"}
# What a line can begin with before it is known what it becomes.
_UNDECIDED = re.compile(r"(?:[-*+_=>#`~|$\\\s]*|\s*\d{1,9}[.)]?\s*)$")
_INDENTED = re.compile(r" {4}|\t")


class _Kind(Enum):
    TEXT = auto()
    QUOTE = auto()
    LIST = auto()
    CODE = auto()
    MATH = auto()


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """What is there of a chunk; `code` when it is a code block that lacks its end."""

    text: str
    code: bool


class Chunks:
    """Takes pieces of text, gives chunks."""

    def __init__(self) -> None:
        self._line: list[str] = []
        self._line_size = 0
        self._lines: list[str] = []
        self._size = 0
        self._kind = _Kind.TEXT
        self._end = ""
        self._blank = False
        self._begun = False
        """The unfinished line has begun the chunk."""

    def feed(self, text: str) -> Iterator[str]:
        """Take a piece of clean text; yield the chunks that it closes."""
        first, *others = text.split("\n")
        self._add(first)
        for line in others:
            yield from self._take_line()
            self._add(line)
        if self._line_size > _LONGEST:
            yield from self._take_line()
            yield from self._close()
        elif not self._begun and not self._end and not _UNDECIDED.match(line := "".join(self._line)):
            yield from self._begin(line)
            self._begun = True

    @property
    def open_size(self) -> int:
        """Characters of the chunk that is not closed yet."""
        return self._size + self._line_size

    def open(self) -> OpenChunk:
        """Return the chunk that is not closed yet, without a line of which it isn't known what it becomes."""
        lines = list(self._lines)
        code = self._kind is _Kind.CODE
        if self._begun and not code:
            lines.append("".join(self._line))
        if self._kind is _Kind.TEXT and lines and _INDENTED.match(lines[0]):
            return OpenChunk("", code=False)
        return OpenChunk("\n".join(lines), code)

    def _add(self, piece: str) -> None:
        if piece:
            self._line.append(piece)
            self._line_size += len(piece)

    def _take_line(self) -> Iterator[str]:
        line = "".join(self._line)
        begun, self._begun = self._begun, False
        self._line, self._line_size = [], 0
        if self._end:
            self._keep(line)
            if self._ends(line):
                self._end = ""
                if self._kind is not _Kind.LIST:
                    yield from self._close()
            return
        if not line.strip():
            if self._kind is _Kind.LIST and self._lines:
                self._blank = True
                self._keep(line)
            else:
                yield from self._close()
            return
        if not begun:
            yield from self._begin(line)
        self._keep(line)
        self._blank = False
        self._open_end(line)
        one_line = self._kind is _Kind.TEXT and (_HEADING.match(line) or _RULE.match(line))
        if one_line or (self._size > _LONGEST and not self._end):
            yield from self._close()

    def _begin(self, line: str) -> Iterator[str]:
        """Close the chunk at hand unless the line goes on with it; say what kind the line's chunk is."""
        fence, item = _FENCE.match(line), _LIST.match(line)
        in_list = self._lines and self._kind is _Kind.LIST and not item
        ends_list = self._blank or fence or _HEADING.match(line) or _RULE.match(line)
        if in_list and (line[:2].isspace() or not ends_list):
            return
        kind = _Kind.TEXT
        if fence:
            kind = _Kind.CODE
        elif item and not _RULE.match(line):
            kind = _Kind.LIST
        elif line.lstrip().startswith(">"):
            kind = _Kind.QUOTE
        elif _MATH.match(line):
            kind = _Kind.MATH
        plain = kind is _Kind.TEXT and not _HEADING.match(line) and not _RULE.match(line)
        goes_on = (plain and self._kind in (_Kind.TEXT, _Kind.QUOTE)) or kind is self._kind is _Kind.QUOTE
        if self._lines and not goes_on:
            yield from self._close()
        if not self._lines:
            self._kind = kind

    def _open_end(self, line: str) -> None:
        """Note what closes the code or formula that a whole line opens."""
        if fence := _FENCE.match(line):
            self._end = fence[1]
        elif self._kind is _Kind.MATH and len(self._lines) == 1 and (math := _MATH.match(line)):
            end = _MATH_END[math[1]]
            if not line[math.end() :].rstrip().endswith(end):
                self._end = end

    def _ends(self, line: str) -> bool:
        text = line.strip()
        if self._kind is _Kind.MATH:
            return text.endswith(self._end) or len(self._lines) > _MATH_LINES
        return text.startswith(self._end) and not text.strip(self._end[0])

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1

    def _close(self) -> Iterator[str]:
        if self._lines:
            yield "\n".join(self._lines)
        self._lines, self._size, self._end, self._blank = [], 0, "", False
        self._kind = _Kind.TEXT
