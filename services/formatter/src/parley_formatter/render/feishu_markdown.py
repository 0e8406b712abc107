"""The Markdown of Feishu's card element (card JSON 2.0).

CommonMark without HTML, plus tables, strikethrough and the platform's own tags. Code fences and list markers stand at
line starts, a nested list is indented by four spaces, and a literal sign is written as an HTML entity (Feishu
documentation, "Card JSON 2.0: rich text (Markdown)"). `arrange` first brings a tree into a shape this can show.
"""

from __future__ import annotations

import re
from dataclasses import replace

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
    Inline,
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
from parley_formatter.render.escape import defuse_code, defuse_scheme, safe_url
from parley_formatter.render.plain import image_label
from parley_formatter.sentences import Sentences

_ENTITIES = {char: f"&#{ord(char)};" for char in "*_`[]<&\\"} | {"~~": "&#126;&#126;"}
# An underscore or a tilde between two letters or digits marks nothing, nor does an asterisk between spaces.
_SPECIAL = re.compile(r"(?<![^\W_])_|_(?![^\W_])|[*`\[\]<\\]|~~|&(?=[#A-Za-z])")
_BLOCK_START = re.compile(r"^(?:([#>+\-=])|(\d{1,9})([.)]))")
_FENCE = re.compile(r"`{3,}")
_TICKS = re.compile(r"`+")
_LANGUAGE = re.compile(r"[^A-Za-z0-9+#._-]")
_EDGES = re.compile(r"^(\s*)(.*?)(\s*)$", re.DOTALL)
# A mark beside punctuation only counts when a space stands on its other side; the hair space can hardly be seen.
_HAIR_SPACE = "\u200a"
_MAX_INDENT = 4


def escape(text: str) -> str:
    """Write text so that Feishu shows exactly it."""

    text = defuse_scheme(text)

    def entity(match: re.Match[str]) -> str:
        found = match[0]
        return found if found == "*" and _stands_alone(text, match.start()) else _ENTITIES[found]

    return _SPECIAL.sub(entity, text)


def _stands_alone(text: str, position: int) -> bool:
    """Tell whether a sign has spaces on both sides."""
    around = text[max(0, position - 1) : position + 2]
    return len(around) == 3 and around[0].isspace() and around[2].isspace()


def arrange(blocks: Blocks) -> Blocks:
    """Bring code, tables, formulas and quotes to the top level, out of lists and quotes that can't hold them."""
    out: list[Block] = []
    for block in blocks:
        match block:
            case List():
                out.extend(_hoist(block))
            case Quote(children):
                out.extend(_quotes(arrange(children)))
            case _:
                out.append(block)
    return tuple(out)


def _quotes(children: Blocks) -> list[Block]:
    """Wrap what a quote can hold; a quote inside a quote becomes a part of it."""
    out: list[Block] = []
    held: list[Block] = []
    for child in children:
        match child:
            case CodeBlock() | Table() | Rule():
                if held:
                    out.append(Quote(tuple(held)))
                    held = []
                out.append(child)
            case Quote(inner):
                held.extend(inner)
            case _:
                held.append(child)
    return [*out, Quote(tuple(held))] if held else out


def _hoist(block: List) -> list[Block]:
    """Cut a list where an item holds something that must stand at a line start; numbers go on behind it."""
    out: list[Block] = []
    items: list[ListItem] = []
    first = block.start
    for offset, item in enumerate(block.items):
        held: list[Block] = []
        started = False
        for child in arrange(item.children):
            if isinstance(child, (Paragraph, List, Heading)):
                held.append(Paragraph(child.children) if isinstance(child, Heading) else child)
                continue
            if held or not started:
                items.append(replace(item, children=tuple(held), continued=item.continued or started))
            out.extend([List(tuple(items), first)] if items else [])
            out.append(child)
            items, held, started = [], [], True
            first = None if block.start is None else block.start + offset + 1
        if not started:
            items.append(replace(item, children=tuple(held)))
        else:
            out.extend(held)
    return [*out, List(tuple(items), first)] if items else out


