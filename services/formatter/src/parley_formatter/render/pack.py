"""Distributes blocks over parts: each as full as reads well, none above its limits.

Greedy from the front. A block that does not fit is split when the part still has a good deal of room or when no
part could take it whole; otherwise it opens the next part. A heading never ends a part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from parley_formatter.markdown.nodes import (
    Block,
    Blocks,
    CodeBlock,
    Gap,
    Heading,
    MathBlock,
    Notice,
    Paragraph,
    Table,
    Text,
)
from parley_formatter.render.dialect import Renderer
from parley_formatter.render.limits import NO_LIMIT, Size
from parley_formatter.render.split import heavier, loosen, split_block
from parley_formatter.render.text import cut_position

# A part filled less than this is filled up with the beginning of the next block.
_WELL_FILLED = 0.6
# Code, tables and formulas are kept whole even at the price of an emptier part.
_KEEP_WHOLE = 0.3
# Characters a byte of room: LaTeX is longer than what it becomes, but not by this much.
_FAR_TOO_LARGE = 3
# Characters of a piece of a line that is taken without parsing.
_PIECE = 500


@dataclass(frozen=True, slots=True)
class Packed:
    parts: tuple[Blocks, ...]
    truncated: bool


def pack(
    blocks: Blocks,
    renderer: Renderer,
    limits: Size,
    *,
    max_parts: int,
    cut: Notice,
    label: Notice | None,
    was_cut: bool,
) -> Packed:
    """Distribute blocks over at most `max_parts` parts (0: any number).

    What is left over is replaced by the `cut` notice, as it is when the text `was_cut` before; `label` ends the last
    part. Room for both is inside the limits.
    """
    room = limits - renderer.base()
    if label is not None:
        room = room - renderer.measure(label)
    stack = list(reversed(blocks))
    parts: list[Blocks] = []
    truncated = False
    while stack and not truncated:
        last = len(parts) + 1 == max_parts
        before = list(stack)
        taken = _fill(stack, renderer, room, eager=last)
        if (last and stack) or (was_cut and not stack):
            # Once more, with room for the notice; a text cut before may now need another part.
            stack = before
            taken = _fill(stack, renderer, room - renderer.measure(cut), eager=last)
            truncated = last or not stack
        if taken or truncated:
            parts.append((*taken, cut) if truncated else taken)
    if label is not None:
        parts = parts or [()]
        parts[-1] = (*parts[-1], label)
    return Packed(tuple(parts), truncated)


def _fill(stack: list[Block], renderer: Renderer, whole: Size, *, eager: bool) -> Blocks:
    """Move from the stack's end what goes into one part; at least something, when there is anything.

    An `eager` part takes all it can, since what is left is lost.
    """
    taken: list[Block] = []
    room = whole
    while stack:
        if not taken:
            stack[-1] = _as_first(stack[-1])
        block = stack[-1]
        size = _measure(renderer, block, whole)
        if size.fits(room):
            taken.append(stack.pop())
            room = room - size
        elif size.fits_but_for_tables(room):
            stack[-1] = renderer.without_table(block)
        elif taken and not eager and _starts_next(block, size, whole, room):
            break
        else:
            stack.pop()
            head, tail = split_block(block, partial(_fits, renderer, room))
            if head is None and not taken:
                stack.extend(reversed(loosen(block)))
                continue
            stack.extend(part for part in (tail,) if part is not None)
            taken.extend(part for part in (head,) if part is not None)
            break
    if stack and len(taken) > 1 and isinstance(taken[-1], Heading):
        stack.append(taken.pop())
    return tuple(taken)


def _as_first(block: Block) -> Block:
    """Give a part's first block the usual gap, with which parts are measured."""
    return replace(block, gap="paragraph") if isinstance(block, Paragraph) else block


def _fits(renderer: Renderer, room: Size, block: Block) -> bool:
    return _measure(renderer, block, room).fits(room)


def _measure(renderer: Renderer, block: Block, room: Size) -> Size:
    """Measure a block; one that is far too large is not written out for that."""
    if heavier(block, _FAR_TOO_LARGE * min(room.bytes, room.chars)):
        return Size(NO_LIMIT, NO_LIMIT)
    return renderer.measure(block)


def _starts_next(block: Block, size: Size, whole: Size, room: Size) -> bool:
    """Tell whether a block that does not fit here is better left whole for the next part."""
    used = (whole - room).share_of(whole)
    threshold = _KEEP_WHOLE if isinstance(block, (CodeBlock, Table, MathBlock)) else _WELL_FILLED
    return size.fits(whole) and used >= threshold


def plain_blocks(text: str) -> Blocks:
    """Take a text line by line without parsing it, very long lines in pieces, so that work stays linear."""
    blocks: list[Block] = []
    blank = True
    for line in text.split("\n"):
        if not line.strip():
            blank = True
            continue
        start = 0
        while start < len(line):
            end = start + (cut_position(line[start : start + 2 * _PIECE], _PIECE) or _PIECE)
            gap: Gap = "none" if start else "paragraph" if blank else "line"
            blocks.append(Paragraph((Text(line[start:end]),), gap))
            start = end
        blank = False
    return tuple(blocks)
