"""Uploads through the HTTP front: what is spooled, refused, stalled, and what is left when a caller goes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fakes.openai_upstream import Early, OpenAIUpstream, Peer, raw
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.media.calls import SOUND, TEXT, error_of, transcribe, transcript
from tests.llm.media.forms import files_in, until

LARGE = SOUND * 600  # About 6 MB.
HEAD = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: multipart/form-data; boundary=XyZ\r\ncontent-length: %d\r\n%b\r\n"
)
FIELDS = (
    b'--XyZ\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
)
END = b"\r\n--XyZ--\r\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the service keeps uploads."""
    return tmp_path


@pytest_asyncio.fixture(loop_scope="session")
async def limited(upstream: OpenAIUpstream, directory: Path) -> AsyncIterator[Running]:
    """A service that takes uploads of 8 MB."""
    settings = {
        **settings_for(upstream, timeouts={"connect": "2s", "first_token": "5s", "idle": "0.5s", "total": "10s"}),
        "max_upload": 8_000_000,
        "upload_dir": str(directory),
    }
    async with run_service(settings) as service:
        yield service


async def connect(service: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", service.service.http_port)


async def test_a_large_file_waits_on_disk_and_leaves_nothing(
    limited: Running, upstream: OpenAIUpstream, directory: Path
) -> None:
    seen: list[int] = []

    async def look(peer: Peer) -> None:
        seen.append(files_in(directory))
        await transcript()(peer)

    upstream.replies = [look]
    assert (await transcribe(limited, LARGE)).json() == {"text": TEXT}
    (file,) = (part for part in upstream.requests[0].form if part.filename)
    assert file.data == LARGE
    assert seen == [1]
    assert (files_in(directory), list(directory.iterdir())) == (0, [])


async def test_an_upload_beyond_the_limit_is_refused(
    limited: Running, upstream: OpenAIUpstream, directory: Path
) -> None:
    answer = await transcribe(limited, LARGE * 2)
    assert error_of(answer) == (413, "REQUEST_TOO_LARGE")
    assert "8000000 bytes" in answer.json()["error"]["message"]
    assert (files_in(directory), upstream.requests) == (0, [])


async def test_a_malformed_form_is_named(limited: Running) -> None:
    answer = await limited.http.post(
        "/v1/audio/transcriptions",
        content=FIELDS + b"x" * 1000,
        headers={"content-type": "multipart/form-data; boundary=XyZ"},
    )
    assert error_of(answer) == (400, "INVALID_REQUEST")
    assert "ends before its closing boundary" in answer.json()["error"]["message"]


async def test_a_caller_is_told_to_continue(limited: Running, upstream: OpenAIUpstream) -> None:
    """curl waits a second for this before it sends more than a kilobyte."""
    upstream.replies = [transcript()]
    reader, writer = await connect(limited)
    body = FIELDS + SOUND + END
    writer.write(HEAD % (len(body), b"expect: 100-continue\r\n"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_caller_without_a_key_sends_nothing(upstream: OpenAIUpstream) -> None:
    settings = {**settings_for(upstream), "callers": [{"name": "app", "keys": ["caller-key-123456"]}]}
    async with run_service(settings) as service:
        reader, writer = await connect(service)
        writer.write(HEAD % (50_000_000, b"expect: 100-continue\r\n"))
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401")
        writer.close()


async def test_chunked_requests_are_taken(limited: Running, upstream: OpenAIUpstream) -> None:
    """Java's and Node's clients send a form so when they don't know its length."""

    async def body() -> AsyncIterator[bytes]:
        yield FIELDS
        for start in range(0, len(LARGE), 100_000):
            yield LARGE[start : start + 100_000]
        yield END

    upstream.replies = [transcript()]
    answer = await limited.http.post(
        "/v1/audio/transcriptions",
        content=body(),
        headers={"content-type": "multipart/form-data; boundary=XyZ"},
    )
    assert answer.status_code == 200
    assert upstream.requests[0].form[1].data == LARGE
    assert "transfer-encoding" not in upstream.requests[0].headers


async def test_a_caller_that_leaves_while_sending_leaves_nothing(
    limited: Running, upstream: OpenAIUpstream, directory: Path
) -> None:
    _, writer = await connect(limited)
    writer.write(HEAD % (7_000_000, b"") + FIELDS + LARGE[:5_000_000])
    await until(lambda: files_in(directory))
    writer.transport.abort()
    await until(lambda: not files_in(directory))
    assert not upstream.requests


async def test_a_caller_that_leaves_while_it_is_passed_on_leaves_nothing(
    limited: Running, upstream: OpenAIUpstream, directory: Path
) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slowly(peer: Peer) -> None:
        try:
            while await peer.reader.read(10_000):
                begun.set()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        gone.set()

    upstream.replies = [Early(slowly)]
    _, writer = await connect(limited)
    body = FIELDS + LARGE + END
    writer.write(HEAD % (len(body), b"") + body)
    await asyncio.wait_for(begun.wait(), 5)
    assert files_in(directory) == 1
    writer.transport.abort()
    await asyncio.wait_for(gone.wait(), 5)
    await until(lambda: not files_in(directory))
    labels = {"caller": "anonymous", "operation": "transcription", "model": "chat", "outcome": "cancelled"}
    await until(lambda: limited.metric("parley_llm_requests_total", **labels) == 1)


async def test_an_upstream_that_takes_nothing_is_given_up(limited: Running, upstream: OpenAIUpstream) -> None:
    gate = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await gate.wait()

    upstream.replies = [Early(wait)]
    answer = await transcribe(limited, SOUND * 780)
    gate.set()
    assert error_of(answer) == (504, "UPSTREAM_TIMEOUT")
    assert "took nothing of the upload for 0.5 s" in answer.json()["error"]["message"]
    assert answer.headers["x-parley-attempts"] == "1", "one that stayed silent isn't tried twice"


async def test_the_callers_deadline_ends_an_upload(limited: Running, upstream: OpenAIUpstream) -> None:
    gate = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await gate.wait()

    upstream.replies = [Early(wait)]
    answer = await transcribe(limited, SOUND * 780, {"x-parley-timeout-ms": "200"})
    gate.set()
    assert error_of(answer) == (504, "DEADLINE_EXCEEDED")


async def test_an_early_refusal_of_the_upstream_reaches_the_caller(limited: Running, upstream: OpenAIUpstream) -> None:
    told = json.dumps({"error": {"message": "Maximum content size limit exceeded", "code": "too_big"}}).encode()
    head = b"HTTP/1.1 413 Content Too Large\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    upstream.replies = [Early(raw(head % len(told) + told))]
    answer = await transcribe(limited, LARGE)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_big"
    upstream.replies = [transcript()]
    assert (await transcribe(limited)).status_code == 200


async def test_many_uploads_at_once(limited: Running, upstream: OpenAIUpstream, directory: Path) -> None:
    upstream.replies = [transcript()]
    answers = await asyncio.gather(*(transcribe(limited, bytes([number]) * 2_000_000) for number in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    sent = {part.data for request in upstream.requests for part in request.form if part.filename}
    assert sent == {bytes([number]) * 2_000_000 for number in range(10)}
    assert files_in(directory) == 0
