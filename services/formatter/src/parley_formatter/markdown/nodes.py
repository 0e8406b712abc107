"""The tree every dialect is rendered from.

Nodes are values: comparing, splitting and rebuilding them is safe. Only what some dialect can show differently
has a node; raw HTML is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """Characters without mark-up, never containing a line break."""

    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """A line break. Models break lines on purpose, so soft and hard breaks are one thing here."""


@dataclass(frozen=True, slots=True)
class Strong:
    children: Inlines


@dataclass(frozen=True, slots=True)
class Emphasis:
    children: Inlines


@dataclass(frozen=True, slots=True)
class Strike:
    children: Inlines


@dataclass(frozen=True, slots=True)
class Code:
    text: str


@dataclass(frozen=True, slots=True)
class Math:
    """A formula inside a line, as LaTeX."""

    source: str


@dataclass(frozen=True, slots=True)
class Link:
    url: str
    children: Inlines


@dataclass(frozen=True, slots=True)
class Image:
    url: str
    alt: str


Inline: TypeAlias = Text | Break | Strong | Emphasis | Strike | Code | Math | Link | Image
Inlines: TypeAlias = tuple[Inline, ...]


Gap: TypeAlias = Literal["paragraph", "line", "none"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A run of text; `gap` says what separates it from the block before it.

    `line` and `none` occur when a text too long for parsing is taken line by line, in pieces.
    """

    children: Inlines
    gap: Gap = "paragraph"


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    children: Inlines


@dataclass(frozen=True, slots=True)
class CodeBlock:
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class MathBlock:
    """A formula on lines of its own, as LaTeX."""

    source: str


@dataclass(frozen=True, slots=True)
class Quote:
    children: Blocks


@dataclass(frozen=True, slots=True)
class ListItem:
    """One item; `checked` is None outside task lists, `continued` marks the rest of an item that was split."""

    children: Blocks
    checked: bool | None = None
    continued: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """A list; `start` is the first number, or None for bullets."""

    items: tuple[ListItem, ...]
    start: int | None = None


Alignment: TypeAlias = Literal["", "left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every row has as many cells as the header."""

    header: tuple[Inlines, ...]
    rows: tuple[tuple[Inlines, ...], ...]
    alignments: tuple[Alignment, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal rule."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence of the formatter itself, such as the mark of a cut."""

    text: str


Block: TypeAlias = Paragraph | Heading | CodeBlock | MathBlock | Quote | List | Table | Rule | Notice
Blocks: TypeAlias = tuple[Block, ...]


def walk(blocks: Blocks) -> Iterator[Block]:
    """Yield every block of the tree, parents first."""
    for block in blocks:
        yield block
        if isinstance(block, Quote):
            yield from walk(block.children)
        elif isinstance(block, List):
            for item in block.items:
                yield from walk(item.children)
