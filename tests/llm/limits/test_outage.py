"""A Redis that hangs, dies and comes back: calls go on at once, limits are counted here, use is told once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from parley_llm.limits.account import Account
from parley_llm.limits.base import Admission, Allowance, OverLimitError
from parley_llm.limits.link import ANSWER_S, MAX_KEPT

from tests.fakes.redis_server import RedisServer, run_redis
from tests.llm.limits.conftest import Replica, run_replica, tried, used
from tests.llm.limits.test_shared import until_running

BLOCKED_S = 1.0
"""Ten times what a call may be held up."""


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with run_redis(tmp_path) as running:
        yield running


async def until(replica: Replica, *, up: bool) -> None:
    async with asyncio.timeout(20):
        while replica.link.up is not up:
            await asyncio.sleep(0.01)


async def timed(account: Account) -> Admission | OverLimitError:
    """Ask to be let in, which must not take long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    result = await tried(account)
    assert loop.time() - began < BLOCKED_S
    return result


async def told(server: RedisServer, caller: str) -> dict[str, str]:
    fields = await server.run("HGETALL", f"parley:llm:{{{caller}}}:use")
    assert isinstance(fields, dict)
    return fields


async def test_a_hanging_redis_holds_up_nobody_and_is_used_again(server: RedisServer, caller: str) -> None:
    allowance = Allowance(requests_per_minute=5, concurrency=5)
    async with run_replica(server.url, answer_s=ANSWER_S) as one, run_replica(server.url) as other:
        account = one.of(caller, allowance)
        shared = [await account.admit(30) for _ in range(2)]
        await until(one, up=True)
        server.pause()
        results = await asyncio.gather(*(timed(account) for _ in range(20)))
        local = [each for each in results if isinstance(each, Admission)]
        assert len(local) == 3, "what was let in before counts here too"
        assert not one.link.up
        assert isinstance(await timed(account), OverLimitError)
        report = await asyncio.wait_for(account.report(), BLOCKED_S)
        assert (report.shared, report.standing.running) == (False, 5)
        for admission in (*shared, *local):
            account.release(admission, "chat", used(1), 0)

        server.resume()
        await until(one, up=True)
        await until_running(one, caller, allowance, 0)
        assert one.ups == [True, False, True]
        assert (await account.report()).shared
        for replica in (one, other):
            assert len([1 for _ in range(9) if isinstance(await tried(replica.of(caller, allowance)), Admission)]) <= 5


async def test_a_killed_redis_comes_back_empty_and_learns_what_was_used_meanwhile(
    server: RedisServer, caller: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with run_replica(server.url, answer_s=ANSWER_S) as replica:
        account = replica.of(caller, Allowance(requests_per_minute=3))
        await server.kill()
        await timed(account)
        await until(replica, up=False)
        admitted = 1 + len([1 for _ in range(5) if isinstance(await timed(account), Admission)])
        assert admitted == 3
        for _ in range(admitted):
            account.release(Admission(account.local.standing()), "chat", used(10), 0.5)
        report = await account.report()
        assert (report.shared, report.ever.total().cost) == (False, 1.5)

        await server.start()
        await until(replica, up=True)
        async with asyncio.timeout(20):
            while (await told(server, caller)).get("chat:requests") != "3":
                await asyncio.sleep(0.05)
        assert (await told(server, caller))["chat:cost"] == "1.5"
        assert len([1 for _ in range(9) if isinstance(await tried(account), Admission)]) == 3
        assert replica.ups == [True, False, True]
    lines = [line for line in capsys.readouterr().out.splitlines() if "limits_store_" in line]
    assert ["up" if "limits_store_up" in line else "down" for line in lines] == ["up", "down", "up"]


async def test_use_whose_telling_was_not_answered_is_counted_once(server: RedisServer, caller: str) -> None:
    async with run_replica(server.url, answer_s=ANSWER_S) as replica:
        account = replica.of(caller, Allowance())
        account.release(await account.admit(30), "chat", used(100), 0)
        await replica.store.tell_use([(caller, account.ledger)])  # From here on the server knows the script.
        account.release(await account.admit(30), "chat", used(7), 0)
        server.pause()
        # The bytes reach the server, which carries them out when it goes on, after they were given up here.
        await replica.store.tell_use([(caller, account.ledger)])
        assert account.ledger.untold()["chat"].input == 7
        account.release(await account.admit(30), "chat", used(1), 0)
        server.resume()
        async with asyncio.timeout(20):
            while account.ledger.untold():
                await asyncio.sleep(0.02)
        fields = await told(server, caller)
        assert (fields["chat:requests"], fields["chat:input"]) == ("3", "108")


async def test_a_place_taken_without_an_answer_is_given_back(server: RedisServer, caller: str) -> None:
    allowance = Allowance(concurrency=1)
    async with run_replica(server.url, answer_s=ANSWER_S) as replica:
        account = replica.of(caller, allowance)
        server.pause()
        admission = await timed(account)
        assert isinstance(admission, Admission)
        assert admission.call_id == "", "let in by this process"
        account.release(admission, "chat", used(), 0)
        server.resume()
        await until(replica, up=True)
        await until_running(replica, caller, allowance, 0)
        assert isinstance(await tried(account), Admission)


async def test_a_service_starts_without_redis_and_finds_it_later(tmp_path: Path, caller: str) -> None:
    server = RedisServer(tmp_path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with run_replica(server.url, answer_s=ANSWER_S) as replica:
        assert loop.time() - began < 10
        assert replica.ups == [False]
        account = replica.of(caller, Allowance(requests_per_minute=1))
        assert isinstance(await timed(account), Admission)
        assert isinstance(await timed(account), OverLimitError)
        await server.start()
        try:
            await until(replica, up=True)
            assert (await account.report()).shared
        finally:
            await server.kill()


async def test_a_service_stops_in_time_while_redis_hangs(
    server: RedisServer, caller: str, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = asyncio.get_running_loop()
    async with run_replica(server.url, answer_s=ANSWER_S) as replica:
        account = replica.of(caller, Allowance())
        account.release(await account.admit(30), "chat", used(1), 0)
        server.pause()
        began = loop.time()
    assert loop.time() - began < 10
    server.resume()
    assert "usage_not_stored" in capsys.readouterr().out


async def test_a_redis_that_refuses_writes_is_not_used(server: RedisServer, caller: str) -> None:
    async with run_replica(server.url) as replica:
        account = replica.of(caller, Allowance(requests_per_minute=1))
        client = server.client()
        await client.config_set("maxmemory", "1")  # With the policy noeviction each write fails from now on.
        assert isinstance(await tried(account), Admission)
        assert isinstance(await tried(account), OverLimitError)
        assert not replica.link.up
        await client.config_set("maxmemory", "0")
        await until(replica, up=True)
        await client.aclose()


async def test_what_is_kept_for_redis_is_bounded(server: RedisServer) -> None:
    async with run_replica(server.url) as replica:
        await server.kill()
        await until(replica, up=False)
        for number in range(MAX_KEPT + 500):
            replica.link.tell(("ZREM", "parley:llm:{x}:running", str(number)), keep=True)
            replica.link.tell(("SET", "x", "1"))
        assert len(replica.link._items) == MAX_KEPT
        await server.start()
        await until(replica, up=True)
        await asyncio.wait_for(replica.link.ask(("GET", "x")), 10)
        assert not replica.link._items
