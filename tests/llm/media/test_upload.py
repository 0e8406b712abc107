"""Uploads on their way to an upstream: slow, early and leaving peers, retries, memory, sockets."""

import asyncio
import hashlib
import math
import ssl
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from parley_llm.errors import InternalError
from parley_llm.forms.form import Form, FormLimits
from parley_llm.upstream.body import Upload
from parley_llm.upstream.connection import Connection, ConnectionLostError, UploadStalledError
from parley_llm.upstream.pool import Address, Pool
from parley_llm.upstream.transport import HTTPTransport, Incoming, Outgoing, after

from tests.fakes.openai_upstream import Early, OpenAIUpstream, Peer, cut, plain, raw, status
from tests.llm.media.forms import files_in, form_with, until, whole

SIZE = 30 * 1024 * 1024
LIMITS = FormLimits()
OK = plain(200, b'{"text":"Hello."}')
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}"


@pytest_asyncio.fixture(loop_scope="session")
async def transport(upstream: OpenAIUpstream) -> AsyncIterator[HTTPTransport]:
    transport = HTTPTransport(Pool(Address("127.0.0.1", upstream.port), 4))
    yield transport
    transport.close()


async def send(
    transport: HTTPTransport,
    body: bytes | Upload,
    *,
    idle_s: float = 20,
    answer_s: float = math.inf,
    total_s: float = 20,
) -> Incoming:
    headers = b"host: x\r\n" + (b"" if isinstance(body, bytes) else f"content-type: {body.content_type}\r\n".encode())
    outgoing = Outgoing("POST", "/v1/audio/transcriptions", headers, body, idle_s=idle_s, answer_s=answer_s)
    return await transport.send(outgoing, after(5), after(total_s))


async def finish(response: Incoming) -> bytes:
    data = await response.read(after(5), 1000, 5)
    response.close()
    return data


async def test_a_form_arrives_whole(transport: HTTPTransport, upstream: OpenAIUpstream, tmp_path: Path) -> None:
    upstream.replies = [OK]
    form = await form_with(3_000_000, FormLimits(directory=tmp_path))
    upload = form.encode({"model": "whisper-1"})
    assert await finish(await send(transport, upload)) == b'{"text":"Hello."}'
    request = upstream.requests[0]
    assert int(request.headers["content-length"]) == upload.length == len(request.body)
    assert [part.name for part in request.form] == ["model", "file", "language"]
    assert request.form[0].data == b"whisper-1"
    assert request.form[1].data == b"".join([piece async for piece in form.pieces_of(form.files("file")[0])])
    await finish(await send(transport, b"{}"))
    await finish(await send(transport, form.encode()))
    assert upstream.connections == 1, "the connection is used again, before and after an upload"
    form.close()


async def test_a_retry_sends_the_same_bytes(transport: HTTPTransport, upstream: OpenAIUpstream) -> None:
    upstream.replies = [status(503), cut(), OK]
    form = await form_with(2_000_000)
    upload = form.encode()
    response = await send(transport, upload)
    assert response.status == 503
    await finish(response)
    # On a connection that was used before, a loss may mean that it had ended just then: that is tried again at once.
    assert await finish(await send(transport, upload)) == b'{"text":"Hello."}'
    first, second, third = upstream.requests
    assert first.body == second.body == third.body
    form.close()


async def test_a_loss_on_a_new_connection_is_reported(transport: HTTPTransport, upstream: OpenAIUpstream) -> None:
    upstream.replies = [cut()]
    form = await form_with(2_000_000)
    with pytest.raises(ConnectionLostError):
        await send(transport, form.encode())
    assert len(upstream.requests) == 1
    form.close()