class FeishuMarkdown:
    """Writes arranged blocks."""

    def __init__(self, sentences: Sentences) -> None:
        self._sentences = sentences

    def write(self, block: Block) -> str:
        """Write one top-level block."""
        match block:
            case Paragraph(children):
                return self._paragraph(children)
            case Heading(level, children):
                title = self.inline(children).replace("<br>", " ").strip()
                return f"{'#' * level} {title}" if title else ""
            case CodeBlock(text, language):
                return _fenced(text, language)
            case MathBlock(source):
                return "<br>".join(_guard_start(escape(line)) for line in to_unicode(source).split("\n"))
            case Quote(children):
                inner = "\n\n".join(filter(None, (self.write(child) for child in children)))
                return "\n".join(f"> {line}" if line else ">" for line in inner.split("\n"))
            case List():
                return "\n".join(self._items(block, ""))
            case Table():
                return self._table(block)
            case Rule():
                return "---"
            case Notice(text):
                return escape(text)

    def _paragraph(self, children: Inlines) -> str:
        return _guard_start(self.inline(children).strip())

    def inline(self, children: Inlines) -> str:
        """Write a run of text on one line."""
        return self._inline(children, in_cell=False)

    def _inline(self, children: Inlines, *, in_cell: bool) -> str:
        pieces = [self._piece(child, in_cell) for child in children]
        out = ""
        for index, (child, piece) in enumerate(zip(children, pieces, strict=True)):
            if isinstance(child, (Strong, Emphasis, Strike)) and piece:
                following = "".join(pieces[index + 1 : index + 2])
                out = _attach(out, piece, following, {Strong: "**", Emphasis: "*", Strike: "~~"}[type(child)])
            elif piece.startswith("[") and out.endswith("!"):
                # "!" right before a link would make it a picture.
                out = f"{out[:-1]}&#33;{piece}"
            else:
                out += piece
        return defuse_scheme(out)

    def _piece(self, child: Inline, in_cell: bool) -> str:
        match child:
            case Text(text):
                text = escape(text)
                return text.replace("|", "&#124;") if in_cell else text
            case Break():
                return "<br>"
            case Strong(inner) | Emphasis(inner) | Strike(inner):
                return self._inline(inner, in_cell=in_cell)
            case Code(text):
                return _code(text.replace("|", "\\|") if in_cell else text)
            case Math(source):
                text = escape(to_unicode(source).replace("\n", " "))
                return text.replace("|", "&#124;") if in_cell else text
            case Image(url, alt):
                return self._link(url, escape(image_label(self._sentences, alt)), in_cell)
            case Link(url, inner):
                return self._link(url, self._inline(inner, in_cell=in_cell).replace("<br>", " ").strip(), in_cell)

    def _link(self, url: str, label: str, in_cell: bool) -> str:
        safe = safe_url(url)
        if safe is None:
            address = escape(url.removeprefix("mailto:"))
            hidden = url.startswith(("#", "data:", "javascript:")) or address in label
            text = label if hidden else f"{label} ({address})"
            return text.replace("|", "&#124;") if in_cell else text
        # Brackets and marks in the target would end the link or be read as emphasis.
        target = re.sub(
            r"[()\[\]*_~]", lambda match: f"%{ord(match[0]):02X}" if match[0] in "()[]*" else match[0], safe
        )
        return f"[{label or escape(safe)}]({target})"

    def _items(self, block: List, indent: str) -> list[str]:
        lines: list[str] = []
        for offset, item in enumerate(block.items):
            marker = "- " if block.start is None else f"{block.start + offset}. "
            if item.checked is not None:
                marker += "☑ " if item.checked else "☐ "
            if item.continued:
                marker += escape(self._sentences.continued)
            texts = [child for child in item.children if not isinstance(child, List)]
            body = "<br>".join(filter(None, (self.write(child) for child in texts)))
            lines.append(f"{indent}{marker}{body}".rstrip())
            # Four spaces a level, or the marker's own width where a long number makes it wider.
            deeper = indent + " " * max(_MAX_INDENT, len(marker.split(" ")[0]) + 1)
            for child in item.children:
                if isinstance(child, List):
                    lines.extend(self._items(child, deeper))
        return lines

    def _table(self, table: Table) -> str:
        marks = {"": "---", "left": ":--", "center": ":-:", "right": "--:"}
        rows = [[self._inline(cell, in_cell=True).strip() for cell in row] for row in (table.header, *table.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join(marks[alignment] for alignment in table.alignments) + " |")
        return "\n".join(lines)


def _guard_start(text: str) -> str:
    """Keep the first characters of a paragraph from being read as a heading, quote, list or rule."""

    def entity(match: re.Match[str]) -> str:
        return f"&#{ord(match[1])};" if match[1] else f"{match[2]}&#{ord(match[3])};"

    return _BLOCK_START.sub(entity, text, count=1)


def _attach(before: str, piece: str, following: str, mark: str) -> str:
    """Put marks around a piece: inside its outer spaces, and with hair spaces where punctuation needs them."""
    edges = _EDGES.match(piece)
    left, inner, right = edges.groups() if edges else ("", piece, "")
    if not inner:
        return before + piece
    if not left and _needs_space(before[-1:], inner[0]):
        left = _HAIR_SPACE
    if not right and _needs_space(following[:1], inner[-1]):
        right = _HAIR_SPACE
    return f"{before}{left}{mark}{inner}{mark}{right}"


def _needs_space(outer: str, inner: str) -> bool:
    """Tell whether a mark between the two would not count: punctuation inside, a letter outside."""
    if outer in ("*", "~"):
        return True
    return bool(outer) and outer.isalnum() and not inner.isalnum()


def _fenced(text: str, language: str) -> str:
    ticks = max((len(run) for run in _FENCE.findall(text)), default=2) + 1
    fence = "`" * max(3, ticks)
    return f"{fence}{_LANGUAGE.sub('', language)[:20]}\n{defuse_code(text)}\n{fence}"


def _code(text: str) -> str:
    text = defuse_code(text)
    ticks = "`" * (max((len(run) for run in _TICKS.findall(text)), default=0) + 1)
    # Three backticks could be taken for a fence.
    if not text.strip() or len(ticks) > 2:
        return escape(text)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"
