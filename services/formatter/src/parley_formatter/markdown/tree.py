"""Turns the parser's token stream into our tree.

Inline tokens are read with an explicit stack and a depth cap, so that no answer can exhaust Python's own stack.
Bare URLs become links here; a URL ends at the first character that is not ASCII, since Chinese text follows
without a space. Only the `_(…)` of encyclopedias may hold others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from markdown_it import MarkdownIt
from markdown_it.token import Token

from parley_formatter.markdown.nodes import (
    Alignment,
    Block,
    Blocks,
    Break,
    Code,
    CodeBlock,
    Emphasis,
    Heading,
    Image,
    Inline,
    Inlines,
    Link,
    List,
    ListItem,
    Math,
    MathBlock,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Strong,
    Table,
    Text,
)

_MAX_INLINE_DEPTH = 8
_TASK = re.compile(r"\[([ xX])\]\s+")
_BARE_URL = re.compile(
    r"(?<![A-Za-z0-9])https?://(?:_\([^\s()]{1,40}\)|[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%])+", re.IGNORECASE
)
_HOST = re.compile(r"https?://[A-Za-z0-9\[]", re.IGNORECASE)
_ALIGN = re.compile(r"text-align:(left|center|right)")
_WRAPPERS: dict[str, type[Strong | Emphasis | Strike]] = {"strong": Strong, "em": Emphasis, "s": Strike}


def parse(md: MarkdownIt, text: str) -> Blocks:
    """Parse Markdown that was cleaned before."""
    return tuple(_Reader(md.parse(text)).blocks(""))


def linkify(text: str) -> Iterator[Inline]:
    """Yield the text with its bare http and https URLs as links."""
    position = 0
    for match in _BARE_URL.finditer(text):
        url = _trim_url(match[0])
        if not _HOST.match(url):
            continue
        if match.start() > position:
            yield Text(text[position : match.start()])
        yield Link(url, (Text(url),))
        position = match.start() + len(url)
    if position < len(text):
        yield Text(text[position:])


def _trim_url(url: str) -> str:
    """Leave punctuation that belongs to the sentence, and an unmatched closing bracket, outside."""
    closing = {")": url.count(")") - url.count("("), "]": url.count("]") - url.count("[")}
    end = len(url)
    while end and (url[end - 1] in ".,;:!?'*_~([&" or closing.get(url[end - 1], 0) > 0):
        if url[end - 1] in closing:
            closing[url[end - 1]] -= 1
        end -= 1
    return url[:end]


class _Reader:
    """Walks the block tokens once, front to back."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def _next(self) -> Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def blocks(self, closing: str) -> Iterator[Block]:
        """Yield blocks up to the closing token's type, or to the end."""
        while self._position < len(self._tokens):
            token = self._next()
            if token.type == closing:
                return
            block = self._block(token)
            if block is not None:
                yield block

    def _block(self, token: Token) -> Block | None:
        match token.type:
            case "paragraph_open":
                children = self._inline("paragraph_close")
                return Paragraph(children) if children else None
            case "heading_open":
                return Heading(int(token.tag[1:]), self._inline("heading_close"))
            case "fence" | "code_block":
                words = token.info.split(maxsplit=1)
                return CodeBlock(token.content.rstrip("\n"), words[0] if words else "")
            case "math_block":
                return MathBlock(token.content)
            case "blockquote_open":
                return Quote(tuple(self.blocks("blockquote_close")))
            case "bullet_list_open":
                return List(tuple(self._items("bullet_list_close")))
            case "ordered_list_open":
                start = token.attrGet("start")
                return List(tuple(self._items("ordered_list_close")), int(start) if start is not None else 1)
            case "table_open":
                return self._table()
            case "hr":
                return Rule()
            case _:
                return None

    def _inline(self, closing: str) -> Inlines:
        children: Inlines = ()
        while (token := self._next()).type != closing:
            if token.type == "inline":
                children = read_inline(token)
        return children

    def _items(self, closing: str) -> Iterator[ListItem]:
        while (token := self._next()).type != closing:
            if token.type == "list_item_open":
                yield _with_task_mark(ListItem(tuple(self.blocks("list_item_close"))))

    def _table(self) -> Table:
        rows: list[list[Inlines]] = []
        alignments: list[Alignment] = []
        while (token := self._next()).type != "table_close":
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                if token.type == "th_open":
                    alignments.append(_alignment(token))
                rows[-1].append(self._inline(token.type.replace("open", "close")))
        width = len(rows[0])
        body = tuple(tuple((*row, *[()] * width)[:width]) for row in rows[1:])
        return Table(tuple(rows[0]), body, tuple(alignments))


