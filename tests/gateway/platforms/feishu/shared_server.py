"""One HTTP server for all tests of a session, in a thread: starting and stopping one takes longer than most tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parley_gateway.simulators.server import running


class SharedServer:
    """Serves the app of the test that runs now."""

    def __init__(self) -> None:
        self.app: Any = None
        self.address = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on (ASGI)."""
        await self.app(scope, receive, send)

    @contextmanager
    def serving(self) -> Iterator["SharedServer"]:
        """Serve for the length of the block."""
        thread = threading.Thread(target=self._run, name="shared-server")
        thread.start()
        assert self._ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)

    def _run(self) -> None:
        async def serve() -> None:
            async with running(self) as self.address:
                self._ready.set()
                await self._stop.wait()

        try:
            self._loop.run_until_complete(serve())
        finally:
            self._loop.close()
