"""The Markdown parser: markdown-it with tables, strikethrough and formulas, raw HTML off.

Two things differ from CommonMark on purpose. Emphasis next to Chinese, Japanese or Korean characters works
(`**“重点”**是`), which CommonMark's flanking rules were not made for. And nesting is capped without losing text:
what is nested deeper stays as written.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock, blockquote, table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token
from markdown_it.utils import EnvType

from parley_formatter.markdown import math_rules

# A quote is one level, a list item two.
_MAX_BLOCK_LEVEL = 12
# Lazy lines cost work on each level of quotes.
_MAX_QUOTES = 4
# A short row costs a cell for every column of the header.
_MAX_COLUMNS = 50
_MAX_INLINE_LEVEL = 40
_MAX_MARKS = 20_000
_MAX_BRACKETS = 2_000
_MARKS = re.compile(r"[*_~`\[\]<$\\!&]")
_BR = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3000-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U0001f200-\U0001f2ff\U00020000-\U0003fffd]"
)


class _State(StateInline):
    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803 - the library's names.
        """Tell whether a run of marks may open or close; a CJK neighbour counts like a space or punctuation."""
        marker = self.src[start]
        stop = start
        while stop < self.posMax and self.src[stop] == marker:
            stop += 1
        before = self.src[start - 1] if start > 0 else " "
        after = self.src[stop] if stop < self.posMax else " "
        space_before, space_after = isWhiteSpace(ord(before)), isWhiteSpace(ord(after))
        punct_before = isMdAsciiPunct(ord(before)) or isPunctChar(before)
        punct_after = isMdAsciiPunct(ord(after)) or isPunctChar(after)
        loose_before = space_before or punct_before or bool(_CJK.match(before))
        loose_after = space_after or punct_after or bool(_CJK.match(after))
        left = not space_after and (not punct_after or loose_before)
        right = not space_before and (not punct_before or loose_after)
        return Scanned(
            can_open=left and (canSplitWord or not right or punct_before),
            can_close=right and (canSplitWord or not left or punct_after),
            length=stop - start,
        )


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        """Parse a run of text; one with more marks than any answer has is taken literally."""
        if src.count("[") > _MAX_BRACKETS or sum(1 for _ in _MARKS.finditer(src)) > _MAX_MARKS:
            token = Token("text", "", 0)
            token.content = src
            tokens.append(token)
            return tokens
        state = _State(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


def _line_break_tag(state: StateInline, silent: bool) -> bool:
    """Read `<br>`, which models write in table cells, as a line break."""
    match = _BR.match(state.src, state.pos, state.posMax) if state.src[state.pos] == "<" else None
    if match is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = match.end()
    return True


def _nesting_cap(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Take what is nested too deeply as one literal paragraph, so that nothing is lost."""
    if silent or state.level < _MAX_BLOCK_LEVEL:
        return False
    line = start_line
    while line < end_line and (state.isEmpty(line) or state.sCount[line] >= state.blkIndent):
        line += 1
    state.line = max(line, start_line + 1)
    state.push("paragraph_open", "p", 1)
    token = state.push("inline", "", 0)
    text = state.getLines(start_line, state.line, state.blkIndent, False).strip()
    # Marked so that the inline phase leaves it alone.
    token.meta["literal"] = text
    token.content, token.children = "", []
    state.push("paragraph_close", "p", -1)
    return True


def _quote(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Read a quote unless it is nested too deeply; then its marks are text."""
    depth = state.env.get("quotes", 0)
    if depth >= _MAX_QUOTES:
        return False
    state.env["quotes"] = depth + 1
    try:
        return blockquote(state, start_line, end_line, silent)
    finally:
        state.env["quotes"] = depth


def _table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Read a table unless it has more columns than any chat could show; then it is text."""
    header = state.src.count("|", state.bMarks[start_line], state.eMarks[start_line])
    return header <= _MAX_COLUMNS + 1 and table(state, start_line, end_line, silent)


def create_parser() -> MarkdownIt:
    """Build a parser. It keeps no state between texts."""
    md = MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_INLINE_LEVEL})
    md.inline = _Inline()
    md.enable(["table", "strikethrough"])
    md.disable(["html_block", "html_inline"])
    math_rules.install(md)
    md.inline.ruler.before("autolink", "line_break_tag", _line_break_tag)
    md.block.ruler.at("blockquote", _quote, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    md.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    md.block.ruler.before("table", "nesting_cap", _nesting_cap)
    return md
