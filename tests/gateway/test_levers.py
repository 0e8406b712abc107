"""Pausing bots: known to all replicas, in the store, with an end."""

import asyncio

import pytest
from parley_gateway.errors import StoreUnavailableError
from parley_gateway.levers import KEY, LOCK_S, LONGEST_PAUSE_S, Levers

from tests.fakes.gateway_parts import NOW, question
from tests.gateway.conftest import Gateway


async def test_every_replica_knows_a_pause_after_its_next_look(gateway: Gateway) -> None:
    told: list[str] = []
    here, there = gateway.levers, Levers(gateway.store, gateway.clock, lambda: told.append("changed"))
    pause = await here.pause("wechat", "support", notice="Back at noon.", for_s=600)
    assert here.paused("wechat", "support") == pause
    assert there.paused("wechat", "support") is None
    await there.refresh()
    assert there.paused("wechat", "support") == pause
    assert (pause.since, pause.until, pause.notice) == (NOW, NOW + 600, "Back at noon.")
    assert there.paused("feishu", "support") is None
    await there.refresh()
    assert told == ["changed"]
    assert await there.resume("wechat", "support")
    await here.refresh()
    assert here.paused("wechat", "support") is None
    assert not await here.resume("wechat", "support")


async def test_pause_ends_by_itself(gateway: Gateway) -> None:
    levers = gateway.levers
    await levers.pause("wechat", "short", notice="", for_s=60)
    await levers.pause("wechat", "long", notice="", for_s=None)
    gateway.clock.now += 60
    assert levers.paused("wechat", "short") is None
    await levers.refresh()
    assert [pause.bot for pause in levers.pauses()] == ["long"]
    gateway.clock.now += LONGEST_PAUSE_S
    await levers.refresh()
    assert levers.pauses() == []
    assert await gateway.store.cache_get(KEY, now=gateway.clock()) is None


async def test_two_replicas_that_pull_at_once_lose_nothing(gateway: Gateway) -> None:
    replicas = [Levers(gateway.store, gateway.clock) for _ in range(6)]
    await asyncio.gather(
        *(levers.pause("wechat", f"bot{number}", notice="", for_s=60) for number, levers in enumerate(replicas))
    )
    await gateway.levers.refresh()
    assert {pause.bot for pause in gateway.levers.pauses()} == {f"bot{number}" for number in range(6)}


async def test_lock_of_a_dead_process_is_waited_for_and_runs_out(gateway: Gateway) -> None:
    assert await gateway.store.try_lock(KEY, "dead", now=gateway.clock(), ttl_s=LOCK_S)
    with pytest.raises(StoreUnavailableError, match="being changed by somebody else"):
        await gateway.levers.pause("wechat", "support", notice="", for_s=60)
    gateway.clock.now += LOCK_S
    await gateway.levers.pause("wechat", "support", notice="", for_s=60)


async def test_what_was_known_stays_while_the_store_is_away(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await gateway.levers.pause("wechat", "support", notice="", for_s=600)

    async def away(*_args: object, **_kwargs: object) -> None:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(gateway.store, "cache_get", away)
    with pytest.raises(StoreUnavailableError):
        await gateway.levers.refresh()
    assert gateway.levers.paused("wechat", "support") is not None


async def test_fields_of_a_newer_release_are_passed_over(gateway: Gateway) -> None:
    text = (
        '{"v": 2, "paused": [{"platform": "wechat", "bot": "b", "since": 1, "until": 9999999999, "color": "red"}], '
        '"slowed": []}'
    )
    await gateway.store.cache_put(KEY, text, expires_at=NOW + 60)
    await gateway.levers.refresh()
    pause = gateway.levers.paused("wechat", "b")
    assert pause is not None
    assert pause.notice == ""


async def test_one_person_is_told_once_an_hour_and_again_of_another_pause(gateway: Gateway) -> None:
    levers = gateway.levers
    pause = await levers.pause("fake", "default", notice="", for_s=None)
    first, second = question(message_id="m1"), question(message_id="m2")
    assert await levers.may_tell(pause, first)
    assert not await levers.may_tell(pause, second)
    assert await levers.may_tell(pause, first), "a redelivery of the message that was told"
    assert await levers.may_tell(pause, question(message_id="m3", chat="c2")), "somebody else"
    gateway.clock.now += 3600
    assert await levers.may_tell(pause, second)
    again = await levers.pause("fake", "default", notice="", for_s=None)
    assert await levers.may_tell(again, question(message_id="m4"))
