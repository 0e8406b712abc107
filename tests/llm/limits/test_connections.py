"""The kinds of Redis: with a password, TLS, Sentinel and its failover, Cluster, and one that forgot the scripts."""

import asyncio
import datetime
import ipaddress
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from parley_llm.limits.base import Admission, Allowance, OverLimitError

from tests.fakes.redis_server import RedisServer, run_redis
from tests.llm.limits.conftest import Replica, run_replica, tried, used

LIMITED = Allowance(requests_per_minute=2, tokens_per_minute=100, concurrency=5)


async def works(replica: Replica, caller: str) -> None:
    """Check that limits and use are counted in Redis."""
    assert replica.link.up
    account = replica.of(caller, LIMITED)
    for _ in range(2):
        admission = await account.admit(30)
        assert admission.call_id, "let in by Redis"
        account.release(admission, "chat", used(10), 0.5)
    assert isinstance(await tried(account), OverLimitError)
    await replica.store.tell_use([(caller, account.ledger)])
    assert not account.ledger.untold()
    report = await account.report()
    assert (report.shared, report.ever.total().requests, report.ever.total().cost) == (True, 2, 1)
    assert report.standing.tokens is not None
    assert report.standing.tokens.remaining < 100


async def test_a_password_from_a_file_may_hold_anything(tmp_path: Path, caller: str) -> None:
    password = "p@:/?#%25w"
    async with (
        run_redis(tmp_path, password="p@:/?#%w") as server,
        run_replica(f"redis://:{password}@127.0.0.1:{server.port}/3") as replica,
    ):
        await works(replica, caller)


async def test_tls_with_an_own_ca(tmp_path: Path, caller: str) -> None:
    certificate, key = _certificate(tmp_path)
    options = [f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {certificate}"]
    plain = RedisServer(tmp_path)
    tls_port = plain.port
    async with run_redis(tmp_path / "tls", f"tls-port {tls_port}", *options, "tls-auth-clients no"):
        async with run_replica(f"rediss://localhost:{tls_port}?ca_file={certificate}") as replica:
            await works(replica, caller)
        async with run_replica(f"rediss://localhost:{tls_port}") as replica:
            assert replica.ups == [False], "a certificate that nobody vouches for"


async def offset(server: RedisServer, name: str) -> int:
    """Return how far a server's replication has come."""
    client = server.client()
    try:
        return int((await client.info("replication"))[name])
    finally:
        await client.aclose()


@pytest.mark.slow
async def test_sentinel_and_its_failover(tmp_path: Path, caller: str) -> None:
    async with (
        run_redis(tmp_path / "a") as first,
        run_redis(tmp_path / "b") as second,
        AsyncExitStack() as stack,
    ):
        watch = [
            f"sentinel monitor main 127.0.0.1 {first.port} 1",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 1000",
        ]
        client = await stack.enter_async_context(second.client())
        await client.replicaof("127.0.0.1", str(first.port))
        async with asyncio.timeout(20):
            while (await client.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.02)
        async with run_redis(tmp_path / "s", *watch, sentinel=True) as sentinel:
            async with asyncio.timeout(20):
                while not await sentinel.run("SENTINEL", "REPLICAS", "main"):
                    await asyncio.sleep(0.05)
            async with run_replica(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as replica:
                await works(replica, caller)
                # What is not copied yet when a master dies is lost: that is Redis's word, and not what is tested.
                async with asyncio.timeout(20):
                    while await offset(second, "slave_repl_offset") < await offset(first, "master_repl_offset"):
                        await asyncio.sleep(0.02)
                await first.kill()
                async with asyncio.timeout(40):
                    while replica.ups != [True, False, True]:
                        await asyncio.sleep(0.05)
                assert (await client.info("replication"))["role"] == "master"
                assert (await replica.of(caller, LIMITED).report()).ever.total().requests == 2, "the replica knew"
                await works(replica, f"{caller}-after")


@pytest.mark.slow
async def test_cluster(tmp_path: Path, caller: str) -> None:
    async with (
        run_redis(tmp_path / "a", "cluster-enabled yes") as one,
        run_redis(tmp_path / "b", "cluster-enabled yes") as two,
    ):
        clients = [one.client(), two.client()]
        await one.run("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        await two.run("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        await one.run("CLUSTER", "MEET", "127.0.0.1", two.port, two.bus_port)
        async with asyncio.timeout(20):
            for client in clients:
                while (await client.cluster("info"))["cluster_state"] != "ok":
                    await asyncio.sleep(0.05)
        async with run_replica(f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}") as replica:
            for number in range(6):
                await works(replica, f"{caller}-{number}")
        assert all([await client.dbsize() > 3 for client in clients]), "the callers are spread over the nodes"
        for client in clients:
            await client.aclose()


async def test_scripts_that_redis_forgot_are_handed_over_again(shared_redis: RedisServer, caller: str) -> None:
    client = shared_redis.client()
    async with run_replica(shared_redis.url) as replica:
        account = replica.of(caller, Allowance(requests_per_minute=3))
        for _ in range(3):
            await client.script_flush()
            assert isinstance(await tried(account), Admission)
        assert isinstance(await tried(account), OverLimitError)
        assert replica.ups == [True]
    await client.aclose()


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
