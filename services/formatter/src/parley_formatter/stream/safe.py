"""Finds how much of an unfinished text can be shown so that what follows can't change how that looks.

Conservative: what is not understood here is held back. A guess that turns out wrong delays a state, no more.
"""

from __future__ import annotations

import re

# A mark that was not closed within so many characters is taken literally from then on.
_PATIENCE = 400
# After so many of them the text is no prose, and looking on would cost more than it is worth.
_LITERAL_MARKS = 20
_SPECIAL = re.compile(r"[`*_~\[\]$\\<!&|]")
_COMPLETE = {
    "`": re.compile(r"(`+)(?!`)(?:(?!\n[ \t]*\n).){1,400}?(?<!`)\1(?!`)", re.DOTALL),
    "*": re.compile(r"\*\*\*[^\s*][^*]{0,400}\*\*\*(?!\*)|\*\*[^\s*](?:[^*]|\*[^*\s][^*]*\*){0,400}\*\*(?!\*)"
                    r"|\*[^\s*][^*]{0,400}\*(?!\*)"),
    "_": re.compile(r"__[^\s_][^_]{0,400}__(?!\w)|_[^\s_][^_]{0,400}_(?![_\w])"),
    "~": re.compile(r"~~[^\s~][^~]{0,400}~~(?!~)"),
    "[": re.compile(r"\[[^\[\]]{0,400}\]\([^()\s]{0,1000}(?:[ \t]+\"[^\"\n]{0,200}\")?\)"
                    r"|\[[^\[\]]{0,400}\](?![(\[])(?=.)"),
    "$": re.compile(r"\$\$[^$]{1,400}\$\$|\$[^\s$][^$\n]{0,400}\$(?!\d)(?=.)", re.DOTALL),
    "\\": re.compile(r"\\\((?:(?!\\\)).){0,400}\\\)|\\\[(?:(?!\\\]).){0,400}\\\]|\\[^(\[]", re.DOTALL),
    "<": re.compile(r"<[^<>]{0,400}>|<(?=[\s\d=])"),
    "!": re.compile(r"!(?=[^\[])", re.DOTALL),
    "&": re.compile(r"&#?\w{1,30};|&(?=[^#\w])|&#?\w{1,30}(?=[^\w;])"),
    "]": re.compile(r"\](?=.)", re.DOTALL),
}  # fmt: skip
_ALONE = re.compile(r"\*(?=[ \t])|~(?!~)(?=.)", re.DOTALL)
_IN_WORD = re.compile(r"(?<=\w)_+(?=\w)")
_WIDE = re.compile("[\u2e80-\u2fdf\u3001-\u9fff\uac00-\ud7ff\uff00-\uffef]")
_WORD_END = frozenset(".,;:?)'\"”’…")


def safe_end(text: str) -> int:
    """Return how many characters of the text can be shown."""
    spans, end = _settled(text)
    position = end
    while position > 0:
        if spans and position <= spans[-1][0]:
            spans.pop()
        elif spans and position < spans[-1][1]:
            # Never inside a pair of marks.
            position = spans.pop()[0]
        elif _ends_word(text, position):
            run = _start_of_run(text, position)
            if "://" not in text[run:position] or text[position : position + 1].isspace():
                return position
            # A link goes on up to the next space.
            position = run
        else:
            position -= 1
    return 0


def _settled(text: str) -> tuple[list[tuple[int, int]], int]:
    """Return where closed marks stand, from first to last sign, and where the first is whose meaning is open."""
    spans: list[tuple[int, int]] = []
    position = literal = 0
    while match := _SPECIAL.search(text, position):
        start, sign = match.start(), match[0]
        if sign == "|":
            # It may be the header of a table.
            return spans, text.rfind("\n", 0, start) + 1
        complete = _COMPLETE[sign].match(text, start) or _ALONE.match(text, start)
        if sign == "_":
            complete = _IN_WORD.match(text, start) or complete
        if complete is not None:
            position = complete.end()
            spans.append((start, position))
        elif len(text) - start > _PATIENCE and literal < _LITERAL_MARKS:
            position, literal = start + 1, literal + 1
        else:
            return spans, start
    return spans, len(text)


def _ends_word(text: str, position: int) -> bool:
    """Tell whether a word ends here: what follows can't become part of it."""
    last = text[position - 1]
    if _WIDE.match(last):
        return True
    return text[position : position + 1].isspace() and (last.isalnum() or last in _WORD_END)


def _start_of_run(text: str, position: int) -> int:
    while position > 0 and not text[position - 1].isspace():
        position -= 1
    return position
