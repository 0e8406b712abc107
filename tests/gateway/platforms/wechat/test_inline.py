"""Inline replies over real HTTP, with WeChat's times scaled down: what a user sees in which of the three tries."""

import asyncio
import time

from parley_gateway.platforms.wechat.inline import InlineTimings
from parley_gateway.sentences import sentences
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.pusher import Delivery, Timings
from parley_gateway.store.base import StoreLimits

from tests.gateway.platforms.wechat.conftest import CUT_S, OTHER_USER, USER, MakeWorld, World


def tries(delivery: Delivery) -> int:
    return len(delivery.steps)


def test_timings_are_those_of_wechat() -> None:
    timings = InlineTimings()
    assert (timings.answer_by_s, timings.open_until_s) == (4.5, 6.0)
    assert (timings.last_try_after_s, timings.last_try) == (9.5, 3)
    assert timings.scaled(0.1) == InlineTimings(0.45, 0.6000000000000001, 0.9500000000000001, 3)


async def test_quick_answer_comes_with_the_first_try(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    asking = asyncio.create_task(wechat.say(USER, "hi"))
    await asyncio.sleep(0.1)
    ready.set()
    delivery = await asking
    assert (tries(delivery), delivery.text) == (1, "answer to hi")
    assert delivery.steps[0].duration_s < CUT_S
    assert world.seen() == ["answer to hi"]


async def test_slower_answer_comes_with_the_second_try(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    delivery = await wechat.say(USER, "hi", on_step=lambda _step: ready.set())
    assert (tries(delivery), delivery.text) == (2, "answer to hi")
    assert delivery.steps[0].status is None, "the first try is left open until WeChat cuts it"
    assert world.llm.asked == ["hi"]


async def test_late_answer_is_fetched_by_tapping_the_line(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("why is the sky blue?")
    delivery = await wechat.say(USER, "why is the sky blue?")
    assert [step.status for step in delivery.steps] == [None, None, 200]
    (link,) = delivery.links
    assert "why is the sky blue?" in link.label
    assert (link.sends, link.menu_id) == ("show answer", delivery.message_id)
    early = await wechat.tap(USER, link)
    assert early.text.startswith("Still working on it")
    assert [again.menu_id for again in early.links] == [delivery.message_id]
    ready.set()
    await world.until_idle()
    fetched = await wechat.tap(USER, link)
    assert fetched.text == "[why is the…]\nanswer to why is the sky blue?"
    assert world.llm.asked == ["why is the sky blue?"], "a fetch is no question"


async def test_fetch_holds_until_the_answer_is_there(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    (link,) = (await world.ask_late(wechat, "hi")).links
    fetching = asyncio.create_task(wechat.tap(USER, link))
    await asyncio.sleep(0.1)
    assert not fetching.done()
    ready.set()
    assert (await fetching).text.endswith("answer to hi")


async def test_every_try_comes_on_a_connection_of_its_own(world: World) -> None:
    wechat = await world.start(app_secret=None)
    world.llm.hold("hi")
    assert tries(await wechat.say(USER, "hi")) == 3
    assert len(set(world.connections)) == 3


async def test_tries_may_reach_any_replica(world: World) -> None:
    first = await world.start(app_secret=None)
    second = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    push = requests.push(first.webhook, messages.text("gh_simulator", USER, "hi", at=time.time()), at=time.time())
    first.timings = second.timings = Timings(CUT_S, tries=1)
    cut = await first.deliver(push)
    assert cut.failed
    ready.set()
    answered = await second.deliver(push)
    assert answered.text == "answer to hi"
    assert world.llm.asked == ["hi"]


async def test_fetch_may_reach_another_replica_than_the_question(world: World) -> None:
    first = await world.start(app_secret=None)
    second = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    (link,) = (await world.ask_late(first, "hi")).links
    ready.set()
    await world.until_idle()
    assert (await second.tap(USER, link)).text.endswith("answer to hi")


async def test_answer_is_served_again_to_a_late_try_of_the_same_message(world: World) -> None:
    wechat = await world.start(app_secret=None)
    push = requests.push(wechat.webhook, messages.text("gh_simulator", USER, "hi", at=time.time()), at=time.time())
    assert (await wechat.deliver(push)).text == "answer to hi"
    assert (await wechat.deliver(push)).text == "answer to hi"
    assert world.llm.asked == ["hi"]


async def test_second_question_meanwhile_is_answered_too(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("slow")
    slow = asyncio.create_task(wechat.say(USER, "slow"))
    await asyncio.sleep(0.05)
    quick = await wechat.say(USER, "quick")
    (slow_link,), (quick_link,) = (await slow).links, quick.links
    ready.set()
    await world.until_idle()
    assert world.llm.asked == ["slow", "quick"]
    assert (await wechat.tap(USER, quick_link)).text.startswith("[quick]\nanswer to quick")
    assert (await wechat.tap(USER, slow_link)).text == "[slow]\nanswer to slow"


async def test_answers_are_the_users_own(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("mine")
    (link,) = (await world.ask_late(wechat, "mine")).links
    ready.set()
    await world.until_idle()
    assert (await wechat.tap(OTHER_USER, link)).text == "That answer is no longer here. Please ask again."
    assert (await wechat.tap(USER, link)).text.endswith("answer to mine")


async def test_long_answer_is_read_part_by_part(world: World) -> None:
    wechat = await world.start(app_secret=None)
    world.llm.says["tell"] = "one|two|three"
    first = await wechat.say(USER, "tell")
    assert first.text.startswith("one\n\n")
    (link,) = first.links
    assert link.label.endswith("(2/3)")
    second = await wechat.tap(USER, link)
    assert second.text.startswith("[tell]\ntwo\n\n")
    third = await wechat.say(USER, "Continue")
    assert (third.text, third.links) == ("[tell]\nthree", ())
    assert world.llm.asked == ["tell"]


async def test_fetch_is_idempotent_for_each_message(world: World) -> None:
    wechat = await world.start(app_secret=None)
    world.llm.says["tell"] = "one|two|three"
    await wechat.say(USER, "tell")
    fields = messages.text("gh_simulator", USER, "continue", at=time.time())
    push = requests.push(wechat.webhook, fields, at=time.time())
    texts = {(await wechat.deliver(push)).text for _ in range(3)}
    assert len(texts) == 1
    assert "two" in texts.pop()


async def test_tapping_again_shows_the_end_of_an_answer_again(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("hi")
    (link,) = (await world.ask_late(wechat, "hi")).links
    ready.set()
    await world.until_idle()
    assert (await wechat.tap(USER, link)).text == (await wechat.tap(USER, link)).text == "[hi]\nanswer to hi"


async def test_word_fetches_the_oldest_unread_answer(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("first")
    await world.ask_late(wechat, "first")
    await world.ask_late(wechat, "second")
    ready.set()
    await world.until_idle()
    one = await wechat.say(USER, "查看回答")
    assert one.text.startswith("[first]\nanswer to first")
    (link,) = one.links
    assert (await wechat.tap(USER, link)).text == "[second]\nanswer to second"


async def test_word_waits_for_an_answer_in_the_making(world: World) -> None:
    wechat = await world.start(app_secret=None)
    world.llm.hold("hi")
    delivery = await world.ask_late(wechat, "hi")
    early = await wechat.say(USER, "show answer")
    assert [link.menu_id for link in early.links] == [delivery.message_id]
    assert world.llm.asked == ["hi"]


async def test_word_is_a_question_when_there_is_nothing_to_read(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("continue")
    delivery = await wechat.say(USER, "continue", on_step=lambda _step: ready.set())
    assert (tries(delivery), delivery.text) == (2, "answer to continue")
    assert world.llm.asked == ["continue"]


async def test_link_to_an_answer_that_is_gone_says_so(world: World) -> None:
    wechat = await world.start(app_secret=None)
    gone = await wechat.say(USER, "show answer", menu_id="24345678901234567")
    assert gone.text == "That answer is no longer here. Please ask again."
    nothing = await wechat.say(USER, "show answer", menu_id="0")
    assert nothing.text == "There is nothing new to read."
    assert world.llm.asked == []


async def test_tap_on_a_menu_of_the_operator_is_a_question(world: World) -> None:
    wechat = await world.start(app_secret=None)
    assert (await wechat.say(USER, "satisfied", menu_id="101")).text == "answer to satisfied"


async def test_command_is_answered_while_a_question_is_worked_on(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("slow")
    slow = asyncio.create_task(wechat.say(USER, "slow"))
    await asyncio.sleep(0.05)
    helped = await wechat.say(USER, "/help")
    assert "/reset" in helped.text
    assert tries(helped) == 1
    ready.set()
    assert (await slow).text == "answer to slow"


async def test_stopped_question_ends_in_silence(world: World) -> None:
    wechat = await world.start(app_secret=None)
    world.llm.hold("slow")
    slow = asyncio.create_task(wechat.say(USER, "slow"))
    await asyncio.sleep(0.05)
    assert not (await wechat.say(USER, "/stop")).failed
    delivery = await slow
    assert (delivery.text, delivery.failed) == ("", False)


async def test_expired_question_is_told_to_whoever_asks_for_its_answer(world: World) -> None:
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("slow")
    await world.ask_late(wechat, "slow")
    (link,) = (await world.ask_late(wechat, "hi", age_s=598.0)).links
    async with asyncio.timeout(5):
        while not await world.store.expire(now=time.time()):
            await asyncio.sleep(0.05)
    ready.set()
    await world.until_idle()
    told = await wechat.tap(USER, link)
    assert sentences("en").expired.partition("{")[0] in told.text


async def test_follower_is_greeted_at_once_and_asks_as_usual(world: World) -> None:
    wechat = await world.start(app_secret=None, welcome="Welcome, ask me anything!")
    greeted = await wechat.event(USER, "subscribe")
    assert (tries(greeted), greeted.text) == (1, "Welcome, ask me anything!")
    assert (await wechat.event(USER, "subscribe", key="qrscene_7")).text == "Welcome, ask me anything!"
    assert (await wechat.say(USER, "hi")).text == "answer to hi"
    assert (await wechat.event(USER, "unsubscribe")).text == ""
    assert world.llm.asked == ["hi"]


async def test_full_queue_says_that_it_is_busy(make_world: MakeWorld) -> None:
    world = await make_world(limits=StoreLimits(queue_messages=1))
    wechat = await world.start(app_secret=None)
    ready = world.llm.hold("slow")
    slow = asyncio.create_task(wechat.say(USER, "slow"))
    await asyncio.sleep(0.1)
    busy = await wechat.say(OTHER_USER, "hi")
    assert (tries(busy), busy.text) == (1, "Many people are asking right now. Please send that again in a moment.")
    ready.set()
    assert (await slow).text == "answer to slow"


async def test_broken_store_makes_wechat_try_again(world: World) -> None:
    wechat = await world.start(app_secret=None)
    await world.store.close()
    delivery = await wechat.say(USER, "hi")
    assert delivery.failed
    assert [step.status for step in delivery.steps] == [None, None, None], "no try is answered, so all are made"


async def test_forty_users_at_once_get_their_own_answers(world: World) -> None:
    world.platform_times, world.wechat_times = InlineTimings(), Timings()
    wechat = await world.start(app_secret=None, lanes=50)
    users = [f"oUser_{number}" for number in range(40)]
    deliveries = await asyncio.gather(*(wechat.say(user, f"question of {user}") for user in users))
    assert [delivery.text for delivery in deliveries] == [f"answer to question of {user}" for user in users]
    assert [tries(delivery) for delivery in deliveries] == [1] * 40
    assert len(world.llm.asked) == 40
