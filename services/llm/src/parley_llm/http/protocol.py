"""Uvicorn's HTTP protocol with three changes.

An offer to switch protocols is declined instead of losing the body. A request that offers `Upgrade: h2c`, as Java's
HttpClient does by default, stops the parser behind its head: the rest might be in another protocol. We never switch,
which RFC 9110 (7.8) allows; so the rest is the body. The head is given to a fresh parser without the offer, followed
by what came behind it. Reported as uvicorn issue 2722.

The application gets a `Reply`, and the keep-alive timer is looked at when it fires instead of being set for each
request: both only to save time, which a proxy has little else to spend on.
"""

from collections.abc import Callable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from parley_llm.http.reply import EXTENSION, Reply

_OFFER = frozenset({b"upgrade", b"http2-settings"})


class CallerProtocol(HttpToolsProtocol):
    """Answers every request as HTTP/1.1."""

    on_caller_lost: Callable[[], None] | None = None
    _used_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Parse; on an offer, parse the head again without it, then the rest."""
        self._used_at = self.loop.time()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self.parser.get_method() == b"CONNECT":
                    self.send_400_response("CONNECT is not supported.")
                    return
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request in work."""
        super().connection_lost(exc)
        if self.on_caller_lost is not None:
            self.on_caller_lost()

    def on_headers_complete(self) -> None:
        """Wait for the second parsing when there is an offer."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            # ASGI's annotations know only dictionaries here.
            self.scope["extensions"] = {EXTENSION: Reply(self.cycle, self)}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        """Wait for the second parsing when there is an offer."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what the caller sent meanwhile, or wait for it."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._used_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_request(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it was idle for so long; the end of a request in work sets the timer again."""
        self.timeout_keep_alive_task = None
        if self.cycle is not None and not self.cycle.response_complete:
            return
        left = self._used_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._wait_for_request(left)
        else:
            super().timeout_keep_alive_handler()

    def _wait_for_request(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)
            if name not in _OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"
