"""Sizes of parts and the limits they must keep, counted the same way everywhere."""

from __future__ import annotations

from dataclasses import dataclass, fields

NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Size:
    """How much something takes: UTF-8 bytes, code points, card elements, tables."""

    bytes: int = 0
    chars: int = 0
    elements: int = 0
    tables: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.bytes + other.bytes,
            self.chars + other.chars,
            self.elements + other.elements,
            self.tables + other.tables,
        )

    def __sub__(self, other: Size) -> Size:
        return Size(
            self.bytes - other.bytes,
            self.chars - other.chars,
            self.elements - other.elements,
            self.tables - other.tables,
        )

    def fits(self, room: Size) -> bool:
        """Tell whether this much goes into the room."""
        return (
            self.bytes <= room.bytes
            and self.chars <= room.chars
            and self.elements <= room.elements
            and self.tables <= room.tables
        )

    def fits_but_for_tables(self, room: Size) -> bool:
        """Tell whether the number of tables is what does not fit."""
        return self.tables > room.tables

    def share_of(self, whole: Size) -> float:
        """Return the larger of the shares of bytes and characters that this takes of a whole."""
        return max(self.bytes / max(whole.bytes, 1), self.chars / max(whole.chars, 1))


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit a caller asked for that the dialect cannot keep."""

    name: str
    wanted: int
    lowest: int
    highest: int


def narrow(limits: Size, lowest: Size, wanted: Size) -> Size | Violation:
    """Apply a caller's limits to a dialect's; 0 keeps the dialect's own."""
    values: dict[str, int] = {}
    for field in fields(Size):
        own: int = getattr(limits, field.name)
        least: int = getattr(lowest, field.name)
        asked: int = getattr(wanted, field.name)
        if asked and not least <= asked <= own:
            return Violation(f"max_{field.name}", asked, least, own)
        values[field.name] = asked or own
    return Size(**values)
