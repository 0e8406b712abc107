"""The way of one answer: clean, parse, render, pack. Never fails on any text.

Bounds: a text longer than `MAX_CHARS` is cut, one longer than `MAX_MARKDOWN_CHARS` is taken as plain text, and so is
one that an unforeseen fault of the parser or a renderer would otherwise lose.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from markdown_it import MarkdownIt

from parley_formatter.markdown.clean import clean, drop_reasoning
from parley_formatter.markdown.nodes import Blocks, Notice
from parley_formatter.markdown.parser import create_parser
from parley_formatter.markdown.tree import parse
from parley_formatter.render.dialect import Context, Dialect, Feature, Part
from parley_formatter.render.escape import count_mentions
from parley_formatter.render.limits import Size
from parley_formatter.render.pack import pack, plain_blocks
from parley_formatter.sentences import sentences_for

MAX_CHARS = 1_000_000
MAX_MARKDOWN_CHARS = 100_000
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How an answer is to be formatted; `limits` are the dialect's own or narrower."""

    dialect: Dialect
    limits: Size
    max_parts: int = 0
    locale: str = "en"
    ai_label: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A formatted answer; `parts` is never empty."""

    parts: tuple[Part, ...]
    truncated: bool
    degraded: Mapping[Feature, int]


class ReplyFormatter:
    """Formats answers; holds the parser, which is costly to build and keeps nothing."""

    def __init__(self, parser: MarkdownIt | None = None) -> None:
        self._parser = parser or create_parser()

    def parse(self, text: str) -> Blocks:
        """Parse Markdown that was cleaned before."""
        return parse(self._parser, text)

    def format(self, markdown: str, options: ReplyOptions) -> Reply:
        """Format an answer. Raises nothing, whatever the text."""
        text = clean(drop_reasoning(markdown[:MAX_CHARS]))
        was_cut = len(markdown) > MAX_CHARS
        if len(text) <= MAX_MARKDOWN_CHARS:
            try:
                return self._render(text, self.parse(text), options, was_cut)
            except Exception as exc:  # noqa: BLE001 - whatever the fault, an answer must be shown.
                # Without the exception's message, which may quote the text. What follows has no parser to fail in.
                trace = "".join(traceback.format_tb(exc.__traceback__))
                _logger.error("An answer is shown as plain text after %s in\n%s", type(exc).__name__, trace)
        return self._render(text, plain_blocks(text), options, was_cut, unparsed=True)

    def _render(
        self, text: str, blocks: Blocks, options: ReplyOptions, was_cut: bool, *, unparsed: bool = False
    ) -> Reply:
        sentences = sentences_for(options.locale)
        context = Context(sentences)
        renderer = options.dialect.create(context)
        if mentions := count_mentions(text):
            context.degraded[Feature.MENTION] += mentions
        if unparsed:
            context.degraded[Feature.UNPARSED] += 1
        prepared = renderer.prepare(blocks)
        packed = pack(
            prepared or (Notice(sentences.empty),),
            renderer,
            options.limits,
            max_parts=options.max_parts,
            cut=Notice(sentences.cut),
            label=Notice(sentences.ai_label) if options.ai_label else None,
            was_cut=was_cut,
        )
        if packed.truncated:
            context.degraded[Feature.TOO_LONG] += 1
        parts = tuple(renderer.compose(part) for part in packed.parts)
        return Reply(parts, packed.truncated, dict(context.degraded))