def _alignment(token: Token) -> Alignment:
    match = _ALIGN.search(str(token.attrGet("style") or ""))
    if match is None:
        return ""
    return "right" if match[1] == "right" else "center" if match[1] == "center" else "left"


def _with_task_mark(item: ListItem) -> ListItem:
    """Read `[ ]` and `[x]` at the start of an item's text."""
    first = item.children[0] if item.children else None
    if not isinstance(first, Paragraph) or not isinstance(first.children[0], Text):
        return item
    match = _TASK.match(first.children[0].text)
    if match is None:
        return item
    rest = first.children[0].text[match.end() :]
    children = ((Text(rest),) if rest else ()) + first.children[1:]
    blocks = (replace(first, children=children), *item.children[1:]) if children else item.children[1:]
    return ListItem(blocks, checked=match[1] != " ")


def read_inline(token: Token) -> Inlines:
    """Read the children of an inline token."""
    literal = token.meta.get("literal") if token.meta else None
    if literal is not None:
        return lines_as_inlines(str(literal))
    stack: list[list[Inline]] = [[]]
    openings: list[Token] = []
    for child in token.children or []:
        kind, _, end = child.type.rpartition("_")
        if end == "open":
            openings.append(child)
            if len(openings) <= _MAX_INLINE_DEPTH:
                stack.append([])
        elif end == "close":
            opening = openings.pop()
            if len(openings) < _MAX_INLINE_DEPTH:
                children = _merge(stack.pop())
                stack[-1].extend(_wrap(kind, opening, children))
        else:
            in_link = any(opening.type == "link_open" for opening in openings[:_MAX_INLINE_DEPTH])
            stack[-1].extend(_leaf(child, in_link))
    return _strip(_merge(stack[0]))


def lines_as_inlines(text: str) -> Inlines:
    """Take text as it stands, line by line."""
    out: list[Inline] = []
    for line in text.split("\n"):
        if out:
            out.append(Break())
        out.extend(linkify(line))
    return tuple(out)


def _wrap(kind: str, opening: Token, children: Inlines) -> Inlines:
    if kind == "link":
        url = str(opening.attrGet("href") or "")
        return (Link(url, children or (Text(url),)),) if url else children
    return (_WRAPPERS[kind](children),) if children else ()


def _leaf(token: Token, in_link: bool) -> Iterator[Inline]:
    match token.type:
        case "text" | "text_special":
            text = token.content.replace("\n", " ")
            if in_link:
                yield Text(text)
            else:
                yield from linkify(text)
        case "code_inline":
            yield Code(token.content)
        case "softbreak" | "hardbreak":
            yield Break()
        case "math":
            yield Math(token.content)
        case "image":
            yield Image(str(token.attrGet("src") or ""), token.content)
        case _:
            yield Text(token.content)


def _merge(children: list[Inline]) -> Inlines:
    """Join neighbouring texts and drop empty ones."""
    out: list[Inline] = []
    for child in children:
        if isinstance(child, Text):
            if not child.text:
                continue
            if out and isinstance(out[-1], Text):
                out[-1] = Text(out[-1].text + child.text)
                continue
        out.append(child)
    return tuple(out)


def _strip(children: Inlines) -> Inlines:
    """Drop line breaks at both ends."""
    first, last = 0, len(children)
    while first < last and isinstance(children[first], Break):
        first += 1
    while last > first and isinstance(children[last - 1], Break):
        last -= 1
    return children[first:last]
