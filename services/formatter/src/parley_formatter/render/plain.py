"""Plain text: what a reader without any mark-up should see.

It is the body of text dialects and the fallback text of all others. Headings stand in 【…】 or behind ■, lists have
bullets and numbers, code is indented, formulas are Unicode, tables are aligned columns or records.
"""

from __future__ import annotations

from collections.abc import Callable

from parley_formatter.markdown.latex import to_unicode
from parley_formatter.markdown.nodes import (
    Block,
    Blocks,
    Break,
    Code,
    CodeBlock,
    Emphasis,
    Heading,
    Image,
    Inlines,
    Link,
    List,
    ListItem,
    Math,
    MathBlock,
    Notice,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Strong,
    Table,
    Text,
)
from parley_formatter.render import tables
from parley_formatter.render.escape import defuse, defuse_end, defuse_scheme, safe_url
from parley_formatter.render.inlines import plain
from parley_formatter.render.text import has_wide
from parley_formatter.sentences import Sentences

# A phone shows about 20 Chinese characters, 40 columns, in one line of a chat bubble.
TABLE_WIDTH = 36
_BULLETS = ("• ", "◦ ", "▪ ")
_EMPTY_CELL = tables.Cell("", "")
_RULE = "──────────"
_GAPS = {"paragraph": "\n\n", "line": "\n", "none": ""}
_URL_ENDS = frozenset(" \n\t，。；：！？、）】》”’")
LinkStyle = Callable[[str, str], str]


def bare_link(url: str, label: str) -> str:
    """Write a link as its label and the URL in brackets."""
    return f"{label} ({url})" if label else url


def separator(block: Block) -> str:
    """Return what stands between a block and the one before it."""
    return _GAPS[block.gap] if isinstance(block, Paragraph) else "\n\n"


class PlainWriter:
    """Writes blocks as plain text; `link` decides how a labelled link looks."""

    def __init__(self, sentences: Sentences, link: LinkStyle = bare_link, table_width: int = TABLE_WIDTH) -> None:
        self._sentences = sentences
        self._link = link
        self._table_width = table_width

    def join(self, blocks: Blocks) -> str:
        """Write blocks one after the other."""
        out = ""
        for block in blocks:
            text = self.write(block)
            if text:
                out += (separator(block) if out else "") + text
        return out

    def write(self, block: Block) -> str:
        """Write one block, without what separates it from others."""
        match block:
            case Paragraph(children):
                return self.inline(children).strip("\n")
            case Heading(level, children):
                return self._heading(level, children)
            case CodeBlock(text):
                return _indent(defuse(text.expandtabs(4)), "  ")
            case MathBlock(source):
                return _indent(defuse(to_unicode(source)), "  ")
            case Quote(children):
                return _indent(self.join(children), "│ ", blank="│")
            case List(items, start):
                return "\n".join(self._items(items, start, 0))
            case Table():
                return "\n".join(self.table(block, self._table_width))
            case Rule():
                return _RULE
            case Notice(text):
                return text

    def inline(self, children: Inlines) -> str:
        """Write a run of text."""
        out = ""
        # WeChat and others take everything up to a space for the URL: Chinese behind it needs one.
        after_url = False
        for child in children:
            text = self._inline(child)
            if after_url and text and text[0] not in _URL_ENDS:
                out += " "
            # Pieces are harmless one by one; put together they must be, too.
            out = defuse_end(out) + text if "<" in out[-30:] else out + text
            after_url = isinstance(child, Link) and text.endswith(child.url)
        return defuse_scheme(defuse_end(out))

    def _inline(self, child: Text | Break | Strong | Emphasis | Strike | Code | Math | Link | Image) -> str:
        match child:
            case Text(text) | Code(text):
                return defuse(text)
            case Break():
                return "\n"
            case Strong(inner) | Emphasis(inner):
                return self.inline(inner)
            case Strike(inner):
                return self._sentences.struck.format(text=self.inline(inner))
            case Math(source):
                return defuse(to_unicode(source).replace("\n", " "))
            case Image(url, alt):
                return self._labelled(url, image_label(self._sentences, alt))
            case Link(url, inner):
                label = self.inline(inner).replace("\n", " ").strip()
                return url if label == url and safe_url(url) == url else self._labelled(url, label)

    def _labelled(self, url: str, label: str) -> str:
        safe = safe_url(url)
        if safe is not None:
            return self._link(safe, label)
        address = defuse(url.removeprefix("mailto:"))
        return label if url.startswith(("#", "data:", "javascript:")) or address in label else f"{label} ({address})"

    def _heading(self, level: int, children: Inlines) -> str:
        title = self.inline(children).replace("\n", " ")
        if not title:
            return ""
        if level <= 2 and has_wide(title) and not any(mark in title for mark in "【】"):
            return f"【{title}】"
        return f"■ {title}" if level <= 2 else f"▎{title}"

    def _items(self, items: tuple[ListItem, ...], start: int | None, depth: int) -> list[str]:
        lines = []
        for offset, item in enumerate(items):
            marker = _BULLETS[min(depth, len(_BULLETS) - 1)] if start is None else f"{start + offset}. "
            if item.checked is not None:
                marker = ("" if start is None else marker) + ("☑ " if item.checked else "☐ ")
            indent = "  " if start is None else "   "
            body = "\n".join(filter(None, (self._in_item(child, depth) for child in item.children)))
            first = indent if item.continued else marker
            lines.append(first + _indent(body, indent).removeprefix(indent))
        return lines

    def _in_item(self, child: Block, depth: int) -> str:
        if isinstance(child, List):
            return "\n".join(self._items(child.items, child.start, depth + 1))
        return self.write(child)

    def table(self, table: Table, max_width: int) -> list[str]:
        """Write a table as lines: columns when they fit, else records."""
        header = [self._cell(cell) for cell in table.header]
        rows = [[self._cell(cell) for cell in row] for row in table.rows]
        return tables.aligned(header, rows, table.alignments, max_width) or tables.records(header, rows)

    def _cell(self, children: Inlines) -> tables.Cell:
        if not children:
            return _EMPTY_CELL
        written = self.inline(children).replace("\n", " ").strip()
        visible = written if "<a " not in written else plain(children).replace("\n", " ").strip()
        return tables.Cell(visible, written)


def image_label(sentences: Sentences, alt: str) -> str:
    """Return the words that stand for a picture."""
    text = defuse(alt.replace("\n", " ").strip())
    return sentences.image_with_alt.format(alt=text) if text else sentences.image


def _indent(text: str, prefix: str, blank: str = "") -> str:
    return "\n".join(prefix + line if line.strip() else blank for line in text.split("\n"))
