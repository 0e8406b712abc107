"""Reading forms: what clients send, what is refused and why, how much is taken."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parley_llm.errors import InvalidRequestError, RequestTooLargeError
from parley_llm.forms.form import FormLimits, PartHead
from parley_llm.forms.multipart import read_form

from tests.llm.media.forms import CONTENT_TYPE, block, file_of, files_in, parse, pieces_of, until, whole

END = b"--XyZ--\r\n"


def field(name: str, value: str) -> bytes:
    return f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def part(disposition: str, *headers: str, data: bytes = b"data") -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"Content-Disposition: {disposition}", *headers))
    return b"--XyZ\r\n" + lines.encode() + b"\r\n" + data + b"\r\n"


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="file"; filename="a.mp3"', "a.mp3"),
        ("form-data; name=file; filename=a.mp3", "a.mp3"),
        ('Form-Data;name="file";filename="a;b.mp3";', "a;b.mp3"),
        ('form-data; filename="录音.m4a"; name="file"', "录音.m4a"),
        ('form-data; name="file"; filename="say \\"hi\\".mp3"', 'say "hi".mp3'),
        ('form-data; name="file"; filename="say %22hi%22.mp3"', "say %22hi%22.mp3"),
        ('form-data; name="file"; filename="C:\\dir\\a.mp3"', "C:\\dir\\a.mp3"),
        ('form-data; name="file"; filename="x"; filename*=UTF-8\'\'%e5%bd%95.mp3', "录.mp3"),
        ("form-data; name=\"file\"; filename*=utf-8'zh'%E5%BD%95.mp3", "录.mp3"),
        ("form-data; name=\"file\"; filename*=iso-8859-1''caf%e9.mp3", "café.mp3"),
        ('form-data; name="file"; filename=""', ""),
    ],
)
async def test_filenames(disposition: str, filename: str) -> None:
    form = await parse(part(disposition, "Content-Type: audio/mpeg") + END)
    assert form.parts[0].head == PartHead("file", filename, "audio/mpeg")
    upload = form.encode()
    again = await read_form(pieces_of(await whole(upload)), upload.content_type)
    assert again.parts[0].head == form.parts[0].head
    assert await file_of(again, "file") == b"data"


async def test_a_filename_that_is_not_utf8_leaves_as_it_came() -> None:
    raw = part('form-data; name="file"; filename="@"').replace(b"@", "录音".encode("gbk"))
    upload = (await parse(raw + END)).encode()
    assert 'filename="录音"'.encode("gbk") in await whole(upload)


async def test_further_headers_are_kept() -> None:
    body = part('form-data; name="file"; filename="a"', "X-Custom:  one ", "content-ID: <7>") + END
    form = await parse(body)
    assert form.parts[0].head.headers == (("X-Custom", "one"), ("content-ID", "<7>"))
    assert b"X-Custom: one\r\ncontent-ID: <7>\r\n" in await whole(form.encode())


async def test_however_the_bytes_are_cut_the_form_is_the_same() -> None:
    body = field("model", "chat") + part('form-data; name="file"; filename="a"', data=b"\r\n--XyQ\r\n--Xy") + END
    for size in range(1, len(body)):
        form = await parse(body, sizes=[size] * (len(body) // size))
        assert form.texts() == {"model": "chat"}
        assert await file_of(form, "file") == b"\r\n--XyQ\r\n--Xy"
        form.close()


async def test_what_follows_the_end_is_ignored() -> None:
    form = await parse(field("a", "1") + END + b"an epilogue")
    assert form.texts() == {"a": "1"}


async def test_a_field_with_a_media_type_is_text_all_the_same() -> None:
    form = await parse(part('form-data; name="options"', "Content-Type: application/json", data=b'{"a":1}') + END)
    assert form.texts() == {"options": '{"a":1}'}


@pytest.mark.parametrize(
    ("content_type", "wrong"),
    [
        ("", "must be multipart/form-data"),
        ("application/json", "must be multipart/form-data"),
        ("multipart/mixed; boundary=XyZ", "must be multipart/form-data"),
        ("multipart/form-data", "must name a boundary"),
        ("multipart/form-data; boundary=", "must name a boundary"),
        ("multipart/form-data; boundary=" + "x" * 71, "must name a boundary"),
    ],
)
async def test_content_types_that_can_not_be_read(content_type: str, wrong: str) -> None:
    with pytest.raises(InvalidRequestError, match=wrong):
        await read_form(pieces_of(field("a", "1") + END), content_type)


@pytest.mark.parametrize("content_type", [CONTENT_TYPE, 'Multipart/Form-Data; charset=utf-8; boundary="XyZ"'])
async def test_content_types_that_can_be_read(content_type: str) -> None:
    assert (await read_form(pieces_of(field("a", "1") + END), content_type)).texts() == {"a": "1"}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"", "ends before its closing boundary"),
        (field("a", "1"), "ends before its closing boundary"),
        (b'--XyZ\r\nContent-Disposition: form-data; name="a"\r\n\r\nval', "ends before its closing boundary"),
        (b'{"model": "chat"}', "malformed: Expected boundary"),
        (b"--Other\r\n\r\n", "malformed: Expected boundary"),
        (b"--XyZ\r\nno colon\r\n\r\n" + END, "malformed: Found invalid character"),
        (b"--XyZ\r\n\r\ndata\r\n" + END, "no Content-Disposition"),
        (b"--XyZ\r\nContent-Type: text/plain\r\n\r\ndata\r\n" + END, "no Content-Disposition"),
        (part('attachment; name="a"') + END, "no Content-Disposition"),
        (part("form-data") + END, "has no name"),
        (part('form-data; name=""') + END, "has no name"),
        (part('form-data; filename="a"') + END, "has no name"),
        (part('form-data; name="a"; name="model"') + END, "must not have 'name' there"),
        (part("form-data; name=\"a\"; name*=utf-8''model") + END, "must not have 'name\\*' there"),
        (part('form-data; name="a') + END, "can't be read"),
        (part('form-data; name="a" filename="b"') + END, "can't be read"),
        (part('form-data; name="a"', 'content-disposition: form-data; name="b"') + END, "two content-disposition"),
        (part("form-data; name=\"a\"; filename*=utf-7''x") + END, "neither UTF-8 nor"),
        (part("form-data; name=\"a\"; filename*=utf-8''%ff") + END, "not in the encoding"),
        (part("form-data; name=\"a\"; filename*=utf-8''a%0D%0Ab") + END, "control characters"),
        (part('form-data; name="a"', "X-A: b\nContent-Disposition: form-data") + END, "control characters"),
        (part('form-data; name="@"').replace(b"@", b"\xff") + END, "name is not UTF-8"),
        (part('form-data; name="a"', *["X-H: 1"] * 17) + END, "malformed: .*header"),
        (part('form-data; name="a"', "X-H: " + "1" * 9000) + END, "malformed: .*header"),
    ],
)
async def test_what_is_malformed_is_named(body: bytes, wrong: str) -> None:
    with pytest.raises(InvalidRequestError, match=wrong):
        await parse(body)
    with pytest.raises(InvalidRequestError, match=wrong):
        await parse(body, sizes=[1] * len(body))


async def test_a_field_that_is_not_utf8_is_named() -> None:
    form = await parse(part('form-data; name="prompt"', data=b"\xff\xfe") + END)
    with pytest.raises(InvalidRequestError, match="'prompt' is not UTF-8"):
        form.texts()


async def test_limits(tmp_path: Path) -> None:
    limits = FormLimits(total=2000, text=600, parts=5, directory=tmp_path)
    with pytest.raises(RequestTooLargeError, match="longer than 2000 bytes"):
        await parse(part('form-data; name="file"; filename="a"', data=b"x" * 2000) + END, limits)
    with pytest.raises(RequestTooLargeError, match="text fields are longer than 600 bytes"):
        await parse(field("a", "x" * 600) + END, limits)
    with pytest.raises(InvalidRequestError, match="more than 5 parts"):
        await parse(field("a", "") * 6 + END, limits)


async def test_an_endless_body_is_refused_at_the_limit() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            taken += 65536
            yield b"x" * 65536

    with pytest.raises(RequestTooLargeError):
        await read_form(endless(), CONTENT_TYPE, FormLimits(total=3_000_000))
    assert taken < 3_200_000


async def test_a_large_form_needs_little_memory(tmp_path: Path) -> None:
    size = 30 * 1024 * 1024

    async def body() -> AsyncIterator[bytes]:
        yield field("model", "chat") + b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for number in range(size // 65536):
            yield block(number, 65536)
        yield b"\r\n" + END

    tracemalloc.start()
    try:
        form = await read_form(body(), CONTENT_TYPE, FormLimits(directory=tmp_path))
        length, number, rest = 0, 0, b""
        async for piece in form.pieces_of(form.files("file")[0]):
            length += len(piece)
            rest += piece
            while len(rest) >= 65536:
                assert rest[:65536] == block(number, 65536)
                number, rest = number + 1, rest[65536:]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length == size
    assert peak < 4 * 1024 * 1024
    assert list(tmp_path.iterdir()) == []
    form.close()


async def test_a_caller_that_leaves_midway_leaves_no_file(tmp_path: Path) -> None:
    written = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(60):
            yield b"x" * 65536
        written.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(read_form(body(), CONTENT_TYPE, FormLimits(directory=tmp_path)))
    await written.wait()
    assert files_in(tmp_path) == 1
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: not files_in(tmp_path))
    assert list(tmp_path.iterdir()) == []
