"""Uvicorn's HTTP protocol, except that an offer to switch protocols is declined instead of losing the body.

A request that offers `Upgrade: h2c`, as Java's HttpClient does by default, stops the parser behind its head: the
rest might be in another protocol. We never switch, which RFC 9110 (7.8) allows; so the rest is the body. The head
is given to a fresh parser without the offer, followed by what came behind it. Reported as uvicorn issue 2722.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = frozenset({b"upgrade", b"http2-settings"})


class DecliningProtocol(HttpToolsProtocol):
    """Answers every request as HTTP/1.1."""

    def data_received(self, data: bytes) -> None:
        """Parse; on an offer, parse the head again without it, then the rest."""
        self._unset_keepalive_if_required()
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

    def on_headers_complete(self) -> None:
        """Wait for the second parsing when there is an offer."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the second parsing when there is an offer."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)
            if name not in _OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"
