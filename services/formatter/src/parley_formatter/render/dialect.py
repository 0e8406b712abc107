"""What a dialect is: data about a platform's messages, and a renderer that writes blocks in its mark-up.

A new dialect is one module that ends in a `Dialect` value, and one line in `registry`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from parley_formatter.markdown.nodes import Block, Blocks
from parley_formatter.render.limits import Size
from parley_formatter.sentences import Sentences


class Feature(StrEnum):
    """What a dialect may be unable to show; the names are metric labels and part of the API."""

    TABLE = "table"
    CODE = "code"
    IMAGE = "image"
    LINK = "link"
    LATEX = "latex"
    MENTION = "mention"
    TOO_LONG = "too_long"
    UNPARSED = "unparsed"


@dataclass(frozen=True, slots=True)
class Part:
    """One message for the platform: text or a JSON payload, and plain text for when the platform refuses it."""

    fallback_text: str
    text: str = ""
    payload_json: bytes = b""


@dataclass(frozen=True, slots=True)
class Context:
    """What a renderer needs for one answer; `degraded` counts what it had to replace."""

    sentences: Sentences
    degraded: Counter[Feature] = field(default_factory=Counter)


class Renderer(Protocol):
    """Writes the blocks of one answer."""

    def prepare(self, blocks: Blocks) -> Blocks:
        """Replace what the dialect can't show by what it can."""

    def base(self) -> Size:
        """Return what a part takes beside its blocks; negative where the first block's separator is not written."""

    def measure(self, block: Block) -> Size:
        """Return what a block adds to a part, separator included; never less than it will take."""

    def without_table(self, block: Block) -> Block:
        """Return a block that says the same without counting as a table."""

    def compose(self, blocks: Blocks) -> Part:
        """Write one part."""

    def write(self, block: Block) -> str:
        """Write one block as it looks while the answer is being written."""

    def gap(self, block: Block) -> str:
        """Return what stands between a block and the one before it."""

    def unfinished(self, code: str) -> str:
        """Return a written code block without the mark of its end, so that lines can follow."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A kind of mark-up. `limits` bound one part; a caller may narrow them down to `lowest`."""

    name: str
    platform: str
    description: str
    limits: Size
    lowest: Size
    create: Callable[[Context], Renderer]
