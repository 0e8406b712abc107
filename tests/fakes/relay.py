"""A TCP relay in front of a server on loopback: it can go silent, be a forward proxy, or speak TLS."""

import asyncio
import contextlib
import ssl
from types import TracebackType


class Relay:
    """Passes every connection on to one port. As a proxy it answers CONNECT first, wherever the client wants to go."""

    def __init__(self, target: str, *, proxy: bool = False, tls: ssl.SSLContext | None = None) -> None:
        """`target` is the URL of the server."""
        self._port = int(target.rpartition(":")[2])
        self._proxy = proxy
        self._tls = tls
        self._open: set[asyncio.Task[None]] = set()
        self.heads: list[str] = []
        """The first line of every request that came to the proxy."""
        self.silent = False
        """From now on nothing is passed on, and nothing is closed."""

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        onward, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if self._proxy:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.split(b"\r\n")[0].decode())
                if head.startswith(b"CONNECT "):
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    back.write(head)
            await asyncio.gather(self._pump(reader, back), self._pump(onward, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Whoever ends, the test or one of the two sides, ends the relay's connection.
            return
        finally:
            for side in (writer, back):
                side.close()
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await side.wait_closed()
            self._open.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.silent:
                sink.write(data)
                await sink.drain()
        if not self.silent:
            sink.close()
