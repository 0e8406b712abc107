"""Splits a body into server-sent events (WHATWG HTML, "Server-sent events"), whatever the chunk borders are."""

MAX_EVENT = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """One event is longer than it may be."""


class EventSplitter:
    """Takes body bytes, gives (event name, data) pairs; comments and blank lines vanish.

    An event may have `max_event` bytes.
    """

    __slots__ = ("_buffer", "_held_cr", "_max_event", "_started")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._buffer = bytearray()
        self._held_cr = False
        self._started = False

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the events that `data` completes. Raises EventTooLargeError."""
        if not self._started:
            self._started = True
            data = data.removeprefix(_BOM)
        if self._held_cr or b"\r" in data:
            data = self._normalise(data)
        if not self._buffer and data.endswith(b"\n\n"):
            # Whole events, as most upstreams write them, and mostly a single one.
            if data.startswith(b"data: ") and data.count(b"\n") == 2:
                return [(b"", data[6:-2])]
            return _events(data[:-2].split(b"\n\n"))
        # Only the new bytes (and one before them) can hold the blank line that ends an event.
        search_from = max(0, len(self._buffer) - 1)
        if self._buffer:
            self._buffer += data
            whole: bytes | bytearray = self._buffer
        else:
            whole = data
        end = whole.rfind(b"\n\n", search_from)
        if end < 0:
            if whole is data:
                self._buffer += data
            if len(self._buffer) > self._max_event:
                raise EventTooLargeError(f"an event is longer than {self._max_event} bytes")
            return []
        blocks = bytes(whole[:end]).split(b"\n\n")
        self._buffer = bytearray(whole[end + 2 :])
        return _events(blocks)

    def end(self) -> list[tuple[bytes, bytes]]:
        """Return the event that the body's end cut off before its blank line, if there is one."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return _events([rest])

    def _normalise(self, data: bytes) -> bytes:
        """Turn CR LF and CR into LF; a CR at the end waits for what follows it."""
        if self._held_cr:
            data = b"\r" + data
        self._held_cr = data.endswith(b"\r")
        if self._held_cr:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(blocks: list[bytes]) -> list[tuple[bytes, bytes]]:
    events: list[tuple[bytes, bytes]] = []
    for block in blocks:
        if block.startswith(b"data: ") and b"\n" not in block:
            events.append((b"", block[6:]))
            continue
        name = b""
        data: list[bytes] = []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if data:
            events.append((name, b"\n".join(data)))
    return events
