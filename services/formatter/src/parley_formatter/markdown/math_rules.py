r"""Parser rules for formulas: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`.

Every search for a closing mark is bounded, so hostile input costs linear time. A dollar sign that is money
(`$5 and $10`) stays text: the closing one may not follow a space nor precede a digit.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

_MAX_CHARS = 2_000
_MAX_LINES = 100
_CJK = re.compile("[\u3000-\u9fff\uff00-\uffef]")
_CLOSING = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}


def install(md: MarkdownIt) -> None:
    """Add the rules to a parser."""
    md.inline.ruler.before("escape", "math", _inline)
    md.block.ruler.before("fence", "math_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]})


def _inline(state: StateInline, silent: bool) -> bool:
    start = state.pos
    mark = state.src[start : start + 2]
    if mark in _CLOSING:
        begin, closing = start + 2, _CLOSING[mark]
        end = state.src.find(closing, begin, min(begin + _MAX_CHARS, state.posMax))
    elif mark[:1] == "$":
        begin, closing = start + 1, "$"
        end = _closing_dollar(state.src, begin, state.posMax)
    else:
        return False
    content = state.src[begin:end].strip() if end >= 0 else ""
    if not content or (closing[0] == "$" and _CJK.search(content) and "\\text" not in content):
        return False
    if not silent:
        state.push("math", "", 0).content = content
    state.pos = end + len(closing)
    return True


def _closing_dollar(source: str, begin: int, stop: int) -> int:
    if begin >= stop or source[begin].isspace():
        return -1
    limit = min(begin + _MAX_CHARS, stop)
    end = source.find("$", begin, limit)
    while end > 0 and source[end - 1] == "\\":
        end = source.find("$", end + 1, limit)
    if end < 0 or source[end - 1].isspace() or source[end + 1 : end + 2].isdigit():
        return -1
    return end


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    first = _line(state, start_line)
    closing = _CLOSING.get(first[:2])
    if closing is None or closing == "\\)" or state.is_code_block(start_line):
        return False
    rest = first[2:].rstrip()
    if rest.endswith(closing) and rest[: -len(closing)].strip():
        lines, last = [rest[: -len(closing)]], start_line
    elif closing in rest:
        return False
    else:
        lines = [rest]
        for last in range(start_line + 1, min(end_line, start_line + _MAX_LINES)):
            if state.sCount[last] < state.blkIndent and not state.isEmpty(last):
                return False
            text = _line(state, last).rstrip()
            if text.endswith(closing):
                lines.append(text[: -len(closing)])
                break
            lines.append(text)
        else:
            return False
    content = "\n".join(lines).strip()
    if not content:
        return False
    if not silent:
        state.line = last + 1
        token = state.push("math_block", "", 0)
        token.content, token.map = content, [start_line, state.line]
    return True
