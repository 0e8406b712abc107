"""The kinds of Redis: password, TLS, replicas, Sentinel and its failover, a cluster whose partitions move."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.messages import Turn
from parley_gateway.store.base import AcceptOutcome, partition_of
from parley_gateway.store.redis import RedisStore
from parley_gateway.store.redis.calls import Copies
from parley_gateway.store.redis.keys import key
from parley_gateway.store.redis.store import RedisOptions
from redis.crc import key_slot

from tests.fakes.certificates import self_signed
from tests.fakes.redis_server import RedisServer, run_cluster, run_redis
from tests.gateway.store.building import DEDUPE_TTL_S, LEASE_TTL_S, START, conversation, enqueue, message, queued, take
from tests.gateway.store.redis.conftest import opened

LONG_S = 40.0
QUICK = RedisOptions(command_s=0.5)
SOON = "repl-diskless-sync-delay 0"


async def works(store: RedisStore, name: str, *, chats: int = 8) -> None:
    """Send messages of several conversations through the store."""
    sent = [message(f"{name}{n}", chat=f"{name}-chat{n % chats}") for n in range(2 * chats)]
    await enqueue(store, *sent)
    done: list[str] = []
    while leased := await store.lease("worker", now=START, ttl_s=LEASE_TTL_S):
        lease, item = leased
        while item is not None:
            asked = item.message.message_id
            done.append(asked)
            item = await store.complete(lease, item, now=START, turn=Turn(asked, "a", START))  # type: ignore[assignment]  # Ends the loop.
    assert sorted(done) == sorted(one.message_id for one in sent)
    for n in range(chats):
        turns = await store.history(conversation(f"{name}-chat{n}").key, now=START)
        assert [turn.question for turn in turns] == [f"{name}{n}", f"{name}{n + chats}"]
    assert (await store.stats(now=START)).depth == 0


async def until_usable(store: RedisStore) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                await store.stats(now=START)
                return
            except StoreUnavailableError:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def master_and_replica(folder: Path) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    async with run_redis(folder / "a", "appendonly yes", SOON) as master, run_redis(folder / "b") as replica:
        await replica.run("REPLICAOF", "127.0.0.1", master.port)
        async with asyncio.timeout(LONG_S):
            while (await replica.run("INFO", "replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.02)
        yield master, replica


async def test_a_password_may_hold_anything(tmp_path: Path) -> None:
    async with (
        run_redis(tmp_path, password="p@:/?#%w") as server,
        opened(f"redis://:p@:/?#%25w@127.0.0.1:{server.port}/3") as store,
    ):
        await works(store, "m")


async def test_tls_with_an_own_authority(tmp_path: Path) -> None:
    certificate, private_key = self_signed(tmp_path)
    port = RedisServer(tmp_path).port
    options = [f"tls-port {port}", f"tls-cert-file {certificate}", f"tls-key-file {private_key}"]
    async with run_redis(tmp_path / "tls", *options, f"tls-ca-cert-file {certificate}", "tls-auth-clients no"):
        async with opened(f"rediss://localhost:{port}?ca_file={certificate}") as store:
            await works(store, "m")
        with pytest.raises(StoreUnavailableError):
            async with opened(f"rediss://localhost:{port}"):
                pass


async def test_server_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    port = RedisServer(tmp_path).port
    with pytest.raises(StoreUnavailableError, match="Redis: ConnectionError"):
        async with opened(f"redis://127.0.0.1:{port}", QUICK):
            pass


async def test_message_is_acknowledged_only_when_the_replica_has_it(tmp_path: Path) -> None:
    options = RedisOptions(command_s=4.0, copies=Copies(replicas=1))
    async with master_and_replica(tmp_path) as (master, replica), opened(master.url, options) as store:
        await enqueue(store, message("m1"))
        replica.pause()
        for _ in range(2):  # The redelivery has to wait just as the first delivery.
            with pytest.raises(StoreUnavailableError, match=r"too few copies .*gateway\.store_wait"):
                await store.accept(queued(message("m2")), now=START, dedupe_ttl_s=DEDUPE_TTL_S)
        # The end of a message is no reason to stop working: the answer is out.
        lease, item = await take(store)
        following = await store.complete(lease, item, now=START)
        assert following is not None
        replica.resume()
        async with asyncio.timeout(LONG_S):
            while True:
                try:
                    receipt = await store.accept(queued(message("m2")), now=START, dedupe_ttl_s=DEDUPE_TTL_S)
                    break
                except StoreUnavailableError:
                    await asyncio.sleep(0.05)
        assert receipt.outcome is AcceptOutcome.DUPLICATE
        assert await replica.run("EXISTS", key(partition_of(conversation().key), "seen:wechat/support/m2")) == 1


async def test_sentinel_and_its_failover(tmp_path: Path) -> None:
    async with master_and_replica(tmp_path) as (first, _):
        watch = [
            f"sentinel monitor main 127.0.0.1 {first.port} 1",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 1000",
        ]
        async with run_redis(tmp_path / "s", *watch, sentinel=True) as sentinel:
            async with asyncio.timeout(LONG_S):
                while not await sentinel.run("SENTINEL", "REPLICAS", "main"):
                    await asyncio.sleep(0.05)
            options = RedisOptions(command_s=4.0, copies=Copies(replicas=1))
            async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/main", options) as store:
                await works(store, "before")
                await enqueue(store, message("kept"))
                await first.kill()
                with pytest.raises(StoreUnavailableError):
                    await enqueue(store, message("refused"))
                await until_usable(store)
                # The replica had what was acknowledged. It has none of its own, so that nothing new is acknowledged.
                with pytest.raises(StoreUnavailableError, match="too few copies"):
                    await enqueue(store, message("alone"))
                # What wasn't acknowledged is there all the same, once: the platform's redelivery finds it.
                await until_depth(store, 2)
                lease, item = await take(store)
                assert item.message.message_id == "kept"
                following = await store.complete(lease, item, now=START)
                assert following is not None
                assert following.message.message_id == "alone"


async def until_depth(store: RedisStore, depth: int) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                assert (await store.stats(now=START)).depth == depth
                return
            except StoreUnavailableError:
                await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    async with AsyncExitStack() as stack:
        options = ("cluster-node-timeout 1000", "cluster-require-full-coverage no", "appendonly yes", SOON)
        yield await stack.enter_async_context(run_cluster(tmp_path, *options))


@pytest.mark.slow
async def test_cluster_spreads_the_partitions_and_follows_one_that_moves(cluster: list[RedisServer]) -> None:
    async with opened(f"redis+cluster://127.0.0.1:{cluster[0].port}") as store:
        await works(store, "before", chats=40)
        assert all([await server.run("DBSIZE") > 10 for server in cluster]), "every node has partitions"

        chat = conversation()
        slot = key_slot(key(partition_of(chat.key), "").encode())
        ids = [await server.run("CLUSTER", "MYID") for server in cluster]
        (at,) = [n for n, server in enumerate(cluster) if await serves(server, slot)]
        there = (at + 1) % 3
        name = next(f"n{n}" for n in range(1000) if partition_of(f"n{n}") == partition_of(chat.key))
        await store.cache_put(name, "value", expires_at=START + 60)
        await enqueue(store, message("m1"))
        await cluster[there].run("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[at])
        await cluster[at].run("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[there])
        names = await cluster[at].run("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        await cluster[at].run("MIGRATE", "127.0.0.1", cluster[there].port, "", 0, 5000, "KEYS", *names)
        # Half way: the old node says to ask the new one. Keys that nobody has yet can't be made before the end.
        assert await store.cache_get(name, now=START) == ("value", START + 60)
        half_way = asyncio.create_task(enqueue(store, message("m2")))
        await asyncio.sleep(0.2)
        assert not half_way.done()
        for n in (there, at):
            await cluster[n].run("CLUSTER", "SETSLOT", slot, "NODE", ids[there])
        await half_way
        # Over.
        await enqueue(store, message("m3"))
        lease, item = await take(store)
        read = [item.message.message_id]
        while following := await store.complete(lease, item, now=START):
            item = following
            read.append(item.message.message_id)
        assert read == ["m1", "m2", "m3"]


async def serves(server: RedisServer, slot: int) -> bool:
    return any(
        first <= slot <= last and port == server.port
        for first, last, (_, port, *_), *_ in await server.run("CLUSTER", "SLOTS")
    )


@pytest.mark.slow
async def test_rest_of_a_cluster_goes_on_when_a_node_dies_and_all_of_it_when_it_is_back(
    cluster: list[RedisServer],
) -> None:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    async with opened(f"redis+cluster://{hosts}", QUICK) as store:
        await works(store, "before")
        await cluster[1].kill()
        began, taken = time.monotonic(), 0
        for n in range(30):
            try:
                await enqueue(store, message(f"m{n}", chat=f"chat{n}"))
                taken += 1
            except StoreUnavailableError:
                continue
        assert 0 < taken < 30
        await store.ping()
        assert await store.expire(now=START) == 0
        for _ in range(taken):
            lease, item = await take(store)
            await store.complete(lease, item, now=START)
            await store.release(lease)
        assert time.monotonic() - began < LONG_S

        await cluster[1].start()
        await until_usable(store)
        await works(store, "after", chats=30)


@pytest.mark.slow
async def test_replica_takes_over_the_partitions_of_a_dead_node(cluster: list[RedisServer], tmp_path: Path) -> None:
    options = ("cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no")
    async with run_redis(tmp_path / "replica", *options) as replica:
        await cluster[0].run("CLUSTER", "MEET", "127.0.0.1", replica.port, replica.bus_port)
        dying = await cluster[1].run("CLUSTER", "MYID")
        async with asyncio.timeout(LONG_S):
            while dying not in str(await replica.run("CLUSTER", "NODES")):
                await asyncio.sleep(0.05)
            await replica.run("CLUSTER", "REPLICATE", dying)
            while (await replica.run("INFO", "replication")).get("master_link_status") != "up":
                await asyncio.sleep(0.05)
            # Only who knows the replica as one of the dying node's votes for it.
            mine = await replica.run("CLUSTER", "MYID")
            for node in cluster:
                while f"{mine} 127.0.0.1:{replica.port}" not in (known := str(await node.run("CLUSTER", "NODES"))) or (
                    f"slave {dying}" not in known
                ):
                    await asyncio.sleep(0.05)
        async with opened(f"redis+cluster://127.0.0.1:{cluster[0].port}", QUICK) as store:
            await works(store, "before")
            await cluster[1].kill()
            async with asyncio.timeout(LONG_S):
                while (await replica.run("INFO", "replication"))["role"] != "master":
                    await asyncio.sleep(0.1)
            await until_usable(store)
            await works(store, "after", chats=30)
