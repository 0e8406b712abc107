"""An HTTP server (uvicorn) as one part of a process that has others: bound first, no signal handlers of its own."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import uvicorn


class BindError(Exception):
    """An address can't be listened on."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
        BindError: naming the address and the reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as exc:
        sock.close()
        raise BindError(f"can't listen on {host}:{port}: {exc.strerror}") from exc
    return sock


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the process has one place for signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HTTPServer:
    """Serves one ASGI app on one socket in the running loop."""

    def __init__(
        self, app: Any, host: str, port: int, *, http: Any = "httptools", ws: Any = "none", grace_s: float = 30.0
    ) -> None:
        """Bind at once. `http` and `ws` are uvicorn's protocols; `grace_s` bounds how long stopping waits for requests.

        Raises
            BindError: the address is taken or not ours.
        """
        self._socket = bind(host, port)
        config = uvicorn.Config(
            app,
            http=http,
            ws=ws,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Whoever stands in front of us is not asked who the client is: nothing here depends on it.
            proxy_headers=False,
            # Longer than clients' pools keep idle connections, so that they don't meet a closed one.
            timeout_keep_alive=75,
            backlog=2048,
            timeout_graceful_shutdown=max(1, round(grace_s)),
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port in use; the system's choice when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http-server")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn offers no event to await
            await asyncio.sleep(0.005)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Stop listening and wait for the requests in work, at most for the grace time."""
        if self._task is None:
            self._socket.close()
            return
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)

    def hurry(self) -> None:
        """Stop waiting for the requests in work."""
        self._server.should_exit = True
        self._server.force_exit = True
        # From Python 3.12 on a server isn't closed before its last connection is.
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
