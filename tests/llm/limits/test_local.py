"""Accounts that are counted by one process: limits, new settings, use."""

import pytest
from parley_llm.limits.account import Accounts
from parley_llm.limits.base import Allowance, Level, OverLimitError
from parley_llm.limits.report import Use
from parley_llm.usage import Usage

from tests.llm.limits.conftest import tried, used
from tests.llm.limits.test_bucket import Clock


async def test_each_limit_refuses_and_says_how_long() -> None:
    clock = Clock()
    accounts = Accounts(monotonic=clock)
    account = accounts.of("crm", Allowance(requests_per_minute=2, tokens_per_minute=60, concurrency=1))
    first = await account.admit(30)
    assert first.standing == (Level(2, 30), Level(60, 0), 1)
    refused = await tried(account)
    assert isinstance(refused, OverLimitError)
    assert (refused.limit, refused.retry_after_s) == ("concurrency", 1)
    account.release(first, "chat", used(90), 0)
    refused = await tried(account)
    assert isinstance(refused, OverLimitError)
    assert (refused.limit, refused.retry_after_s) == ("tokens_per_minute", 31)
    assert refused.standing == (Level(2, 30), Level(60, 90), 0)
    clock.now += 31
    account.release(await account.admit(30), "chat", used(), 0)
    account.release(await account.admit(30), "chat", used(), 0)
    refused = await tried(account)
    assert isinstance(refused, OverLimitError)
    assert refused.limit == "requests_per_minute"
    assert refused.metadata == {"limit": "requests_per_minute", "caller": "crm"}
    assert refused.retry_after_s == pytest.approx(30)


async def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    account = Accounts(monotonic=clock).of("crm", Allowance(requests_per_minute=60))
    for _ in range(60):
        await account.admit(30)
    for _ in range(1000):
        assert isinstance(await tried(account), OverLimitError)
    clock.now += 1
    await account.admit(30)


async def test_without_limits_nothing_is_refused() -> None:
    account = Accounts().of("crm", Allowance())
    admissions = [await account.admit(30) for _ in range(500)]
    assert admissions[-1].standing == (None, None, 0)
    assert (await account.report()).standing.running == 500


async def test_what_is_used_outlives_new_settings_and_changed_limits_start_anew() -> None:
    accounts = Accounts(monotonic=Clock())
    before = Allowance(requests_per_minute=2, tokens_per_minute=100, concurrency=2)
    account = accounts.of("crm", before)
    running = await account.admit(30)
    assert accounts.of("crm", before) is account

    changed = accounts.of("crm", Allowance(requests_per_minute=3, tokens_per_minute=100, concurrency=2))
    assert (await changed.report()).standing == (Level(3, 0), Level(100, 0), 1), "the call in work still counts"
    account.release(running, "chat", used(50), 1.5)
    report = await changed.report()
    assert report.standing == (Level(3, 0), Level(100, 30), 0), "and is charged where the limit is the same"
    assert report.ever.total().cost == 1.5

    accounts.of("erp", before)
    again = accounts.of("crm", before)
    assert (await again.report()).ever.total().requests == 1


async def test_use_is_counted_by_model_and_day() -> None:
    clock = Clock()
    clock.now = 86400 * 20_000 - 10.0
    accounts = Accounts(clock=clock, currency="EUR")
    account = accounts.of("crm", Allowance())
    usage = Usage(input=10, output=5, cached=4, reasoning=3, images=2, seconds=1.5, characters=7)
    account.release(await account.admit(30), "chat", usage, 0.25)
    account.release(await account.admit(30), "draw", usage, 0.5)
    report = await account.report()
    assert report.today == Use(86400 * 19_999.0, report.ever.by_model)
    clock.now += 20
    account.release(await account.admit(30), "chat", usage, 0.25)
    report = await account.report()
    assert (report.shared, report.currency, report.ever.since) == (False, "EUR", 86400 * 20_000 - 10)
    assert {model: sums.requests for model, sums in report.ever.by_model.items()} == {"chat": 2, "draw": 1}
    assert {model: sums.requests for model, sums in report.today.by_model.items()} == {"chat": 1}
    assert report.today.since == 86400 * 20_000
    total = report.ever.total()
    assert (total.requests, total.input, total.output, total.cached, total.reasoning) == (3, 30, 15, 12, 9)
    assert (total.images, total.seconds, total.characters, total.cost) == (6, 4.5, 21, 1.0)
