"""How upstreams are reached: TLS, proxies, headers, limits of the connection pool."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from parley_llm.upstream.proxy import environment_proxy, is_loopback, parse_proxy

from tests.fakes.openai_upstream import OpenAIUpstream, completion, raw, stall, stream, words
from tests.llm.conftest import run_service, settings_for
from tests.llm.fronts import ask

DEAD = "http://127.0.0.1:9"


class ForwardProxy:
    """An HTTP proxy: opens tunnels for CONNECT and forwards requests that name a whole URL."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.port = 0
        self.refuse = False
        self._target = ("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        if self.refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        method, target, _ = head.decode().split(" ", 2)
        authority = target if method == "CONNECT" else target.split("/")[2]
        _, _, port = authority.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            up_writer.write(head)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy() -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    yield proxy
    server.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server context for 127.0.0.1 and the CA file that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    import ipaddress

    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    return context, ca_file


def with_upstream(upstream: OpenAIUpstream, **options: Any) -> dict[str, Any]:
    settings = settings_for(upstream)
    settings["upstreams"]["up0"].update(options)
    return settings


async def test_tls_with_an_own_ca(certificate: tuple[ssl.SSLContext, Path]) -> None:
    context, ca_file = certificate
    async with (
        OpenAIUpstream(completion("Hello!"), tls=context) as upstream,
        run_service(with_upstream(upstream, ca_file=str(ca_file))) as service,
    ):
        assert (await ask("http", service)).text == "Hello!"
        upstream.replies = [stream(*words("Hello!"))]
        assert (await ask("sse", service)).text == "Hello!"
        assert upstream.connections == 1


async def test_an_untrusted_certificate_is_refused(certificate: tuple[ssl.SSLContext, Path]) -> None:
    async with OpenAIUpstream(completion("Hello!"), tls=certificate[0]) as upstream:
        async with run_service(settings_for(upstream)) as service:
            seen = await ask("http", service)
        assert seen.reason == "UPSTREAM_UNAVAILABLE"
        assert "certificate is not trusted" in seen.message
        assert not upstream.requests


async def test_an_https_upstream_behind_a_proxy(certificate: tuple[ssl.SSLContext, Path], proxy: ForwardProxy) -> None:
    context, ca_file = certificate
    async with OpenAIUpstream(completion("Hello!"), tls=context) as upstream:
        url = f"http://ann:s%20ecret@127.0.0.1:{proxy.port}"
        async with run_service(with_upstream(upstream, ca_file=str(ca_file), proxy=url)) as service:
            assert (await ask("http", service)).text == "Hello!"
        assert upstream.requests[0].target == "/v1/chat/completions"
        assert "proxy-authorization" not in upstream.requests[0].headers
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1")
    assert "proxy-authorization: Basic YW5uOnMgZWNyZXQ=" in head


async def test_an_http_upstream_behind_a_proxy(upstream: OpenAIUpstream, proxy: ForwardProxy) -> None:
    async with run_service(with_upstream(upstream, proxy=f"http://127.0.0.1:{proxy.port}")) as service:
        assert (await ask("http", service)).text == "Hello!"
    assert upstream.requests[0].target == f"{upstream.base_url}/chat/completions"


async def test_a_proxy_that_refuses_is_named(certificate: tuple[ssl.SSLContext, Path], proxy: ForwardProxy) -> None:
    proxy.refuse = True
    async with (
        OpenAIUpstream(tls=certificate[0]) as upstream,
        run_service(with_upstream(upstream, proxy=f"http://127.0.0.1:{proxy.port}")) as service,
    ):
        seen = await ask("http", service)
    assert "refused the tunnel with status '407'" in seen.message


async def test_a_loopback_upstream_never_uses_the_environments_proxy(upstream: OpenAIUpstream) -> None:
    env = {"http_proxy": DEAD, "HTTPS_PROXY": DEAD, "ALL_PROXY": DEAD}
    async with run_service(settings_for(upstream), env) as service:
        assert (await ask("http", service)).text == "Hello!"


@pytest.mark.parametrize(
    ("scheme", "host", "env", "expected"),
    [
        ("https", "api.openai.com", {"HTTPS_PROXY": "http://p:3128"}, "p"),
        ("https", "api.openai.com", {"https_proxy": "p:3128"}, "p"),
        ("http", "vllm", {"HTTP_PROXY": "http://p"}, "p"),
        ("http", "vllm", {"HTTPS_PROXY": "http://p"}, None),
        ("https", "vllm", {"ALL_PROXY": "http://p"}, "p"),
        ("https", "a.example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "x, .example.com"}, None),
        ("https", "example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com:443"}, None),
        ("https", "example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com:8443"}, "p"),
        ("https", "badexample.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com"}, "p"),
        ("https", "10.1.2.3", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https", "example.com", {"HTTPS_PROXY": "http://p", "no_proxy": "*"}, None),
        ("https", "localhost", {"HTTPS_PROXY": "http://p"}, None),
        ("http", "127.0.0.2", {"HTTP_PROXY": "http://p"}, None),
        ("http", "::1", {"HTTP_PROXY": "http://p"}, None),
        ("https", "example.com", {}, None),
    ],
)
def test_environment_proxies(scheme: str, host: str, env: dict[str, str], expected: str | None) -> None:
    proxy = environment_proxy(scheme, host, 443, env)
    assert (proxy.host if proxy else None) == expected


@pytest.mark.parametrize("url", ["socks5://p:1080", "https://p", "http://", "http://p/path", "http://p:port"])
def test_unusable_proxies_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_proxy(url)


def test_a_proxys_password_is_not_shown() -> None:
    assert "Basic" not in repr(parse_proxy("http://a:b@p"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("LOCALHOST.", True), ("[::1]", True), ("127.1.1.1", True), ("example.com", False),
     ("0.0.0.0", False), ("127.0.0.1.example.com", False), ("", False)],
)  # fmt: skip
def test_loopback_hosts(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_the_pool_is_bounded(upstream: OpenAIUpstream) -> None:
    upstream.replies = [stall()]
    async with run_service(with_upstream(upstream, max_connections=1)) as service:
        first = asyncio.create_task(ask("http", service, timeout_s=3))
        while not upstream.requests:
            await asyncio.sleep(0.01)
        seen = await ask("http", service, {"x-parley-max-attempts": "1"})
        assert "all 1 connections are in use" in seen.message
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
        upstream.replies = [completion("Hello!")]
        assert (await ask("http", service)).text == "Hello!", "the connection of a call that ended is free again"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000,
    ],
    ids=["ssh", "upgrade", "bad-chunk", "endless-head"],
)
async def test_what_is_not_http_is_an_error(answer: bytes, upstream: OpenAIUpstream) -> None:
    upstream.replies = [raw(answer)]
    async with run_service(settings_for(upstream)) as service:
        seen = await ask("http", service)
    assert (seen.code, seen.reason) == ("502", "UPSTREAM_PROTOCOL")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n",
    ],
    ids=["interim", "until-the-end"],
)
async def test_odd_but_valid_answers_are_read(answer: bytes, upstream: OpenAIUpstream) -> None:
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}]}'
    upstream.replies = [raw(answer + body)]
    async with run_service(settings_for(upstream)) as service:
        assert (await ask("http", service)).text == "Hello!"
