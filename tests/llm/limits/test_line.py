"""Calls that wait for their caller's limits instead of being refused."""

import asyncio

from parley_llm.limits.account import Account, Accounts
from parley_llm.limits.base import Admission, Allowance, Observer, OverLimitError

from tests.llm.limits.conftest import tried, used


class Watching:
    """What an operator would see."""

    def __init__(self) -> None:
        self.waits: list[tuple[str, float]] = []
        self.depth = 0
        self.observer = Observer(lambda *wait: self.waits.append(wait), self._change)

    def _change(self, change: int) -> None:
        self.depth += change

    def account(self, **allowance: float | None) -> Account:
        """Return an account in one process."""
        return Accounts(observer=self.observer).of("crm", Allowance(**allowance))  # type: ignore[arg-type]


async def settled(watching: Watching, depth: int) -> None:
    async with asyncio.timeout(5):
        while watching.depth != depth:
            await asyncio.sleep(0)


async def test_a_call_waits_for_its_place_and_gets_it_when_another_ends() -> None:
    watching = Watching()
    account = watching.account(concurrency=1, max_wait_s=20)
    first = await account.admit(30)
    waiting = asyncio.create_task(account.admit(30))
    await settled(watching, 1)
    assert watching.waits == []
    account.release(first, "chat", used(), 0)
    assert isinstance(await asyncio.wait_for(waiting, 5), Admission)
    ((caller, seconds),) = watching.waits
    assert (caller, watching.depth) == ("crm", 0)
    assert 0 < seconds < 5


async def test_those_who_wait_are_served_in_their_order_and_newcomers_stand_behind() -> None:
    watching = Watching()
    account = watching.account(concurrency=1, max_wait_s=20)
    served: list[int] = []

    async def call(number: int) -> None:
        admission = await account.admit(30)
        served.append(number)
        await asyncio.sleep(0)
        account.release(admission, "chat", used(), 0)

    running = await account.admit(30)
    calls = []
    for number in range(8):
        calls.append(asyncio.create_task(call(number)))
        await settled(watching, number + 1)
    account.release(running, "chat", used(), 0)
    calls.append(asyncio.create_task(call(8)))
    await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert served == list(range(9))


async def test_a_short_wait_for_requests_is_waited_for() -> None:
    watching = Watching()
    account = watching.account(requests_per_minute=600, max_wait_s=20)
    for _ in range(600):
        account.release(await account.admit(30), "chat", used(), 0)
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        await account.admit(30)
    assert asyncio.get_running_loop().time() - began > 0.05
    assert len(watching.waits) >= 1


async def test_a_wait_that_does_not_fit_is_refused_at_once() -> None:
    watching = Watching()
    account = watching.account(requests_per_minute=1, max_wait_s=20)
    await account.admit(30)
    loop = asyncio.get_running_loop()
    began = loop.time()
    refused = await tried(account)
    assert isinstance(refused, OverLimitError)
    assert refused.retry_after_s is not None
    assert refused.retry_after_s > 50
    assert loop.time() - began < 5


async def test_waiting_ends_with_the_time_or_the_deadline() -> None:
    for max_wait_s, within_s in ((0.05, 30.0), (20.0, 0.05)):
        watching = Watching()
        account = watching.account(concurrency=1, max_wait_s=max_wait_s)
        await account.admit(30)
        # One of them is the first in line, the other never gets to ask.
        refused = await asyncio.gather(tried(account, within_s), tried(account, within_s))
        assert [one.limit for one in refused if isinstance(one, OverLimitError)] == ["concurrency"] * 2
        assert watching.depth == 0
        assert all(0.04 < seconds < 5 for _, seconds in watching.waits)


async def test_the_line_is_bounded() -> None:
    watching = Watching()
    account = watching.account(concurrency=1, max_wait_s=20, max_waiting=2)
    first = await account.admit(30)
    waiting = [asyncio.create_task(account.admit(30)) for _ in range(2)]
    await settled(watching, 2)
    refused = await tried(account)
    assert isinstance(refused, OverLimitError)
    assert refused.limit == "max_waiting"
    assert refused.standing.running == 1
    for task in waiting:
        account.release(first, "chat", used(), 0)
        first = await asyncio.wait_for(task, 5)


async def test_a_caller_that_leaves_the_line_takes_no_place() -> None:
    watching = Watching()
    account = watching.account(concurrency=1, max_wait_s=20)
    first = await account.admit(30)
    waiting = [asyncio.create_task(account.admit(30)) for _ in range(3)]
    await settled(watching, 3)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    assert watching.depth == 1
    account.release(first, "chat", used(), 0)
    account.release(await asyncio.wait_for(waiting[2], 5), "chat", used(), 0)
    assert (await account.report()).standing.running == 0


async def test_by_default_nothing_waits() -> None:
    watching = Watching()
    account = watching.account(concurrency=1)
    await account.admit(30)
    assert isinstance(await tried(account), OverLimitError)
    assert watching.waits == []
