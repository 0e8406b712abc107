"""Feishu's long-connection frames on the wire, written down from their protobuf form and read strictly.

`Frame`: 1 SeqID, 2 LogID (uint64), 3 service, 4 method (int32), 5 headers (a `Header` each: 1 key, 2 value), 6
payload_encoding, 7 payload_type (string), 8 payload (bytes), 9 LogIDNew (string). 1 to 4 and both fields of a header
are required (`pbbp2.proto` in lark-oapi's `ws` package). Nothing of lark-oapi is used here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONTROL = 0
DATA = 1

_VARINT = 0
_BYTES = 2
_REQUIRED = frozenset({1, 2, 3, 4})


class FrameError(Exception):
    """The bytes are no frame."""


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One frame."""

    service: int
    method: int
    headers: Mapping[str, str]
    payload: bytes = b""
    seq_id: int = 0
    log_id: int = 0
    log_id_new: str = ""
    rest: Mapping[int, bytes] = field(default_factory=dict)
    """Fields 6 and 7."""


def write_frame(frame: WireFrame) -> bytes:
    """Return a frame's bytes."""
    wire = bytearray()
    for number, value in ((1, frame.seq_id), (2, frame.log_id), (3, frame.service), (4, frame.method)):
        wire += _varint(number << 3 | _VARINT) + _varint(value)
    for key, text in frame.headers.items():
        wire += _field(5, _field(1, key.encode()) + _field(2, text.encode()))
    for other, content in frame.rest.items():
        wire += _field(other, content)
    wire += _field(8, frame.payload)
    if frame.log_id_new:
        wire += _field(9, frame.log_id_new.encode())
    return bytes(wire)


def read_frame(wire: bytes) -> WireFrame:
    """Return the frame that the bytes are. Raises FrameError."""
    numbers: dict[int, int] = {}
    contents: dict[int, bytes] = {}
    headers: dict[str, str] = {}
    try:
        for number, value in _fields(wire):
            if isinstance(value, int):
                numbers[number] = value
            elif number == 5:
                header = dict(_fields(value))
                key, text = header[1], header[2]
                if not isinstance(key, bytes) or not isinstance(text, bytes):
                    raise FrameError("a header isn't text")
                headers[key.decode()] = text.decode()
            else:
                contents[number] = value
        if missing := sorted(_REQUIRED - numbers.keys()):
            raise FrameError(f"required fields are missing: {missing}")
        return WireFrame(
            service=numbers[3],
            method=numbers[4],
            headers=headers,
            payload=contents.pop(8, b""),
            seq_id=numbers[1],
            log_id=numbers[2],
            log_id_new=contents.pop(9, b"").decode(),
            rest=contents,
        )
    except (IndexError, KeyError, UnicodeDecodeError) as exc:
        raise FrameError(f"not a frame: {type(exc).__name__}") from exc


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    wire = bytearray()
    while value > 0x7F:
        wire.append(value & 0x7F | 0x80)
        value >>= 7
    wire.append(value)
    return bytes(wire)


def _fields(wire: bytes) -> list[tuple[int, int | bytes]]:
    """Return numbers and values of all fields. Raises FrameError, IndexError."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(wire):
        tag, at = _read_varint(wire, at)
        value, at = _read_varint(wire, at)
        if tag & 7 == _VARINT:
            found.append((tag >> 3, value))
        elif tag & 7 == _BYTES:
            if at + value > len(wire):
                raise FrameError("a field ends behind the frame")
            found.append((tag >> 3, wire[at : at + value]))
            at += value
        else:
            raise FrameError(f"no field has wire type {tag & 7}")
    return found


def _read_varint(wire: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = wire[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise FrameError("a number is longer than 64 bits")
