"""A TCP proxy that loses answers on demand: a request arrives, and the connection breaks before its answer does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CuttingProxy:
    """Passes bytes on until it is told to lose the next answer."""

    def __init__(self, target: int) -> None:
        """Name the port on loopback that bytes are passed on to."""
        self.port = 0
        self.lost = 0
        """Answers lost so far."""
        self._target = target
        self._losing = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def lose_answer_to(self, request: bytes) -> None:
        """Lose the answer to the next request that contains these bytes."""
        self._losing = request

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await self._pass_on(reader, writer, there, back)
        except (ConnectionError, asyncio.CancelledError):
            pass  # However the connection ends, it is over for both sides.
        finally:
            for each in (writer, back):
                each.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        """End the connections that are left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        answering = asyncio.create_task(self._copy(there, writer))
        try:
            while request := await reader.read(1 << 20):
                if self._losing and self._losing in request:
                    self._losing = b""
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
                    back.write(request)
                    await there.read(1 << 20)
                    self.lost += 1
                    return
                back.write(request)
                await back.drain()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def run_cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    """Run a proxy on a free port while the block runs."""
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
