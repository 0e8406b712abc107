"""Connections to one upstream: kept alive, opened directly, through a proxy, with or without TLS."""

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass

from parley_llm.upstream.connection import Connection, ConnectionLostError, WireError
from parley_llm.upstream.proxy import Proxy

MAX_IDLE = 256
MAX_IDLE_S = 50.0
DISCARD_S = 1.0
MAX_TUNNEL_HEAD = 16 * 1024


class ConnectError(WireError):
    """No connection could be opened."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an upstream listens and how to get there; `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None


class Pool:
    """Hands out connections, newest first, at most `max_connections` at a time."""

    def __init__(self, address: Address, max_connections: int) -> None:
        self.address = address
        self._max = max_connections
        self._idle: list[Connection] = []
        self._active = 0
        self._closed = False

    def take(self) -> Connection | None:
        """Return a connection that has been used before, if one is idle."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and time.monotonic() - connection.idle_since < MAX_IDLE_S:
                self._active += 1
                return connection
            connection.abort()
        return None

    async def open(self, by: float) -> Connection:
        """Return a new connection. Raises ConnectError or TimeoutError."""
        if self._active >= self._max:
            raise ConnectError(f"all {self._max} connections are in use")
        self._active += 1
        try:
            async with asyncio.timeout_at(by):
                return await self._open()
        except BaseException:
            self._active -= 1
            raise

    def release(self, connection: Connection) -> None:
        """Take a connection back: to be used again when its exchange is complete, closed otherwise."""
        self._active -= 1
        if connection.reusable and len(self._idle) < MAX_IDLE and not self._closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    def release_soon(self, connection: Connection) -> None:
        """Take back a connection of which only the end of the body is missing."""
        if connection.complete or connection.closed:
            self.release(connection)
            return
        self._active -= 1

        def keep() -> None:
            self._active += 1
            self.release(connection)

        connection.discard_rest(DISCARD_S, keep)

    def close(self) -> None:
        """Close the idle connections and keep none from now on."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        address = self.address
        tls_name = address.host if address.tls else None
        try:
            if address.proxy is None:
                transport, connection = await loop.create_connection(
                    Connection, address.host, address.port, ssl=address.tls, server_hostname=tls_name
                )
                _no_delay(transport)
                return connection
            if address.tls is None:
                transport, connection = await loop.create_connection(Connection, address.proxy.host, address.proxy.port)
                _no_delay(transport)
                return connection
            return await self._open_tunnel(address.proxy, address.tls)
        except (OSError, ssl.CertificateError) as exc:
            raise ConnectError(_describe(exc)) from exc

    async def _open_tunnel(self, proxy: Proxy, tls: ssl.SSLContext) -> Connection:
        """Ask the proxy for a tunnel (RFC 9110, 9.3.6) and start TLS with the upstream inside it."""
        loop = asyncio.get_running_loop()
        host, port = self.address.host, self.address.port
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        authorization = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        transport, tunnel = await loop.create_connection(_Tunnel, proxy.host, proxy.port)
        try:
            _no_delay(transport)
            transport.write(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{authorization}\r\n".encode())
            await tunnel.opened
            connection = Connection()
            secure = await loop.start_tls(transport, connection, tls, server_hostname=host)
            if secure is None:
                raise ConnectError("the connection ended during the TLS handshake")
            connection.connection_made(secure)
            return connection
        except BaseException:
            transport.abort()
            raise


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self.opened.done():
            return
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            if len(self._data) > MAX_TUNNEL_HEAD:
                self.opened.set_exception(ConnectError("the proxy's answer to CONNECT has no end"))
            return
        words = head.split(b"\r\n", 1)[0].split(b" ", 2)
        status = words[1].decode("latin-1") if len(words) > 1 else "?"
        if words[0].startswith(b"HTTP/1.") and status.startswith("2") and len(status) == 3 and not rest:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ConnectError(f"the proxy refused the tunnel with status {status[:8]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionLostError("the proxy closed the connection"))


def _no_delay(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _describe(exc: OSError | ssl.CertificateError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the upstream's certificate is not trusted: {exc.verify_message}"
    return exc.strerror or str(exc) or type(exc).__name__
