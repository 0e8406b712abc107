"""Tables as text: aligned columns where they fit, a list of records where they don't.

Columns are measured with CJK characters two wide. Where the table holds any, padding uses the ideographic space,
which is as wide as a Chinese character even in a proportional font.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parley_formatter.markdown.nodes import Alignment
from parley_formatter.render.text import has_wide, width


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: what the reader sees (for measuring) and what is written."""

    visible: str
    written: str


Row = Sequence[Cell]


def aligned(header: Row, rows: Sequence[Row], alignments: Sequence[Alignment], max_width: int) -> list[str] | None:
    """Lay a table out in columns; None when it would be wider than `max_width` columns."""
    every = [header, *rows]
    widths = [max(width(row[column].visible) for row in every) for column in range(len(header))]
    total = sum(widths) + 2 * (len(widths) - 1)
    if total > max_width:
        return None
    wide = any(has_wide(cell.visible) for row in every for cell in row)
    lines = [_line(row, widths, alignments, wide) for row in every]
    if any(cell.visible for cell in header):
        lines.insert(1, "─" * total if not wide else "─" * ((total + 1) // 2))
    else:
        lines.pop(0)
    return lines


def _line(row: Row, widths: Sequence[int], alignments: Sequence[Alignment], wide: bool) -> str:
    out = []
    for cell, column_width, alignment in zip(row, widths, alignments, strict=True):
        missing = column_width - width(cell.visible)
        before = missing if alignment == "right" else missing // 2 if alignment == "center" else 0
        out.append(_pad(before, wide) + cell.written + _pad(missing - before, wide))
    return "  ".join(out).rstrip(" \u3000")


def _pad(columns: int, wide: bool) -> str:
    return "\u3000" * (columns // 2) + " " * (columns % 2) if wide else " " * columns


def records(header: Row, rows: Sequence[Row]) -> list[str]:
    """Write each row as a small list: the first cell as its title, the others below, each behind its column's name."""
    if not rows:
        return ["  ".join(cell.written for cell in header if cell.written)]
    lines: list[str] = []
    for row in rows:
        lines.append("▪ " + _named(header[0], row[0]))
        lines.extend(f"  {_named(name, cell)}" for name, cell in zip(header[1:], row[1:], strict=True) if cell.written)
    return lines


def _named(name: Cell, cell: Cell) -> str:
    if not name.written:
        return cell.written or "—"
    return f"{name.written}{'：' if has_wide(name.visible) else ': '}{cell.written or '—'}"
