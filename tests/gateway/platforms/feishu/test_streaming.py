"""The card that shows an answer while it is written, against the simulated CardKit with all its limits."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from parley_gateway.errors import RefusedContentError, TransientDeliveryError
from parley_gateway.messages import InboundMessage, MessageKind, OutboundPart
from parley_gateway.platforms.base import BotContext, Click, PlatformServices, ReplySession, SendKey
from parley_gateway.platforms.feishu import streaming_card
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.simulators.feishu.cardkit import Entity
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedMessage
from parley_gateway.simulators.feishu.errors import APIError
from parley_gateway.simulators.feishu.events import button_values

from tests.fakes.gateway_parts import COMMANDS
from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu.conftest import Calls, Clock, NoAnswers, make_platform, make_settings
from tests.gateway.platforms.feishu.test_send import CHAT, asked, card

PAYLOAD = card({"tag": "markdown", "content": "Hello **world**, this is all."})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show states without waiting between them."""
    monkeypatch.setattr(streaming_card, "PACE_S", 0.0)
    monkeypatch.setattr(streaming_card, "_WAIT_S", 0.01)


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
async def bot(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls, reports: list[str]
) -> AsyncIterator[FeishuPlatform]:
    services = PlatformServices(
        BotContext("team", "en", COMMANDS), NoAnswers(), cache, clock, calls, reports.append, environ={}
    )
    built = FeishuPlatform(make_settings(base_url), services)
    yield built
    await built.close()


@pytest.fixture
def message(cloud: FeishuCloud) -> InboundMessage:
    return asked(cloud)


@pytest.fixture
def key(clock: Clock) -> SendKey:
    return SendKey("part-uuid-1", clock.now)


def shown(cloud: FeishuCloud) -> tuple[SimulatedMessage, Entity]:
    """Return the one message of the bot and the card that it shows."""
    (seen,) = cloud.seen_in(CHAT)
    return seen, cloud.card_of(seen)


def first_element(entity: Entity) -> str:
    element: Mapping[str, str] = entity.card["body"]["elements"][0]
    return element["content"]


def clicks_of(entity: Entity) -> list[str]:
    return [value["parley"] for value in button_values(entity.card)]


@pytest.mark.usefixtures("quick")
async def test_card_grows_and_is_complete_in_the_end(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey, reports: list[str]
) -> None:
    reply = bot.open_reply(message, {}, generation=3)
    assert reply.shows_progress
    await reply.begin()
    assert cloud.seen_in(CHAT) == [], "what is needed to go on is stored before anything is seen"
    assert reply.state()["card"] in cloud.cardkit.entities
    await reply.update("")
    seen, entity = shown(cloud)
    assert seen.parent_id == message.message_id
    assert first_element(entity) == "Thinking…"
    assert clicks_of(entity) == [Click.STOP]
    assert cloud.is_streaming(seen)
    for text in ("Hello", "Hello **world**", "Hello **world**, this"):
        await reply.update(text)
    assert entity.texts == ["Hello", "Hello **world**", "Hello **world**, this"]
    assert entity.jumps == 0

    assert await reply.send(OutboundPart(payload=PAYLOAD), key) == seen.message_id
    seen, entity = shown(cloud)
    assert first_element(entity) == "Hello **world**, this is all."
    assert clicks_of(entity) == [Click.REGENERATE, Click.GOOD, Click.BAD]
    assert not cloud.is_streaming(seen)
    assert reports == []


async def test_states_keep_below_the_rate_that_feishu_takes(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls, cloud: FeishuCloud
) -> None:
    platform = make_platform(make_settings(base_url), cache, clock, calls)
    reply = platform.open_reply(asked(cloud), {})
    await reply.begin()
    began = asyncio.get_running_loop().time()
    for number in range(6):
        await reply.update("word " * (number + 1))
    took = asyncio.get_running_loop().time() - began
    await platform.close()
    assert took >= 5 * streaming_card.PACE_S - 0.05
    assert all(outcome == "ok" for _, outcome, _ in calls.seen)


