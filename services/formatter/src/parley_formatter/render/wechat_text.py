"""WeChat Official Account text messages: plain text with `<a href>` links.

A text may hold line breaks and `<a href>` with http or https; other tags and Markdown show literally, and nothing can
be escaped (WeChat documentation, "Send customer service message"). The documentation gives no size; 2,048 bytes are
what accounts measure, with failures seen from about 1,880 bytes of Chinese, so a part stays below both.
"""

from __future__ import annotations

from parley_formatter.markdown.nodes import (
    Block,
    Blocks,
)
from parley_formatter.render.degrade import count_features
from parley_formatter.render.dialect import Context, Dialect, Part
from parley_formatter.render.limits import NO_LIMIT, Size
from parley_formatter.render.plain import PlainWriter, separator


def _anchor(url: str, label: str) -> str:
    # A label may not hold a bracket that the client would read as a tag.
    return f'<a href="{url}">{label.replace("<", "＜").replace(">", "＞") or url}</a>'


class WeChatText:
    """Writes one answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writer = PlainWriter(context.sentences, _anchor)
        self._fallback = PlainWriter(context.sentences)

    def prepare(self, blocks: Blocks) -> Blocks:
        """Keep the tree: plain text can say all of it, only less prettily."""
        count_features(blocks, self._context.degraded)
        return tuple(block for block in blocks if self._writer.write(block).strip())

    def base(self) -> Size:
        """Give back what `measure` counts too much: the first block has no separator."""
        return Size(bytes=-2, chars=-2)

    def measure(self, block: Block) -> Size:
        """Measure a block as it will be written."""
        text = separator(block) + self._writer.write(block)
        return Size(len(text.encode()), len(text))

    def without_table(self, block: Block) -> Block:
        """Tables are text here already."""
        return block

    def compose(self, blocks: Blocks) -> Part:
        """Write one text message."""
        return Part(text=self._writer.join(blocks), fallback_text=self._fallback.join(blocks))

    def write(self, block: Block) -> str:
        """Write one block."""
        return self._writer.write(block)

    def gap(self, block: Block) -> str:
        """Separate blocks as in the final text."""
        return separator(block)

    def unfinished(self, code: str) -> str:
        """Code has no mark at its end here."""
        return code


DIALECT = Dialect(
    name="wechat_text",
    platform="wechat",
    description="Text of a WeChat Official Account",
    limits=Size(bytes=1800, chars=600, elements=NO_LIMIT, tables=NO_LIMIT),
    lowest=Size(bytes=300, chars=100, elements=1, tables=1),
    create=WeChatText,
)
