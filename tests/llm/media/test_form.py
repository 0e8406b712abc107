"""Forms: what is read from them, and how they are spelled for an upstream."""

from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley_llm.errors import InvalidRequestError, RequestTooLargeError
from parley_llm.forms.form import Form, FormLimits, FormUpload, PartHead
from parley_llm.forms.multipart import read_form

from tests.fakes.openai_upstream import FormPart, Request
from tests.llm.media.forms import file_of, form_with, pieces_of, whole


def strictly(upload: FormUpload, body: bytes) -> list[FormPart]:
    """Parse a body as the scripted upstream does."""
    assert upload.length == len(body)
    return Request("POST", "/", {"content-type": upload.content_type}, body, 1).form


async def test_a_form_is_spelled_as_it_was_built() -> None:
    form = await form_with(150_000)
    upload = form.encode()
    model, file, language = strictly(upload, await whole(upload))
    assert (model.name, model.filename, model.data) == ("model", None, b"chat")
    assert (file.name, file.filename, file.content_type) == ("file", "speech.wav", "audio/wav")
    assert file.data == await file_of(form, "file")
    assert (language.name, language.data) == ("language", b"en")
    assert form.texts() == {"model": "chat", "language": "en"}
    assert await whole(upload) == await whole(upload), "it can be sent again"
    form.close()


async def test_the_standard_library_reads_it_too() -> None:
    form = Form()
    await form.add("prompt", "Ein Bär")
    form.begin(PartHead("image[]", 'a "b".png', "image/png", (("X-Note", "kept"),)))
    await form.write(bytes(range(256)).replace(b"\r", b"").replace(b"\n", b""))
    upload = form.encode()
    head = f"content-type: {upload.content_type}\r\n\r\n".encode()
    prompt, image = BytesParser(policy=HTTP).parsebytes(head + await whole(upload)).iter_parts()
    assert prompt.get_payload(decode=True) == "Ein Bär".encode()
    assert (image.get_filename(), image["x-note"]) == ('a "b".png', "kept")
    form.close()


async def test_changes_leave_everything_else_alone() -> None:
    form = Form()
    await form.add("model", "alias")
    form.begin(PartHead("file", "a.mp3"))
    await form.write(b"\x00\x01")
    for value in ("word", "segment"):
        await form.add("timestamp_granularities[]", value)
    await form.add("dropped", "x")
    await form.add("temperature", "0.50")
    upload = form.encode({"model": "real", "dropped": None, "absent": None, "response_format": "json"})
    parts = strictly(upload, await whole(upload))
    assert [(part.name, part.data) for part in parts] == [
        ("response_format", b"json"),
        ("model", b"real"),
        ("file", b"\x00\x01"),
        ("timestamp_granularities[]", b"word"),
        ("timestamp_granularities[]", b"segment"),
        ("temperature", b"0.50"),
    ]
    assert form.texts()["model"] == "alias", "the form itself stays as the caller sent it"
    again = form.encode({"model": "other"})
    assert again.content_type != upload.content_type, "each has a boundary of its own"
    form.close()


async def test_a_changed_field_stands_there_once() -> None:
    form = Form()
    for value in ("a", "b"):
        await form.add("tag", value)
    upload = form.encode({"tag": "c"})
    assert [part.data for part in strictly(upload, await whole(upload))] == [b"c"]
    form.close()


async def test_texts_that_stand_there_several_times_are_lists() -> None:
    form = Form()
    for name, value in (("a", "1"), ("a", "2"), ("b[]", "3"), ("c", "4")):
        await form.add(name, value)
    form.begin(PartHead("file", "f"))
    assert form.texts() == {"a": ["1", "2"], "b[]": ["3"], "c": "4"}
    assert [part.head.name for part in form.files("file", "files")] == ["file"]
    form.close()


async def test_an_empty_form_is_a_form() -> None:
    upload = Form().encode()
    body = await whole(upload)
    assert upload.length == len(body)
    form = await read_form(pieces_of(body), upload.content_type)
    assert form.parts == []


async def test_limits() -> None:
    form = Form(FormLimits(total=100, text=100, parts=3))
    form.begin(PartHead("file", "f"))
    with pytest.raises(RequestTooLargeError, match="longer than 100 bytes"):
        await form.write(b"x" * 101)
    with pytest.raises(RequestTooLargeError, match="text fields are longer than 100 bytes"):
        await form.add("text", "x" * 100)
    form = Form(FormLimits(parts=3))
    for name in "abc":
        await form.add(name, "")
    with pytest.raises(InvalidRequestError, match="more than 3 parts"):
        await form.add("d", "")


async def test_headers_count_as_text() -> None:
    form = Form(FormLimits(text=1000))
    with pytest.raises(RequestTooLargeError):
        form.begin(PartHead("file", "f" * 1000))


@pytest.mark.parametrize(
    "parts", [("a\r\nX: y", None, None), ("a", "b\nc", None), ("a", None, "t\x00"), ("a", "\x7f", None)]
)
def test_no_name_can_add_a_header(parts: tuple[str, str | None, str | None]) -> None:
    with pytest.raises(InvalidRequestError, match="control characters"):
        PartHead(*parts)


_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
_HEADERS = st.lists(st.tuples(_TOKEN.map("x-{}".format), _TEXT.map(str.strip)), max_size=3).map(tuple)
_HEADS = st.builds(
    PartHead,
    name=_TEXT.filter(bool),
    filename=st.none() | _TEXT,
    content_type=st.none() | st.just("audio/mpeg"),
    headers=_HEADERS,
)
# Pieces of boundaries are what a parser may stumble over.
_DATA = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"--parley-", b"\r\n--parley-", b"a", b"\x00"])
).map(b"".join) | st.binary(max_size=3000)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_HEADS, _DATA), max_size=6),
    st.lists(st.integers(1, 200), max_size=60),
)
async def test_what_is_spelled_is_read_again(parts: list[tuple[PartHead, bytes]], sizes: list[int]) -> None:
    limits = FormLimits()
    form = Form(limits)
    for head, data in parts:
        form.begin(head)
        await form.write(data)
    upload = form.encode()
    read = await read_form(pieces_of(await whole(upload), sizes), upload.content_type, limits)
    try:
        assert [part.head for part in read.parts] == [head for head, _ in parts]
        for part, (head, data) in zip(read.parts, parts, strict=True):
            if head.filename is None:
                assert part.value == data
            else:
                assert b"".join([piece async for piece in read.pieces_of(part)]) == data
    finally:
        form.close()
        read.close()
