"""Feishu/Lark interactive cards in JSON 2.0.

Limits from the Feishu documentation ("Send message", "Card JSON 2.0 structure", "Rich text (Markdown) component"): a
card has at most 30 KB and 200 elements; an unknown attribute is an error. The documentation allows five tables a card,
but bots report error 230099/11310 with fewer, so three is the limit here. A picture needs an uploaded key, so a URL
becomes a link.
"""

from __future__ import annotations

import json
from typing import Any

from parley_formatter.markdown.nodes import Block, Blocks, CodeBlock, Notice, Paragraph, Rule, Table
from parley_formatter.render.degrade import count_features
from parley_formatter.render.dialect import Context, Dialect, Feature, Part
from parley_formatter.render.feishu_markdown import FeishuMarkdown, arrange
from parley_formatter.render.limits import NO_LIMIT, Size
from parley_formatter.render.plain import PlainWriter

# A fixed-width block on a phone shows about this many columns without scrolling.
_TABLE_WIDTH = 60
_MAX_COLUMNS = 20
_MAX_SUMMARY = 40
_SUMMARY_BYTES = _MAX_SUMMARY * 8
_KEEPS = frozenset({Feature.TABLE, Feature.CODE})


class FeishuCard:
    """Writes one answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._markdown = FeishuMarkdown(context.sentences)
        self._plain = PlainWriter(context.sentences)
        self._base = Size(_cost(_card([], "")) + _SUMMARY_BYTES + _element_cost(), 0, 1)

    def prepare(self, blocks: Blocks) -> Blocks:
        """Arrange the tree and write very wide tables as text."""
        count_features(blocks, self._context.degraded, keeps=_KEEPS)
        arranged = (
            self.without_table(block) if isinstance(block, Table) and len(block.header) > _MAX_COLUMNS else block
            for block in arrange(blocks)
        )
        return tuple(
            block for block in arranged if self._markdown.write(block).strip() and self._plain.write(block).strip()
        )

    def base(self) -> Size:
        """Return what a card with one empty element takes."""
        return self._base

    def measure(self, block: Block) -> Size:
        """Measure a block; one with an element of its own counts that and the text element that may follow."""
        text = self._markdown.write(block)
        own = 2 if isinstance(block, (Table, Rule, Notice)) else 0
        cost = _cost(text) + _SEPARATOR_COST + own * _element_cost()
        return Size(cost, len(text) + 2, own, int(isinstance(block, Table)))

    def without_table(self, block: Block) -> Block:
        """Return a table as fixed-width text."""
        if not isinstance(block, Table):
            return block
        self._context.degraded[Feature.TABLE] += 1
        return CodeBlock("\n".join(self._plain.table(block, _TABLE_WIDTH)))

    def compose(self, blocks: Blocks) -> Part:
        """Write one card."""
        fallback = self._plain.join(blocks)
        card = _card(self._elements(blocks), _summary(fallback))
        return Part(payload_json=_dump(card).encode(), fallback_text=fallback)

    def write(self, block: Block) -> str:
        """Write one block of the element that shows an unfinished answer."""
        return self._markdown.write(block)

    def gap(self, block: Block) -> str:
        """Separate blocks of one element."""
        return _GAPS[block.gap] if isinstance(block, Paragraph) else _GAPS["paragraph"]

    def unfinished(self, code: str) -> str:
        """Leave the fence open: the element is code to its end."""
        return code.rpartition("\n")[0]

    def _elements(self, blocks: Blocks) -> list[dict[str, Any]]:
        elements: list[dict[str, Any]] = []
        run: list[str] = []

        def flush() -> None:
            if run:
                elements.append({"tag": "markdown", "content": "".join(run)})
                run.clear()

        for block in blocks:
            text = self._markdown.write(block)
            if isinstance(block, (Table, Rule, Notice)):
                flush()
                elements.append(_own_element(block, text))
            else:
                run.append((self.gap(block) if run else "") + text)
        flush()
        for number, element in enumerate(elements, 1):
            element["element_id"] = f"e{number}"
        return elements


def _own_element(block: Block, text: str) -> dict[str, Any]:
    if isinstance(block, Rule):
        return {"tag": "hr"}
    if isinstance(block, Notice):
        return {"tag": "markdown", "content": text, "text_size": "notation"}
    return {"tag": "markdown", "content": text}


def _card(elements: list[dict[str, Any]], summary: str) -> dict[str, Any]:
    # The summary is what the chat list and notifications show instead of "[card]".
    config: dict[str, Any] = {"update_multi": True, "summary": {"content": summary}}
    return {"schema": "2.0", "config": config, "body": {"elements": elements}}


def _summary(text: str) -> str:
    words = " ".join(text[: _MAX_SUMMARY * 4].split())
    return words if len(words) <= _MAX_SUMMARY else words[: _MAX_SUMMARY - 1] + "…"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cost(value: object) -> int:
    """Return the bytes a value takes in the request, which carries the card as a JSON string inside JSON."""
    return len(_dump(_dump(value)).encode())


def _element_cost() -> int:
    return _cost({"tag": "markdown", "content": "", "text_size": "notation", "element_id": "e1000"}) + 1


_GAPS = {"paragraph": "\n\n", "line": "<br>", "none": ""}
_SEPARATOR_COST = 6


DIALECT = Dialect(
    name="feishu_card",
    platform="feishu",
    description="Interactive card of Feishu and Lark",
    limits=Size(bytes=28_000, chars=NO_LIMIT, elements=190, tables=3),
    lowest=Size(bytes=2_000, chars=1_000, elements=10, tables=1),
    create=FeishuCard,
)
