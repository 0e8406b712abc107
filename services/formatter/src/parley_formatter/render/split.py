"""Splitting one block so that its beginning fits into what is left of a part.

Structure is kept on both sides: code is split between lines, a table between rows (its header is repeated), a list
between items or inside one (marked as continued), text at the best place `text.cut_position` finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from parley_formatter.markdown.latex import to_unicode
from parley_formatter.markdown.nodes import (
    Block,
    Blocks,
    CodeBlock,
    Emphasis,
    Heading,
    Inlines,
    List,
    ListItem,
    MathBlock,
    Notice,
    Paragraph,
    Quote,
    Strike,
    Strong,
    Table,
    Text,
)
from parley_formatter.render import inlines
from parley_formatter.render.text import cut_position, largest

# Code points of a cluster that always fit into an empty part.
_CLUSTER = 16
Fits = Callable[[Block], bool]
Halves = tuple[Block | None, Block | None]


def heavier(block: Block, weight: int) -> bool:
    """Tell whether a block holds clearly more than a weight in characters, looking no further than needed.

    A huge block would otherwise be written out once for every part it fills.
    """
    return _weigh(block, weight) < 0


def _weigh(block: Block, left: int) -> int:
    """Return what is left of a weight after a block, negative when the block is heavier."""
    match block:
        case Paragraph(children) | Heading(_, children):
            return inlines.weigh(children, left)
        case CodeBlock(text) | MathBlock(text) | Notice(text):
            return left - len(text)
        case Quote(children):
            return _weigh_all(children, left)
        case List(items):
            return _weigh_all((child for item in items for child in item.children), left - len(items))
        case Table(header, rows):
            for row in (header, *rows):
                for cell in row:
                    left = inlines.weigh(cell, left - 1)
                if left < 0:
                    break
    return left


def _weigh_all(blocks: Iterable[Block], left: int) -> int:
    for block in blocks:
        left = _weigh(block, left - 1)
        if left < 0:
            break
    return left


def split_block(block: Block, fits: Fits) -> Halves:
    """Return the beginning that fits and the rest; no beginning when nothing of the block fits."""
    if fits(block):
        return block, None
    match block:
        case Paragraph():
            return _split_text(block.children, lambda part: replace(block, children=part), fits)
        case Heading():
            return _split_text(block.children, lambda part: Heading(block.level, part), fits)
        case CodeBlock():
            return _split_code(block, fits)
        case Quote():
            head, tail = _split_children(block.children, lambda part: fits(Quote(part)))
            return (Quote(head) if head else None), (Quote(tail) if tail else None)
        case List():
            return _split_list(block, fits)
        case Table():
            return _split_table(block, fits)
    return None, block


def _split_text(children: Inlines, build: Callable[[Inlines], Paragraph | Heading], fits: Fits) -> Halves:
    head, tail = inlines.take(children, lambda part: fits(build(part)))
    rest = build(tail) if tail else None
    if isinstance(rest, Paragraph):
        rest = replace(rest, gap="paragraph")
    return (build(head) if head else None), rest


def _split_code(block: CodeBlock, fits: Fits) -> Halves:
    lines = block.text.split("\n")
    count = largest(len(lines), lambda n: fits(replace(block, text="\n".join(lines[:n]))))
    if count:
        return replace(block, text="\n".join(lines[:count])), replace(block, text="\n".join(lines[count:]))
    # Not even one line fits: cut inside it.
    line = lines[0]
    limit = largest(len(line), lambda n: fits(replace(block, text=line[:n])))
    position = cut_position(line, limit) if limit else 0
    if not position:
        return None, block
    rest = "\n".join((line[position:], *lines[1:]))
    return replace(block, text=line[:position]), (replace(block, text=rest) if rest else None)


def _split_table(block: Table, fits: Fits) -> Halves:
    count = largest(len(block.rows), lambda n: fits(replace(block, rows=block.rows[:n])))
    if not count:
        return None, block
    return replace(block, rows=block.rows[:count]), replace(block, rows=block.rows[count:])


def _split_children(children: Blocks, fits: Callable[[Blocks], bool]) -> tuple[Blocks, Blocks]:
    count = largest(len(children), lambda n: fits(children[:n]))
    before = children[:count]
    if count == len(children):
        return before, ()
    head, tail = split_block(children[count], lambda part: fits((*before, part)))
    rest = () if tail is None else (tail,)
    return (before if head is None else (*before, head)), (*rest, *children[count + 1 :])


def _split_list(block: List, fits: Fits) -> Halves:
    items = block.items
    count = largest(len(items), lambda n: fits(replace(block, items=items[:n])))
    before = items[:count]
    start = None if block.start is None else block.start + count
    if count == len(items):
        return block, None
    item = items[count]
    if before and fits(List((item,), start)):
        # Small enough to wait for the next part as a whole.
        return replace(block, items=before), List(items[count:], start)
    head, tail = _split_children(
        item.children, lambda part: fits(replace(block, items=(*before, replace(item, children=part))))
    )
    if not head:
        rest = List(items[count:], start)
        return (replace(block, items=before) if before else None), rest
    first = replace(block, items=(*before, replace(item, children=head)))
    if tail:
        return first, List((ListItem(tail, item.checked, continued=True), *items[count + 1 :]), start)
    following = None if start is None else start + 1
    return first, (List(items[count + 1 :], following) if items[count + 1 :] else None)


def loosen(block: Block) -> Blocks:
    """Return a block that fits into no part as smaller or simpler ones; applied often enough, everything fits."""
    match block:
        case Paragraph(children):
            return _loosen_text(block, children)
        case Heading(_, children):
            return (Paragraph(children),)
        case CodeBlock(text):
            return tuple(Paragraph((Text(line),), gap="line") for line in text.split("\n") if line.strip())
        case MathBlock(source):
            return (CodeBlock(to_unicode(source)),)
        case Quote(children):
            return children
        case List(items):
            return tuple(child for item in items for child in item.children)
        case Table(header, rows):
            cells = (cell for row in (header, *rows) for cell in row if cell)
            return tuple(Paragraph(cell, gap="line") for cell in cells)
    return ()


def _loosen_text(block: Paragraph, children: Inlines) -> Blocks:
    """Take the first piece of a text apart: emphasis away, a link or code as text, a monstrous cluster in two."""
    first, rest = children[0], children[1:]
    if isinstance(first, (Strong, Emphasis, Strike)):
        return (replace(block, children=(*first.children, *rest)),) if first.children or rest else ()
    if not isinstance(first, Text):
        loose = inlines.loosen(first)
        remaining = rest if loose is None else (loose, *rest)
        return (replace(block, children=remaining),) if remaining else ()
    begin, end = first.text[:_CLUSTER], first.text[_CLUSTER:]
    remaining = (Text(end), *rest) if end else rest
    pieces = (replace(block, children=(Text(begin),)),)
    return (*pieces, Paragraph(remaining, gap="none")) if remaining else pieces