async def test_a_large_upload_needs_little_memory_however_slow_the_upstream(
    transport: HTTPTransport, upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    digest, received = hashlib.sha256(), 0

    async def slowly(peer: Peer) -> None:
        nonlocal received
        await asyncio.sleep(0.2)
        while received < int(peer.request.headers["content-length"]):
            data = await peer.reader.read(256 * 1024)
            digest.update(data)
            received += len(data)
            if received < 2_000_000:
                await asyncio.sleep(0.02)
        await OK(peer)

    upstream.replies = [Early(slowly)]
    form = await form_with(SIZE, FormLimits(directory=tmp_path))
    upload = form.encode()
    expected = hashlib.sha256()
    async for piece in upload.pieces():
        expected.update(piece)
    tracemalloc.start()
    try:
        await finish(await send(transport, upload))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (received, digest.digest()) == (upload.length, expected.digest())
    assert peak < 2 * 1024 * 1024, "upstream and service together; the body is 30 MiB"
    form.close()


class Watched:
    """An upload that notes, after each piece, how much of it the service still holds for the socket."""

    def __init__(self, inner: Upload, pool: Pool) -> None:
        self.length, self.content_type = inner.length, inner.content_type
        self.buffered: list[int] = []
        self.connections: list[Connection] = []
        self._inner = inner
        self._open = pool.open
        pool.open = self._watched_open  # type: ignore[method-assign]

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the inner one's pieces."""
        async for piece in self._inner.pieces():
            yield piece
            for connection in self.connections:
                assert connection._transport is not None
                self.buffered.append(connection._transport.get_write_buffer_size())

    async def _watched_open(self, by: float) -> Connection:
        self.connections.append(await self._open(by))
        return self.connections[-1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_no_more_is_read_than_a_stalled_upstream_takes(
    tls: bool, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    """What the kernel holds apart, the service buffers at most 256 KiB of an upload."""
    gate = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await gate.wait()

    context, ca_file = certificate
    trusting = ssl.create_default_context(cafile=ca_file) if tls else None
    async with OpenAIUpstream(Early(wait), tls=context if tls else None) as upstream:
        pool = Pool(Address("127.0.0.1", upstream.port, trusting), 4)
        form = await form_with(SIZE)
        watched = Watched(form.encode(), pool)
        with pytest.raises(UploadStalledError, match="took nothing of the upload"):
            await send(HTTPTransport(pool), watched, idle_s=0.3)
        gate.set()
        assert 0 < max(watched.buffered) <= 256 * 1024
        assert watched.connections[0].closed
        form.close()


async def test_an_upload_over_tls(certificate: tuple[ssl.SSLContext, Path]) -> None:
    context, ca_file = certificate
    async with OpenAIUpstream(OK, tls=context) as upstream:
        address = Address("127.0.0.1", upstream.port, ssl.create_default_context(cafile=ca_file))
        transport = HTTPTransport(Pool(address, 4))
        form = await form_with(3_000_000)
        upload = form.encode()
        await finish(await send(transport, upload))
        assert upstream.requests[0].body == await whole(upload)
        transport.close()
        form.close()


async def test_a_slow_upstream_that_takes_bytes_is_not_stalled(
    transport: HTTPTransport, upstream: OpenAIUpstream
) -> None:
    async def slowly(peer: Peer) -> None:
        left = int(peer.request.headers["content-length"])
        while left:
            left -= len(await peer.reader.read(1024 * 1024))
            await asyncio.sleep(0.005)
        await OK(peer)

    upstream.replies = [Early(slowly)]
    form = await form_with(SIZE)
    assert await finish(await send(transport, form.encode(), idle_s=2)) == b'{"text":"Hello."}'
    form.close()


async def test_the_deadline_ends_a_stalled_upload(transport: HTTPTransport, upstream: OpenAIUpstream) -> None:
    gate = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await gate.wait()

    upstream.replies = [Early(wait)]
    form = await form_with(SIZE)
    with pytest.raises(TimeoutError) as caught:
        await send(transport, form.encode(), total_s=0.3)
    gate.set()
    assert not isinstance(caught.value, UploadStalledError)
    form.close()


async def test_silence_is_counted_from_the_end_of_the_upload(
    transport: HTTPTransport, upstream: OpenAIUpstream
) -> None:
    gate = asyncio.Event()

    async def read_slowly_then_wait(peer: Peer) -> None:
        await asyncio.sleep(0.4)
        left = int(peer.request.headers["content-length"])
        while left:
            left -= len(await peer.reader.read(1024 * 1024))
        await gate.wait()

    upstream.replies = [Early(read_slowly_then_wait)]
    form = await form_with(SIZE)
    started = after(0)
    with pytest.raises(TimeoutError):
        await send(transport, form.encode(), answer_s=0.3)
    assert after(0) - started >= 0.7
    gate.set()
    form.close()


@pytest.mark.parametrize("after_bytes", [0, 1_000_000])
@pytest.mark.parametrize("closes", [True, False], ids=["closes", "waits"])
async def test_an_early_refusal_is_heard_at_once(
    after_bytes: int, closes: bool, transport: HTTPTransport, upstream: OpenAIUpstream
) -> None:
    gate = asyncio.Event()

    async def refuse(peer: Peer) -> None:
        if after_bytes:
            await peer.reader.readexactly(after_bytes)
        await peer.send(REFUSAL)
        if not closes:
            await gate.wait()

    upstream.replies = [Early(refuse)]
    form = await form_with(SIZE)
    response = await asyncio.wait_for(send(transport, form.encode()), 5)
    assert response.status == 413
    assert await finish(response) == b"{}"
    gate.set()
    upstream.replies = [OK]
    await finish(await send(transport, b"{}"))
    assert upstream.connections == 2, "what was not sent of the form would be read as the next request"
    form.close()


async def test_an_early_refusal_followed_by_a_reset_is_heard(upstream: OpenAIUpstream) -> None:
    """A server that refuses and closes with our bytes unread resets the connection: the refusal must come first."""
    upstream.replies = [Early(raw(REFUSAL))]
    form = await form_with(4_000_000)
    heard = 0
    for _ in range(50):
        transport = HTTPTransport(Pool(Address("127.0.0.1", upstream.port), 1))
        response = await send(transport, form.encode())
        heard += response.status == 413
        response.close()
    assert heard == 50
    form.close()


async def test_an_early_good_answer_does_not_end_the_upload(transport: HTTPTransport, upstream: OpenAIUpstream) -> None:
    received = 0

    async def answer_while_reading(peer: Peer) -> None:
        nonlocal received
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHe")
        while received < int(peer.request.headers["content-length"]):
            received += len(await peer.reader.read(1024 * 1024))
        await peer.send(b"llo")

    upstream.replies = [Early(answer_while_reading)]
    form = await form_with(SIZE)
    upload = form.encode()
    assert await finish(await send(transport, upload)) == b"Hello"
    assert received == upload.length
    form.close()


async def test_a_caller_that_leaves_mid_upload_leaves_no_file_and_no_socket(
    transport: HTTPTransport, upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    gone, taking = asyncio.Event(), asyncio.Event()

    async def take_a_little(peer: Peer) -> None:
        await peer.reader.readexactly(1_000_000)
        taking.set()
        try:
            while await peer.reader.read(65536):
                await asyncio.sleep(0.005)
        except ConnectionError:
            pass
        gone.set()

    async def serve() -> None:
        form = await form_with(SIZE, FormLimits(directory=tmp_path))
        try:
            await send(transport, form.encode())
        finally:
            form.close()

    upstream.replies = [Early(take_a_little)]
    call = asyncio.create_task(serve())
    await taking.wait()
    assert files_in(tmp_path) == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert transport._pool._active == 0
    await asyncio.wait_for(gone.wait(), 5)
    await until(lambda: not files_in(tmp_path))
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_fails_is_not_taken_for_the_upstream(
    transport: HTTPTransport, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [OK]
    form = await form_with(3_000_000)

    def failing_read(at: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    form._spool._file.read = failing_read  # type: ignore[method-assign]
    with pytest.raises(InternalError):
        await send(transport, form.encode())
    assert transport._pool._active == 0
    form.close()


async def test_an_empty_form_is_sent(transport: HTTPTransport, upstream: OpenAIUpstream) -> None:
    upstream.replies = [OK]
    upload = Form().encode()
    await finish(await send(transport, upload))
    assert upstream.requests[0].body == await whole(upload)
