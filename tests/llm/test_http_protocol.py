"""HTTP as bytes: offers to switch protocols are declined without losing the request, at any chunk border."""

import asyncio
import json
from typing import Any

import pytest

from tests.fakes.openai_upstream import DONE, FINISH, ROLE, OpenAIUpstream, completion, delta, stall, stream
from tests.llm.conftest import Running

BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "héllo"}]}).encode()
OFFER = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQB\r\n"
)
FIXED = OFFER + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = OFFER + b"Transfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    BODY[:5],
    len(BODY) - 5,
    BODY[5:],
)
PLAIN = FIXED.replace(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", b"")


async def send(service: Running, *pieces: bytes) -> list[tuple[int, bytes]]:
    """Send bytes and return the answers (status, body) until the server has none left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answers = []
    while True:
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 0.5)).decode().lower()
        except (TimeoutError, asyncio.IncompleteReadError):
            break
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answers.append((int(head.split()[1]), await reader.readexactly(length)))
    writer.close()
    return answers


@pytest.mark.parametrize("request_bytes", [FIXED, CHUNKED], ids=["fixed", "chunked"])
@pytest.mark.parametrize("size", [10_000, 40, 1], ids=["whole", "pieces", "bytes"])
async def test_an_h2c_offer_keeps_its_body(
    request_bytes: bytes, size: int, service: Running, upstream: OpenAIUpstream
) -> None:
    pieces = [request_bytes[at : at + size] for at in range(0, len(request_bytes), size)]
    answers = await send(service, *pieces)
    assert [code for code, _ in answers] == [200]
    assert b"Hello!" in answers[0][1]
    assert upstream.requests[0].json["messages"][0]["content"] == "héllo"


async def test_requests_behind_an_offer_are_served_too(service: Running, upstream: OpenAIUpstream) -> None:
    answers = await send(service, FIXED + CHUNKED + PLAIN)
    assert [code for code, _ in answers] == [200, 200, 200]


async def test_an_offer_without_body_is_served(service: Running) -> None:
    get = OFFER.replace(b"POST /v1/chat/completions", b"GET /v1/models") + b"\r\n"
    assert [code for code, _ in await send(service, get)] == [200]


@pytest.mark.parametrize(
    "nonsense", [b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x00\x01\r\n\r\n"]
)
async def test_what_is_not_a_request_is_refused(nonsense: bytes, service: Running) -> None:
    assert [code for code, _ in await send(service, nonsense)] == [400]


async def test_paths_methods_and_bodies_have_openai_style_errors(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [completion()]
    http = service.http
    cases = [
        (await http.get("/nowhere"), 404, "UNKNOWN_URL"),
        (await http.get("/v1/chat/completions"), 405, "METHOD_NOT_ALLOWED"),
        (await post(service, b"{"), 400, "INVALID_REQUEST"),
        (await post(service, b"[]"), 400, "INVALID_REQUEST"),
        (await post(service, b'{"model":"chat"}'), 400, "INVALID_REQUEST"),
        (await post(service, b'{"model":"chat","messages":[]}'), 400, "INVALID_REQUEST"),
        (await post(service, b'{"model":7,"messages":[{}]}'), 400, "INVALID_REQUEST"),
        (await post(service, b'{"stream":"yes","messages":[{}]}'), 400, "INVALID_REQUEST"),
        (await post(service, b'{"stream":true,"stream_options":7,"messages":[{}]}'), 400, "INVALID_REQUEST"),
        (await post(service, b'{"a":' + b"[" * 100_000), 400, "INVALID_REQUEST"),
        (await post(service, b'{"model":"nope","messages":[{}]}'), 404, "MODEL_NOT_FOUND"),
        (
            await post(service, b'{"messages":[{"role":"user"}]}', {"x-parley-timeout-ms": "soon"}),
            400,
            "INVALID_REQUEST",
        ),
        (
            await post(service, b'{"messages":[{"role":"user"}]}', {"x-parley-max-attempts": "0"}),
            400,
            "INVALID_REQUEST",
        ),
        (await post(service, b'{"messages":[{}]}', {"x-parley-upstream": "other"}), 403, "PERMISSION_DENIED"),
    ]
    for response, code, reason in cases:
        assert (response.status_code, response.json()["error"]["reason"]) == (code, reason), response.text
        assert response.headers["x-parley-attempts"] == "0"
        assert response.headers["x-request-id"]
        assert set(response.json()["error"]) >= {"message", "type", "param", "code"}
    assert not upstream.requests


async def post(service: Running, body: bytes, headers: dict[str, str] | None = None):  # type: ignore[no-untyped-def]
    all_headers = {"content-type": "application/json", **(headers or {})}
    return await service.http.post("/v1/chat/completions", content=body, headers=all_headers)


async def test_a_body_beyond_the_limit_is_refused(service: Running) -> None:
    response = await post(service, b" " * (33 * 1024 * 1024))
    assert response.status_code == 413
    assert response.json()["error"]["reason"] == "REQUEST_TOO_LARGE"


async def test_the_callers_request_id_is_kept_when_harmless(service: Running) -> None:
    body = b'{"messages":[{"role":"user","content":"x"}]}'
    assert (await post(service, body, {"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert (await post(service, body, {"x-request-id": 'a b"c'})).headers["x-request-id"] != 'a b"c'


REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHAT = b'{"model":"chat","messages":[{"role":"user","content":"x"}]}'


async def test_idle_connections_are_closed_and_used_ones_are_not(service: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    ours = writer.get_extra_info("sockname")
    request = REQUEST + b"content-length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
    begun = asyncio.get_running_loop().time()
    for number in range(4):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if number == 0:
            assert service.service._http is not None
            connections: Any = service.service._http._server.server_state.connections
            (connection,) = [one for one in connections if one.transport.get_extra_info("peername") == ours]
            connection.idle_s = 0.3
            connection._timer.cancel()
            connection._look_at_clock()
        await asyncio.sleep(0.15)
    assert await asyncio.wait_for(reader.read(), 5) == b"", "nothing but the end"
    assert asyncio.get_running_loop().time() - begun >= 0.75, "closed although it was in use"
    writer.close()


async def test_a_caller_that_leaves_with_requests_in_line_is_noticed(
    service: Running, upstream: OpenAIUpstream
) -> None:
    upstream.replies = [stall()]
    _, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    request = REQUEST + b"content-length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
    writer.write(request * 2)
    while not upstream.requests:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
    assert len(upstream.requests) == 1


def chat(body: bytes, *headers: bytes) -> bytes:
    """Return a request over a kept connection."""
    return REQUEST + b"".join(line + b"\r\n" for line in headers) + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def test_requests_sent_ahead_are_answered_in_their_order(service: Running, upstream: OpenAIUpstream) -> None:
    names = [b"ahead-%d" % number for number in range(40)]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(b"".join(chat(CHAT, b"x-request-id: " + name) for name in names))
    for name in names:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert b"x-request-id: " + name in head
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
    assert len(upstream.requests) == 40


async def test_a_caller_that_leaves_behind_a_long_body_is_noticed(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    _, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(chat(CHAT.replace(b'"x"', b'"%b"' % (b"x" * 500_000))))
    while not upstream.requests:
        await asyncio.sleep(0.005)
    writer.close()
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_a_body_that_nobody_reads_spoils_nothing(service: Running) -> None:
    refused = chat(b"x" * 300_000).replace(b"/chat/completions", b"/nowhere")
    assert [code for code, _ in await send(service, refused + chat(CHAT) + refused)] == [404, 200, 404]


async def test_a_caller_may_ask_whether_to_send_its_body(service: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    head, body = chat(CHAT, b"expect: 100-continue").split(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()

    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(head.replace(b"/chat/completions", b"/nowhere") + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 404 ")
    # Whether the body follows is not known, so nothing behind it could be understood.
    assert b"connection: close" in answer
    writer.close()


async def test_http_1_0_gets_no_chunks(service: Running, upstream: OpenAIUpstream) -> None:
    upstream.replies = [stream(ROLE, delta("Hello!"), FINISH, DONE)]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(chat(CHAT.replace(b"{", b'{"stream":true,', 1)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head.lower()
    assert all(line.startswith(b"data: ") for line in body.split(b"\n") if line)
    assert body.endswith(b"data: [DONE]\n\n")
    writer.close()


async def test_a_head_without_end_is_refused(service: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(REQUEST + b"x-long: " + b"a" * 100_000)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_lines_of_one_name_are_one_list(service: Running) -> None:
    # Which of two keys or ids counts is not ours to guess.
    (answer,) = await send(service, chat(CHAT, b"x-parley-max-attempts: 1", b"x-parley-max-attempts: 2"))
    assert answer[0] == 400


async def test_an_answer_to_head_has_no_body(service: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.http_port)
    writer.write(b"HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n" + chat(CHAT))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 405 ")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_whole_url_is_a_target_too(service: Running) -> None:
    request = b"GET http://localhost/v1/models?x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    encoded = b"GET /v1/m%6fdels HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert [code for code, _ in await send(service, request + encoded)] == [200, 200]
