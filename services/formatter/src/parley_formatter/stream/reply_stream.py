"""Renders an answer while it is being written: states that only grow, and the final parts at the end.

A closed chunk of Markdown is parsed and written once. The open one is written anew whenever it has grown by a fair
share, and shown as far as nothing that follows can change it. So all states together cost about as much as a constant
number of renderings of the whole. The final parts are those of `ReplyFormatter.format`.
"""

from __future__ import annotations

import logging
import re
import traceback
from dataclasses import dataclass

from parley_formatter.markdown.clean import clean
from parley_formatter.markdown.nodes import Block, Blocks, List, Notice, Table
from parley_formatter.render.dialect import Context
from parley_formatter.render.pack import pack
from parley_formatter.render.reply import MAX_MARKDOWN_CHARS, Reply, ReplyFormatter, ReplyOptions
from parley_formatter.sentences import sentences_for
from parley_formatter.stream.chunks import Chunks
from parley_formatter.stream.safe import safe_end

# The open chunk is written anew when it has grown by this share of itself.
_GROWTH = 16
_THINKING = re.compile(r"\s*<(think|thinking)>", re.IGNORECASE)
_OPENINGS = ("<think>", "<thinking>")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartState:
    """What a part that isn't finished can show: all of it so far."""

    part_index: int
    text: str


class ReplyStream:
    """One answer; feed it, then finish it."""

    def __init__(self, formatter: ReplyFormatter, options: ReplyOptions) -> None:
        self._formatter = formatter
        self._options = options
        context = Context(sentences_for(options.locale))
        self._renderer = options.dialect.create(context)
        self._whole = options.limits - self._renderer.base()
        self._pieces: list[str] = []
        self._size = 0
        self._states = True
        self._beginning: str | None = ""
        self._carriage = ""
        self._chunks = Chunks()
        self._written_size = 0
        self._changed: dict[int, str] = {}
        self._start_part(0)

    def feed(self, piece: str) -> tuple[PartState, ...]:
        """Take the next piece of the answer; return the parts that grew. Raises nothing, whatever the text."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_MARKDOWN_CHARS:
            self._states = False
        if self._states and piece:
            try:
                self._advance(piece)
            except Exception as exc:  # noqa: BLE001 - whatever the fault, the final answer must be shown.
                # Without the exception's message, which may quote the text.
                trace = "".join(traceback.format_tb(exc.__traceback__))
                _logger.error("An unfinished answer isn't shown after %s in\n%s", type(exc).__name__, trace)
                self._states = False
        changed, self._changed = self._changed, {}
        return tuple(PartState(index, text) for index, text in sorted(changed.items()))

    def finish(self) -> Reply:
        """Return the final rendering of everything. Raises nothing."""
        return self._formatter.format("".join(self._pieces), self._options)

    def _advance(self, piece: str) -> None:
        text = self._without_reasoning(piece)
        text = self._carriage + text
        self._carriage = "\r" if text.endswith("\r") else ""
        text = clean(text.removesuffix("\r"))
        for chunk in self._chunks.feed(text):
            self._close(chunk)
        self._show_open()

    def _without_reasoning(self, piece: str) -> str:
        """Hold the text back until it is clear that it doesn't begin with reasoning, or that this has ended."""
        if self._beginning is None:
            return piece
        self._beginning += piece
        head = self._beginning.lstrip().lower()
        if any(opening.startswith(head) for opening in _OPENINGS):
            return ""
        text = self._beginning
        if opening := _THINKING.match(text):
            closing = re.compile(rf"</{opening[1]}>", re.IGNORECASE).search(
                text, max(opening.end(), len(text) - len(piece) - len(_OPENINGS[1]) - 1)
            )
            if closing is None:
                return ""
            text = text[closing.end() :].lstrip()
        self._beginning = None
        return text

    def _start_part(self, index: int) -> None:
        self._index = index
        self._room = self._whole
        self._closed = ""
        self._shown = ""
        self._last: Block | None = None
        self._frozen = False
        if self._options.max_parts and index >= self._options.max_parts:
            self._states = False

    def _close(self, chunk: str) -> None:
        """Write a closed chunk for good."""
        self._written_size = 0
        for block in self._blocks(chunk):
            for piece in self._fitting(block):
                text = self._joint(piece) + self._renderer.write(piece)
                self._room = self._room - self._renderer.measure(piece)
                self._closed += text
                self._last = piece
        self._show(self._closed)
        # Something shown of this chunk reads otherwise now that it is closed: this part waits for its final form.
        self._frozen = not self._closed.startswith(self._shown)

    def _show_open(self) -> None:
        """Show what can be shown of the open chunk."""
        size = self._chunks.open_size
        if self._frozen or size - self._written_size <= self._written_size // _GROWTH:
            return
        self._written_size = size
        chunk = self._chunks.open()
        text = chunk.text if chunk.code else chunk.text[: safe_end(chunk.text)]
        room, last, out = self._room, self._last, self._closed
        for block in self._blocks(text):
            size_of_block = self._renderer.measure(block)
            if not size_of_block.fits(room):
                return
            written = self._renderer.write(block)
            out += self._joint(block, last) + (self._renderer.unfinished(written) if chunk.code else written)
            room, last = room - size_of_block, block
        self._show(out)

    def _show(self, text: str) -> None:
        if self._states and not self._frozen and len(text) > len(self._shown) and text.startswith(self._shown):
            self._shown = self._changed[self._index] = text

    def _blocks(self, markdown: str) -> Blocks:
        return self._renderer.prepare(self._formatter.parse(markdown)) if markdown.strip() else ()

    def _fitting(self, block: Block) -> Blocks:
        """Return a block, or the pieces of one too large for any part; the part at hand has room for the first."""
        if isinstance(block, Table) and not self._room.tables:
            block = self._renderer.without_table(block)
        size = self._renderer.measure(block)
        if size.fits(self._room):
            return (block,)
        if self._last is not None:
            self._start_part(self._index + 1)
        if size.fits(self._room):
            return (block,)
        packed = pack(
            (block,), self._renderer, self._options.limits, max_parts=0, cut=Notice(""), label=None, was_cut=False
        )
        for part in packed.parts[:-1]:
            for piece in part:
                self._closed += self._joint(piece) + self._renderer.write(piece)
                self._last = piece
            self._show(self._closed)
            self._start_part(self._index + 1)
        return packed.parts[-1] if packed.parts else ()

    def _joint(self, block: Block, last: Block | None = None) -> str:
        """Return what stands between a block and the one before it; items of a list come as lists of one."""
        before = last or self._last
        if before is None:
            return ""
        return "\n" if isinstance(block, List) and isinstance(before, List) else self._renderer.gap(block)
