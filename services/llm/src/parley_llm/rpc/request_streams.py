"""Reads a gRPC request stream that carries parameters and files: the parameters first, then the files in pieces."""

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from parley.llm.v1 import media_pb2

from parley_llm.errors import InvalidRequestError
from parley_llm.forms.form import Form, PartHead

Params = TypeVar("Params")
Params_co = TypeVar("Params_co", covariant=True)


class Piece(Protocol[Params_co]):
    """A message of such a stream."""

    @property
    def params(self) -> Params_co:
        """The parameters."""

    @property
    def chunk(self) -> media_pb2.FileChunk:
        """A piece of a file."""

    def WhichOneof(self, oneof_group: Any, /) -> Any:  # noqa: N802
        """Tell which of the two it is."""


async def read_params(pieces: AsyncIterator[Piece[Params]]) -> Params:
    """Return what the first message says. Raises InvalidRequestError."""
    async for piece in pieces:
        if piece.WhichOneof("request") != "params":
            break
        return piece.params
    raise InvalidRequestError("The first message of the stream must hold params.")


async def read_files(pieces: AsyncIterator[Piece[Any]], form: Form, field: str) -> None:
    """Add the files of the stream's further messages to a form, in `field` unless they name another one.

    Raises InvalidRequestError, RequestTooLargeError.
    """
    begun = False
    async for piece in pieces:
        if piece.WhichOneof("request") != "chunk":
            raise InvalidRequestError("Messages after the first one must hold a chunk of a file.")
        chunk = piece.chunk
        if chunk.filename or not begun:
            begun = True
            form.begin(PartHead(chunk.field or field, chunk.filename or "file", chunk.content_type or None))
        if chunk.data:
            await form.write(chunk.data)
    if not begun:
        raise InvalidRequestError(f"A file is required: send its pieces after the parameters (field {field!r}).")
