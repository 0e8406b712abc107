"""An HTTP server inside a process that has others."""

import asyncio
import socket
import time
from typing import Any

import httpx2
import pytest
from parley_common.http_server import BindError, HTTPServer, bind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class SlowApp:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.app = Starlette(routes=[Route("/", self.respond)])

    async def respond(self, _request: Request) -> Response:
        self.asked.set()
        await self.answer.wait()
        return PlainTextResponse("done")


async def _get(server: HTTPServer) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{server.port}/", timeout=30)


async def test_stopping_waits_for_the_requests_in_work() -> None:
    slow = SlowApp()
    server = HTTPServer(slow.app, "127.0.0.1", 0, grace_s=30)
    await server.start()
    request = asyncio.create_task(_get(server))
    await slow.asked.wait()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.05)

    assert not stopping.done()
    slow.answer.set()
    assert (await request).text == "done"
    await asyncio.wait_for(stopping, 10)


async def test_hurrying_waits_no_longer() -> None:
    slow = SlowApp()
    server = HTTPServer(slow.app, "127.0.0.1", 0, grace_s=50)
    await server.start()
    request = asyncio.create_task(_get(server))
    await slow.asked.wait()
    began = time.monotonic()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.05)

    server.hurry()
    await stopping

    assert time.monotonic() - began < 10
    slow.answer.set()
    await asyncio.gather(request, return_exceptions=True)


async def test_a_server_that_never_started_frees_its_port() -> None:
    server = HTTPServer(SlowApp().app, "127.0.0.1", 0)
    port = server.port

    await server.stop()

    bind("127.0.0.1", port).close()


async def test_an_app_that_fails_is_an_internal_error() -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError("private words")

    server = HTTPServer(broken, "127.0.0.1", 0, grace_s=1)
    await server.start()
    answer = await _get(server)
    await server.stop()

    assert answer.status_code == 500
    assert "private words" not in answer.text
    assert "server" not in answer.headers


def test_a_taken_port_is_named_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(BindError, match=f"127.0.0.1:{port}: Address already in use"):
            bind("127.0.0.1", port)


def test_an_unusable_host_is_named() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:4711"):
        bind("192.0.2.1", 4711)
