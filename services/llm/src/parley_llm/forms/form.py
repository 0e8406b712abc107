"""A form with files: built part by part, read by name, and spelled anew as often as an attempt needs it.

Only the text fields are in memory; the bytes of all files share one `Spool`. How a form arrives over HTTP is in
`multipart`.
"""

import re
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from parley_llm.errors import InvalidRequestError, RequestTooLargeError
from parley_llm.forms.spool import Spool
from parley_llm.upstream.body import PIECE

MAX_UPLOAD = 100 * 1024 * 1024
MAX_TEXT = 1024 * 1024
MAX_PARTS = 200
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_QUOTED = str.maketrans({'"': '\\"', "\\": "\\\\"})


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How much a form may hold: bytes in all, bytes of text fields and headers, parts. Files wait in `directory`."""

    total: int = MAX_UPLOAD
    text: int = MAX_TEXT
    parts: int = MAX_PARTS
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class PartHead:
    """What is said about a part. Without a filename it is a text field.

    Bytes of a filename or header that are not UTF-8 are held as surrogate escapes, and leave as they came.
    """

    name: str
    filename: str | None = None
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Further header fields."""

    def __post_init__(self) -> None:
        said = (
            self.name,
            self.filename or "",
            self.content_type or "",
            *(text for pair in self.headers for text in pair),
        )
        if any(_CONTROL.search(text) for text in said):
            raise InvalidRequestError("A part of the form has control characters in its name, filename or headers.")

    def spelled(self) -> bytes:
        """Return the part's header lines, with the empty line behind them.

        Quotes and backslashes in names are escaped as in any quoted string (RFC 9110, 5.6.4); names are UTF-8
        (RFC 7578, 5.1).
        """
        line = f'Content-Disposition: form-data; name="{self.name.translate(_QUOTED)}"'
        if self.filename is not None:
            line += f'; filename="{self.filename.translate(_QUOTED)}"'
        lines = [line.encode(errors="surrogateescape")]
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}".encode(errors="surrogateescape"))
        lines += [f"{name}: {value}".encode(errors="surrogateescape") for name, value in self.headers]
        return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@dataclass(slots=True)
class Part:
    """A part of a form: a text field holds its `value`, a file says where in the spool its bytes are."""

    head: PartHead
    value: bytearray = field(default_factory=bytearray, repr=False)
    start: int = 0
    size: int = 0


class Form:
    """The fields and files of one request in their order. Close it in any case.

    Parts are added one after the other: `begin`, then `write` as often as there are bytes.
    """

    def __init__(self, limits: FormLimits | None = None) -> None:
        self._limits = limits or FormLimits()
        self._spool = Spool(self._limits.total, self._limits.directory)
        self._text_left = self._limits.text
        self._users = 1
        self.parts: list[Part] = []

    def begin(self, head: PartHead) -> None:
        """Begin a part. Raises InvalidRequestError, RequestTooLargeError."""
        if len(self.parts) >= self._limits.parts:
            raise InvalidRequestError(f"The form has more than {self._limits.parts} parts.")
        self._take_text(len(head.spelled()))
        self.parts.append(Part(head, start=self._spool.size))

    async def write(self, data: bytes | memoryview) -> None:
        """Add bytes to the part begun last. Raises RequestTooLargeError; InternalError when the disk fails."""
        part = self.parts[-1]
        if part.head.filename is None:
            self._take_text(len(data))
            part.value += data
        else:
            await self._spool.write(data)
        part.size += len(data)

    async def add(self, name: str, value: str) -> None:
        """Add a text field. Raises InvalidRequestError, RequestTooLargeError."""
        self.begin(PartHead(name))
        await self.write(value.encode())

    def files(self, *names: str) -> list[Part]:
        """Return the files with one of these names, in order."""
        return [part for part in self.parts if part.head.filename is not None and part.head.name in names]

    def texts(self) -> dict[str, str | list[str]]:
        """Return the text fields; what stands there several times, or has a name that ends in `[]`, as a list.

        Raises InvalidRequestError when one is not UTF-8.
        """
        found: dict[str, list[str]] = {}
        for part in self.parts:
            if part.head.filename is None:
                try:
                    text = part.value.decode()
                except UnicodeDecodeError as exc:
                    raise InvalidRequestError(f"The field {part.head.name[:100]!r} is not UTF-8.") from exc
                found.setdefault(part.head.name, []).append(text)
        return {name: texts if len(texts) > 1 or name.endswith("[]") else texts[0] for name, texts in found.items()}

    def pieces_of(self, part: Part) -> AsyncGenerator[bytes, None]:
        """Give a file's bytes."""
        return self._spool.pieces(part.start, part.size)

    def encode(self, changes: Mapping[str, str | list[str] | None] | None = None) -> "FormUpload":
        """Return the form as a body for an upstream, with a boundary of its own.

        A field among `changes` gets another value where it stands, several in a row for a list, or is left out when
        that is None; new ones come first, since an upstream that reads its input as it comes may want to know them
        before a file. All other parts keep their order and bytes.
        """
        new = {name: _fields(name, value) for name, value in (changes or {}).items()}
        present = {part.head.name for part in self.parts}
        parts = [field for name, fields in new.items() if name not in present for field in fields]
        placed: set[str] = set()
        for part in self.parts:
            name = part.head.name
            if name not in new:
                parts.append(part)
            elif name not in placed:
                placed.add(name)
                parts += new[name]
        return FormUpload(parts, self._spool)

    def share(self) -> None:
        """Have one more user, who closes the form too."""
        self._users += 1

    def close(self) -> None:
        """Free what the files take once each user has closed; uploads made from the form can't be read any more."""
        self._users -= 1
        if self._users == 0:
            self._spool.close()

    def _take_text(self, length: int) -> None:
        self._text_left -= length
        if self._text_left < 0:
            raise RequestTooLargeError(f"The form's text fields are longer than {self._limits.text} bytes in all.")


class FormUpload:
    """A form as multipart/form-data (RFC 7578), to be sent any number of times while the form is open."""

    def __init__(self, parts: Sequence[Part], spool: Spool) -> None:
        # 128 random bits: that a file holds this line by chance, or by design, is out of the question.
        self._boundary = f"parley-{secrets.token_hex(16)}"
        self._parts = parts
        self._spool = spool
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self.length = len(self._closing) + sum(
            len(opening) + part.size for part, opening in zip(parts, self._openings(), strict=True)
        )

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the whole body from its start."""
        waiting = bytearray()
        for part, opening in zip(self._parts, self._openings(), strict=True):
            waiting += opening
            if part.head.filename is None:
                waiting += part.value
                continue
            async with aclosing(self._spool.pieces(part.start, part.size)) as pieces:
                async for piece in pieces:
                    waiting += piece
                    if len(waiting) >= PIECE:
                        yield bytes(waiting)
                        waiting.clear()
        waiting += self._closing
        # Text fields may be much longer than one piece.
        for start in range(0, len(waiting), PIECE):
            yield bytes(waiting[start : start + PIECE])

    def _openings(self) -> Iterator[bytes]:
        """Give what stands before each part's bytes."""
        delimiter = f"--{self._boundary}\r\n".encode()
        for part in self._parts:
            yield delimiter + part.head.spelled()
            delimiter = f"\r\n--{self._boundary}\r\n".encode()

    @property
    def _closing(self) -> bytes:
        between = "\r\n" if self._parts else ""
        return f"{between}--{self._boundary}--\r\n".encode()


def _fields(name: str, value: str | list[str] | None) -> list[Part]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    values = [bytearray(text.encode()) for text in texts]
    return [Part(PartHead(name), data, size=len(data)) for data in values]