@pytest.mark.usefixtures("quick")
async def test_next_worker_goes_on_with_the_same_card_and_the_last_one_cannot(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    dead = bot.open_reply(message, {}, generation=7)
    await dead.begin()
    state = dict(dead.state())
    await dead.update("Old words")
    heir = bot.open_reply(message, state, generation=9)
    await heir.begin()
    await heir.update("New words")
    seen, entity = shown(cloud)
    assert first_element(entity) == "New words"
    assert entity.sequence == 300_001, "generation 9 is the third since the card was made"
    await dead.update("Old words that come late")
    with pytest.raises(TransientDeliveryError, match="300317"):
        await dead.send(OutboundPart(payload=PAYLOAD), key)
    assert first_element(entity) == "New words"
    assert await heir.send(OutboundPart(payload=PAYLOAD), key) == seen.message_id
    assert len(cloud.cardkit.entities) == 1


@pytest.mark.usefixtures("quick")
async def test_card_whose_sending_was_not_recorded_is_seen_once(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    dead = bot.open_reply(message, {})
    await dead.begin()
    state = dict(dead.state())
    cloud.lose_next_answer("reply")
    await dead.update("")
    assert "message" not in dead.state()
    heir = bot.open_reply(message, state, generation=2)
    await heir.send(OutboundPart(payload=PAYLOAD), key)
    seen, entity = shown(cloud)
    assert first_element(entity) == "Hello **world**, this is all."
    assert not cloud.is_streaming(seen)


@pytest.mark.usefixtures("quick")
async def test_complete_answer_can_be_shown_twice(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    cloud.lose_next_answer("card_replace")
    with pytest.raises(TransientDeliveryError):
        await reply.send(OutboundPart(payload=PAYLOAD), key)
    again = bot.open_reply(message, reply.state(), generation=2)
    await again.send(OutboundPart(payload=PAYLOAD), key)
    assert len(cloud.seen_in(CHAT)) == 1


@pytest.mark.usefixtures("quick")
async def test_without_the_permission_a_plain_card_comes_and_cardkit_is_left_alone(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey, reports: list[str], clock: Clock
) -> None:
    cloud.fail_next("card_create", APIError(99991672, "scope needed: cardkit:card:write"))
    for _ in range(2):
        reply = bot.open_reply(message, {})
        await reply.begin()
        assert not reply.shows_progress
        assert reply.state() == {}
        await reply.update("Hello")
    assert cloud.calls["card_create"] == 1
    assert reports == ["cardkit_refused", "cardkit_refused"]
    await reply.send(OutboundPart(payload=PAYLOAD), key)
    (seen,) = cloud.seen_in(CHAT)
    assert (seen.msg_type, seen.card_id) == ("interactive", "")
    clock.now += 601
    later = bot.open_reply(message, {})
    await later.begin()
    assert later.state()["card"], "a permission may be given meanwhile"


@pytest.mark.usefixtures("quick")
async def test_refused_content_becomes_text_on_the_same_card(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey, reports: list[str]
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    await reply.update("Hello")
    bad = card({"tag": "markdown", "content": "![x](https://e.com/a.png)"})
    with pytest.raises(RefusedContentError):
        await reply.send(OutboundPart(payload=bad, fallback_text="plain"), key)
    await reply.send(OutboundPart(text="plain <at id=all></at> **text**"), key)
    seen, entity = shown(cloud)
    assert entity.card["body"]["elements"] == [
        {"tag": "div", "text": {"tag": "plain_text", "content": "plain <at id=all></at> **text**"}}
    ]
    assert not cloud.is_streaming(seen)
    assert reports == ["card_refused"]


@pytest.mark.usefixtures("quick")
async def test_card_that_is_gone_is_replaced_by_a_message(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey, reports: list[str]
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    await reply.update("Hello")
    cloud.cardkit.entities[reply.state()["card"]].created_at -= 15 * 86400
    await reply.send(OutboundPart(payload=PAYLOAD), key)
    (seen,) = cloud.seen_in(CHAT)
    assert seen.card_id == "", "the unfinished card was taken away"
    assert json.loads(seen.content)["body"]["elements"][0]["content"] == "Hello **world**, this is all."
    assert reply.state() == {}
    assert reports == ["cardkit_refused"]


@pytest.mark.usefixtures("quick")
async def test_streaming_is_switched_on_again_before_and_after_it_ended(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, clock: Clock, calls: Calls
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    await reply.update("One")
    clock.now += 9.5 * 60
    await reply.update("One two")
    _, entity = shown(cloud)
    assert entity.texts == ["One", "One two"]
    assert entity.streaming_since == clock.now
    # Feishu ended it early: the state that met this is skipped, the next one has all of it.
    entity.streaming_since = None
    await reply.update("One two three")
    await reply.update("One two three four")
    assert entity.texts == ["One", "One two", "One two three four"]
    assert ("card_text", "error", "unavailable") in calls.seen


@pytest.mark.usefixtures("quick")
async def test_changes_wait_while_a_click_is_answered(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey, clock: Clock
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    await reply.update("One")
    _, entity = shown(cloud)
    entity.answering_until = clock.now + 1
    await reply.update("One two")
    assert entity.texts == ["One"]
    sending = asyncio.create_task(reply.send(OutboundPart(payload=PAYLOAD), key))
    await asyncio.sleep(0.05)
    clock.now += 1.1
    await sending
    assert first_element(entity) == "Hello **world**, this is all."


@pytest.mark.usefixtures("quick")
async def test_rate_limit_delays_the_complete_answer_only(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    cloud.fail_next("card_text", APIError(99991400, "too fast", 429))
    await reply.update("One")
    cloud.fail_next("card_replace", APIError(99991400, "too fast", 429))
    await reply.send(OutboundPart(payload=PAYLOAD), key)
    _, entity = shown(cloud)
    assert first_element(entity) == "Hello **world**, this is all."


@pytest.mark.usefixtures("quick")
async def test_notice_of_another_lane_completes_the_card(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    reply = bot.open_reply(message, {}, generation=500)
    await reply.begin()
    await reply.update("Words of a question that expired")
    notice = replace(message, kind=MessageKind.NOTICE, text="expired")
    told = bot.open_reply(notice, reply.state(), generation=1)
    await told.send(OutboundPart(text="Sorry, too late."), key)
    seen, entity = shown(cloud)
    assert entity.card["body"]["elements"][0]["text"]["content"] == "Sorry, too late."
    assert not cloud.is_streaming(seen)
    assert clicks_of(entity) == []


@pytest.mark.usefixtures("quick")
async def test_further_parts_follow_as_messages_and_only_the_last_has_buttons(
    bot: FeishuPlatform, cloud: FeishuCloud, message: InboundMessage, clock: Clock
) -> None:
    reply = bot.open_reply(message, {})
    await reply.begin()
    for index in range(3):
        part = OutboundPart(payload=card({"tag": "markdown", "content": f"part {index}"}))
        await reply.send(part, SendKey(f"uuid-{index}", clock.now, index, 3))
    seen = cloud.seen_in(CHAT)
    cards = [json.loads(each.content) for each in seen]
    assert [each["body"]["elements"][0]["content"] for each in cards] == ["part 0", "part 1", "part 2"]
    assert [bool(each.card_id) for each in seen] == [True, False, False]
    assert [len(button_values(each)) for each in cards] == [0, 0, 3]


async def test_streaming_can_be_switched_off(
    base_url: str, cache: MemoryCache, clock: Clock, calls: Calls, cloud: FeishuCloud
) -> None:
    platform = make_platform(make_settings(base_url, streaming=False), cache, clock, calls)
    reply: ReplySession = platform.open_reply(asked(cloud), {})
    await reply.begin()
    await platform.close()
    assert not reply.shows_progress
    assert (reply.state(), cloud.cardkit.entities) == ({}, {})


def test_buttons_fit_on_the_fullest_card_or_stay_away() -> None:
    from parley_gateway.platforms.feishu.cards import with_rating
    from parley_gateway.platforms.feishu.sentences import sentences_for

    cloud = FeishuCloud()
    for size, fits in ((27_000, True), (29_900, False)):
        payload = card({"tag": "markdown", "content": "x" * size})
        made = with_rating(payload, sentences_for("en"), asked(cloud))
        assert len(made.encode()) <= 30 * 1024
        assert bool(button_values(json.loads(made))) is fits
