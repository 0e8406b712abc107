"""Facts about text: where it may be cut, and how wide it looks."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import regex

_GRAPHEME = regex.compile(r"\X")
_LINE_END = regex.compile(r"\n+")
# Behind the closing quotes and brackets that follow a full stop.
_SENTENCE_END = regex.compile(r"[。！？!?；;…]+[”’」』）)\]]*|\.[”’\")\]]*(?=\s)")
_SPACE = regex.compile(r"[\s，,、：:]+")
# Looking back further than this for a grapheme's start is of no use: a cluster is shorter, or hostile.
_WINDOW = 200


def cut_position(text: str, limit: int) -> int:
    """Return the best place to cut at or before `limit`: line, sentence, word, grapheme; 0 if there is none.

    A line, sentence or word end counts only in the second half, so that parts stay well filled.
    """
    if limit >= len(text):
        return len(text)
    for pattern in (_LINE_END, _SENTENCE_END, _SPACE):
        best = 0
        for match in pattern.finditer(text, limit // 2, limit + 1):
            if match.end() <= limit:
                best = match.end()
        if best:
            return best
    return grapheme_floor(text, limit)


def grapheme_floor(text: str, limit: int) -> int:
    """Return the last grapheme boundary at or before `limit`; a cluster too long to go whole gives 0."""
    start = max(0, limit - _WINDOW)
    position = start
    for match in _GRAPHEME.finditer(text, start, min(len(text), limit + _WINDOW)):
        if match.end() > limit:
            return position if position > start or start == 0 else limit
        position = match.end()
    return position


def graphemes(text: str) -> list[str]:
    """Split text into what a reader sees as characters."""
    return [match[0] for match in _GRAPHEME.finditer(text)]


def width(text: str) -> int:
    """Return the columns a text takes in a fixed-width font: CJK and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(_cluster_width(cluster) for cluster in graphemes(text))


def _cluster_width(cluster: str) -> int:
    if "\ufe0f" in cluster:
        return 2
    first = cluster[0]
    if unicodedata.category(first) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(first) in ("W", "F") else 1


def has_wide(text: str) -> bool:
    """Tell whether a text has characters that take two columns."""
    return not text.isascii() and any(unicodedata.east_asian_width(char) in ("W", "F") for char in text)


def largest(stop: int, accepts: Callable[[int], bool]) -> int:
    """Return the largest count up to `stop` that is accepted, assuming larger counts are harder to accept.

    Gallops from the front, so that work is in proportion to the result, not to `stop`. 0 is never asked for.
    """
    low, step = 0, 1
    while low + step <= stop and accepts(low + step):
        low += step
        step *= 2
    high = min(low + step, stop + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if accepts(middle):
            low = middle
        else:
            high = middle
    return low
