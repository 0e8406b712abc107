"""Reads a form that arrives as multipart/form-data (RFC 7578), however its bytes are cut into pieces.

What readers may understand differently is refused, not guessed: a form that means one thing here and another at the
upstream could get around what is checked here.
"""

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from parley_llm.errors import InvalidRequestError, RequestTooLargeError
from parley_llm.forms.form import Form, FormLimits, PartHead

MAX_HEADERS = 16
MAX_HEADER = 8 * 1024
_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)\s*')
_ESCAPE = re.compile(r'\\(["\\])')
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[^']*'(.*)", re.IGNORECASE)


async def read_form(pieces: AsyncIterator[bytes], content_type: str, limits: FormLimits | None = None) -> Form:
    """Read a form from the pieces of a request's body. The rest of `pieces` is left when it raises.

    Raises InvalidRequestError that says what is wrong with it, RequestTooLargeError, InternalError when the disk fails.
    """
    limits = limits or FormLimits()
    reader = _Reader(_boundary(content_type), limits)
    try:
        async for piece in pieces:
            await reader.feed(piece)
        reader.end()
    except BaseException:
        reader.form.close()
        raise
    return reader.form


def _boundary(content_type: str) -> bytes:
    media_type, parameters = parse_options_header(content_type)
    if media_type.strip() != b"multipart/form-data":
        raise InvalidRequestError("Content-Type must be multipart/form-data.")
    boundary = parameters.get(b"boundary", b"")
    # RFC 2046, 5.1.1.
    if not 1 <= len(boundary) <= 70:
        raise InvalidRequestError("Content-Type must name a boundary of 1 to 70 characters.")
    return boundary


class _Reader:
    """Turns bytes into the parts of a form.

    The parser calls back in the middle of a piece, where nothing can be waited for; so what it finds is noted, and
    put into the form when it is through with the piece.
    """

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.form = Form(limits)
        self._limits = limits
        self._received = 0
        self._found: list[PartHead | memoryview] = []
        self._headers: list[tuple[str, str]] = []
        self._name = b""
        self._value = b""
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER,
        )

    async def feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limits.total:
            raise RequestTooLargeError(f"The upload is longer than {self._limits.total} bytes.")
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise InvalidRequestError(f"The form is malformed: {exc}.") from exc
        found, self._found = self._found, []
        for one in found:
            if isinstance(one, PartHead):
                self.form.begin(one)
            else:
                await self.form.write(one)

    def end(self) -> None:
        if not self._complete:
            raise InvalidRequestError("The form is malformed: it ends before its closing boundary.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.append((self._name.decode("ascii"), self._value.decode(errors="surrogateescape").strip(" \t")))
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        self._found.append(_part_head(self._headers))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._found.append(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self._complete = True


def _part_head(headers: list[tuple[str, str]]) -> PartHead:
    known: dict[str, str] = {}
    further: list[tuple[str, str]] = []
    for name, value in headers:
        key = name.lower()
        if key not in ("content-disposition", "content-type"):
            further.append((name, value))
        elif key in known:
            raise InvalidRequestError(f"The form is malformed: a part has two {name} headers.")
        else:
            known[key] = value
    parameters = _disposition(known.get("content-disposition", ""))
    filename = parameters.get("filename")
    if "filename*" in parameters:
        filename = _extended(parameters["filename*"])
    return PartHead(parameters["name"], filename, known.get("content-type"), tuple(further))


def _disposition(value: str) -> dict[str, str]:
    """Read a part's Content-Disposition. Its `name` is among what is returned."""
    kind, semicolon, rest = value.partition(";")
    if kind.strip().lower() != "form-data":
        raise InvalidRequestError("The form is malformed: a part has no Content-Disposition: form-data.")
    parameters: dict[str, str] = {}
    at, text = 0, (semicolon + rest).rstrip(" \t;")
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None:
            raise InvalidRequestError("The form is malformed: a part's Content-Disposition can't be read.")
        at = match.end()
        key, found = match[1].lower(), match[2]
        if key in parameters or key == "name*":
            raise InvalidRequestError(
                f"The form is malformed: a part's Content-Disposition must not have {key!r} there."
            )
        # A browser sends a lone backslash as it is (WHATWG HTML, 4.10.22.8), so only real escapes are undone.
        parameters[key] = _ESCAPE.sub(r"\1", found[1:-1]) if found.startswith('"') else found
    name = parameters.get("name")
    if not name:
        raise InvalidRequestError("The form is malformed: a part has no name.")
    if any("\udc80" <= character <= "\udcff" for character in name):
        raise InvalidRequestError("The form is malformed: a part's name is not UTF-8.")
    return parameters


def _extended(value: str) -> str:
    """Decode `filename*` (RFC 8187), which RFC 7578 forbids and some clients send all the same."""
    match = _EXTENDED.fullmatch(value)
    if match is None:
        raise InvalidRequestError("The form is malformed: a filename* is neither UTF-8 nor ISO-8859-1.")
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError as exc:
        raise InvalidRequestError("The form is malformed: a filename* is not in the encoding that it names.") from exc
