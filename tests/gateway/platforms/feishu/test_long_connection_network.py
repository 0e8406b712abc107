"""What stands between a bot and Feishu: networks that swallow, proxies, own certificate authorities."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from parley_gateway.platforms.feishu import long_connection, long_connection_endpoint
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from structlog.testing import capture_logs

from tests.e2e.waiting import eventually
from tests.fakes.relay import Relay
from tests.gateway.platforms.feishu.conftest import Calls, Clock
from tests.gateway.platforms.feishu.connected_bots import EVENT, World, open_world


@pytest.fixture
async def world(
    cloud: FeishuCloud, clock: Clock, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(long_connection_endpoint, "SHORTEST_WAIT_S", 0.02)
    async with open_world(cloud, clock, calls) as world:
        yield world


async def test_dead_connection_is_noticed_by_its_silence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somewhere on the way everything is swallowed from some moment on; no side closes anything."""
    monkeypatch.setattr(long_connection, "ALIVE_EVERY_S", 0.1)
    monkeypatch.setattr(long_connection, "CLOSE_S", 0.1)
    async with Relay(world.url) as relay, world.bot(base_url=relay.url) as bot:
        await world.connected()
        await asyncio.sleep(0.3)
        assert bot.sink.up == [False, True]
        relay.silent = True
        await eventually(lambda: bot.sink.up == [False, True, False])
        relay.silent = False
        await eventually(lambda: bot.sink.up[-1])
        assert (await world.feishu.deliver(EVENT)).acknowledged


async def test_endpoint_and_socket_are_reached_through_the_proxy(world: World) -> None:
    async with Relay(world.url, proxy=True) as proxy:
        async with world.bot(base_url="http://feishu.invalid", proxy=proxy.url):
            await world.connected()
            assert (await world.feishu.deliver(EVENT)).acknowledged
        async with world.bot(base_url="http://lark.invalid", environ={"http_proxy": proxy.url}):
            await world.connected()
    assert proxy.heads[0] == "POST http://feishu.invalid/callback/ws/endpoint HTTP/1.1"
    assert "CONNECT feishu.invalid:80 HTTP/1.1" in proxy.heads
    assert "CONNECT lark.invalid:80 HTTP/1.1" in proxy.heads


async def test_loopback_is_reached_without_the_environments_proxy(world: World) -> None:
    dead = "http://127.0.0.1:9"
    async with world.bot(environ={"http_proxy": dead, "https_proxy": dead, "ws_proxy": dead, "wss_proxy": dead}):
        await world.connected()


async def test_ca_file_is_trusted_and_needed(world: World, tmp_path: Path) -> None:
    certificate, context = own_certificate(tmp_path)
    async with Relay(world.url, tls=context) as relay:
        world.feishu.address = relay.url.replace("https", "wss")
        async with world.bot(base_url=relay.url, ca_file=certificate):
            await world.connected()
            assert (await world.feishu.deliver(EVENT)).acknowledged
        with capture_logs() as logs:
            async with world.bot(base_url=relay.url):
                await eventually(lambda: [entry for entry in logs if entry["event"] == "not_connected"])
        # Not even where the address is: the ticket would go in clear.
        world.feishu.address = world.url.replace("http", "ws")
        with capture_logs() as logs:
            async with world.bot(base_url=relay.url, ca_file=certificate):
                await eventually(lambda: [entry for entry in logs if entry["event"] == "not_connected"])
        assert "no usable address" in logs[0]["error"]


def own_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a new certificate for 127.0.0.1, and what a server speaks TLS with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    both, alone = folder / "server.pem", folder / "ca.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    alone.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(secret + alone.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return alone, context
