"""What Java's HttpClient sends, byte for byte, so that it is tested on machines without a JDK too.

Captured from OpenJDK 17.0.15 with default settings. Where there is a JDK, a test compares this with what it sends.
"""

import asyncio
import re
from pathlib import Path

import pytest

from tests.fakes.openai_upstream import OpenAIUpstream
from tests.llm.clients.conftest import KEY, Door
from tests.llm.clients.java import java_command, needs_jdk
from tests.llm.clients.programs import run_checks

PROGRAM = Path(__file__).with_name("HttpClientChecks.java")
BODY = b'{"model":"chat","messages":[{"role":"user","content":"greet"}]}'
COMMON = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Host": "127.0.0.1:8081",
    "HTTP2-Settings": "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
    "Upgrade": "h2c",
    "User-Agent": "Java-http-client/17.0.15",
    "authorization": f"Bearer {KEY}",
}
JSON = {"content-type": "application/json"}


def head(first: str, headers: dict[str, str]) -> bytes:
    """Spell a head as the client does: its own headers sorted by name, before the caller's."""
    every = sorted({**COMMON, **headers}.items(), key=lambda header: (header[0][0].islower(), header[0].lower()))
    lines = [f"{name}: {value}" for name, value in every]
    return "\r\n".join([first, *lines, "", ""]).encode()


POST = "POST /llm/v1/chat/completions HTTP/1.1"
FIXED = head(POST, {**JSON, "Content-Length": str(len(BODY))})
CHUNKED = head(POST, {**JSON, "Transfer-encoding": "chunked"})
EXPECTING = head(POST, {**JSON, "Content-Length": str(len(BODY)), "Expect": "100-Continue"})
GET = head("GET /llm/v1/models HTTP/1.1", {"Content-Length": "0"})
CHUNK, LAST_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Read an answer of known length; return its first line and its body."""
    answer = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    length = re.search(r"content-length: (\d+)", answer)
    return answer.split("\r\n")[0], await reader.readexactly(int(length[1])) if length else b""


@pytest.mark.parametrize(
    "writes",
    [[FIXED, BODY], [CHUNKED + CHUNK + LAST_CHUNK], [CHUNKED + CHUNK, LAST_CHUNK], [CHUNKED, CHUNK, LAST_CHUNK], [GET]],
    ids=["fixed", "from_publisher", "input_stream", "slow_input_stream", "without_body"],
)
async def test_an_offer_of_http2_is_answered_as_http1(writes: list[bytes], door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.http_port)
    for _ in range(2):  # The connection stays in use, and a client may offer again.
        for data in writes:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)  # So that the writes arrive as separate pieces.
        first, body = await read_answer(reader)
        assert first == "HTTP/1.1 200 OK"
        assert b'"chat' in body
    writer.close()


async def test_a_body_that_waits_for_100_is_called_for(door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.http_port)
    writer.write(EXPECTING)
    assert await read_answer(reader) == ("HTTP/1.1 100 Continue", b"")
    writer.write(BODY)
    first, body = await read_answer(reader)
    assert first == "HTTP/1.1 200 OK"
    assert b'"chat' in body
    writer.close()


@needs_jdk
async def test_the_client_still_sends_this() -> None:
    heads: set[bytes] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.readuntil(b"\r\n\r\n")
        heads.add(got)
        await reader.readuntil(BODY)
        if b"chunked" in got:
            await reader.readuntil(LAST_CHUNK)
        writer.write(b"HTTP/1.1 500 Enough\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        door = Door(f"http://127.0.0.1:{port}/llm/v1", "", OpenAIUpstream())
        await run_checks(door, *java_command(PROGRAM, "fixed", "chunked", "input_stream"), cwd=PROGRAM.parent)
    known = [(rb"127\.0\.0\.1:\d+", b"127.0.0.1:8081"), (rb"Java-http-client/\S+", b"Java-http-client/17.0.15")]
    for pattern, captured in known:
        heads = {re.sub(pattern, captured, one) for one in heads}
    assert heads == {FIXED, CHUNKED}
