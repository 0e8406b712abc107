"""Makes and reads forms for the tests of this folder."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from parley_llm.forms.form import Form, FormLimits, FormUpload
from parley_llm.forms.form import PartHead as Head
from parley_llm.forms.multipart import read_form

CONTENT_TYPE = "multipart/form-data; boundary=XyZ"


async def pieces_of(data: bytes, sizes: Iterable[int] = ()) -> AsyncIterator[bytes]:
    """Give bytes in pieces of these sizes, then the rest."""
    for size in sizes:
        if not data:
            return
        yield data[:size]
        data = data[size:]
    if data:
        yield data


async def parse(body: bytes, limits: FormLimits | None = None, sizes: Iterable[int] = ()) -> Form:
    """Read a body with the boundary `XyZ`."""
    return await read_form(pieces_of(body, sizes), CONTENT_TYPE, limits)


async def whole(upload: FormUpload) -> bytes:
    """Return an upload's body."""
    return b"".join([piece async for piece in upload.pieces()])


async def file_of(form: Form, name: str) -> bytes:
    """Return the bytes of the form's only file of that name."""
    (part,) = form.files(name)
    return b"".join([piece async for piece in form.pieces_of(part)])


async def form_with(size: int, limits: FormLimits | None = None) -> Form:
    """Return a form with two fields around a file of so many bytes, none of which repeat soon."""
    form = Form(limits)
    await form.add("model", "chat")
    form.begin(Head("file", "speech.wav", "audio/wav"))
    for start in range(0, size, 60_000):
        await form.write(block(start // 60_000, min(60_000, size - start)))
    await form.add("language", "en")
    return form


def block(number: int, size: int) -> bytes:
    """Return bytes that tell one block of a file from another."""
    return (b"%012d" % number * (size // 12 + 1))[:size]


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def files_in(directory: Path) -> int:
    """Return how many files of a directory this process has open, those without a name included."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(descriptor).startswith(str(directory))  # noqa: PTH115 - the file may have no path
        except OSError:
            continue  # The descriptor of the listing itself is gone by now.
    return found
