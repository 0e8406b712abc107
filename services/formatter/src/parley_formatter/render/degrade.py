"""Counts what a dialect shows in another form than the model wrote, by feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from parley_formatter.markdown.nodes import (
    Blocks,
    CodeBlock,
    Emphasis,
    Heading,
    Image,
    Inline,
    Inlines,
    Link,
    Math,
    MathBlock,
    Paragraph,
    Strike,
    Strong,
    Table,
    walk,
)
from parley_formatter.render.dialect import Feature
from parley_formatter.render.escape import safe_url

_BLOCKS: dict[type, Feature] = {Table: Feature.TABLE, CodeBlock: Feature.CODE, MathBlock: Feature.LATEX}


def count_features(blocks: Blocks, degraded: Counter[Feature], *, keeps: frozenset[Feature] = frozenset()) -> None:
    """Add to `degraded` what the tree holds and the dialect does not keep."""
    for block in walk(blocks):
        runs: tuple[Inlines, ...] = ()
        match block:
            case Paragraph(children) | Heading(_, children):
                runs = (children,)
            case Table(header, rows):
                runs = (*header, *(cell for row in rows for cell in row))
        found = [_BLOCKS[type(block)]] if type(block) in _BLOCKS else []
        found += [feature for run in runs for inline in _walk_inline(run) if (feature := _of_inline(inline))]
        degraded.update(feature for feature in found if feature not in keeps)


def _of_inline(inline: Inline) -> Feature | None:
    match inline:
        case Image():
            return Feature.IMAGE
        case Math():
            return Feature.LATEX
        case Link(url, _) if safe_url(url) is None:
            return Feature.LINK
    return None


def _walk_inline(children: Inlines) -> Iterator[Inline]:
    for child in children:
        yield child
        if isinstance(child, (Strong, Emphasis, Strike, Link)):
            yield from _walk_inline(child.children)
