"""What becomes of a question before and while it is answered: joined, quoted, recalled, within its user's tokens."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from parley_gateway.bots import Bot
from parley_gateway.errors import (
    DeliveryError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UpstreamAnswerError,
)
from parley_gateway.limits import estimated_tokens
from parley_gateway.messages import ASKED_AGAIN, Conversation, InboundMessage, MessageKind
from parley_gateway.platforms.base import CAPABILITIES, Capability, Messages, RawResponse, Support
from parley_gateway.ports import AnswerDelta, AnswerFinish, AnswerUsage
from parley_gateway.store.base import Receipt
from parley_gateway.store.records import QueuedMessage, reference_of

from tests.fakes.gateway_parts import NOW, FakePlatform, question
from tests.gateway.conftest import Gateway


class TellingPlatform(FakePlatform):
    """Tells of recalls, and what a message replies to."""

    capabilities: ClassVar[Mapping[str, Capability]] = {name: Capability(Support.DONE) for name in CAPABILITIES} | {
        "streaming": Capability(Support.NOT_YET, "a stand-in")
    }

    def __init__(self) -> None:
        super().__init__()
        self.quoted: str | DeliveryError = "what Bob wrote"
        self.read: list[str] = []

    async def quoted_text(self, message: InboundMessage) -> str:
        self.read.append(message.quotes)
        if isinstance(self.quoted, DeliveryError):
            raise self.quoted
        return self.quoted


@pytest.fixture
def telling(gateway: Gateway) -> TellingPlatform:
    gateway.platform = platform = TellingPlatform()
    gateway.set_bot()
    return platform


def only_bot(gateway: Gateway) -> Bot:
    (bot,) = gateway.bots
    return bot


async def offer(
    gateway: Gateway, text: str, message_id: str, *, user: str = "user", group: bool = False, quotes: str = ""
) -> None:
    """Send a message through the gateway's admission."""
    kind = MessageKind.COMMAND if text.startswith("/") else MessageKind.QUESTION
    one = question(text, message_id=message_id, kind=kind, sent_at=gateway.clock())
    one = replace(one, sender=user, group=group, quotes=quotes, target={"of": message_id})

    async def respond(_receipt: Receipt) -> RawResponse:
        return RawResponse()

    item = QueuedMessage(one, gateway.clock())
    await gateway.admission.admit(only_bot(gateway), Messages((one,), "text", respond), item)


async def asked_of(gateway: Gateway) -> list[str]:
    return [call[-1].content for call in gateway.llm.calls]


async def turns(gateway: Gateway, conversation: Conversation | None = None) -> list[tuple[str, str]]:
    key = (conversation or question().conversation).key
    return [(turn.question, turn.answer) for turn in await gateway.store.history(key, now=gateway.clock())]


async def running(gateway: Gateway) -> asyncio.Task[int]:
    """Begin to work; return when the model was asked."""
    before = len(gateway.llm.calls)
    task = asyncio.create_task(gateway.work("one"))
    while len(gateway.llm.calls) == before:
        await asyncio.sleep(0.01)
    return task


# Bursts


async def test_messages_in_a_row_are_answered_each_by_itself_unless_told(gateway: Gateway) -> None:
    for n in range(3):
        await offer(gateway, f"part {n}", f"m{n}")
    assert await gateway.work() == 3
    assert await asked_of(gateway) == ["part 0", "part 1", "part 2"]


async def test_burst_is_held_back_and_answered_as_one_question_at_the_last_message(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join", join_within="2s")
    await offer(gateway, "first", "m1")
    assert await gateway.work() == 0
    gateway.clock.now += 1.5
    await offer(gateway, "second", "m2")
    await offer(gateway, "third", "m3")
    gateway.clock.now += 0.6
    assert await gateway.work() == 1
    assert await asked_of(gateway) == ["first\nsecond\nthird"]
    assert gateway.platform.phone.targets == [{"of": "m3"}]
    gateway.clock.now += 2
    assert await gateway.work() == 2
    assert len(gateway.platform.phone.texts) == 1
    assert await turns(gateway) == [("first\nsecond\nthird", "answer to first\nsecond\nthird")]
    assert gateway.metric("parley_gateway_replies_total", platform="fake", outcome="joined") == 2
    # Each keeps its delivery key: a redelivery is known.
    await offer(gateway, "second", "m2")
    assert await gateway.work() == 0


async def test_what_waits_behind_a_running_answer_joins_the_next_one(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join", join_within="0s")
    release = asyncio.Event()
    gateway.llm.script = [release]
    await offer(gateway, "first", "m1")
    task = await running(gateway)
    await offer(gateway, "second", "m2")
    await offer(gateway, "third", "m3")
    release.set()
    await task
    assert await asked_of(gateway) == ["first", "second\nthird"]


async def test_command_parts_a_burst(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join", model="chat", models=["big"])
    for text, message_id in (("a", "m1"), ("b", "m2"), ("/model big", "c1"), ("c", "m3"), ("/help", "c2"), ("d", "m4")):
        await offer(gateway, text, message_id)
    gateway.clock.now += 2
    await gateway.work()
    assert await asked_of(gateway) == ["a\nb", "c", "d"]


async def test_reply_to_a_message_begins_a_burst_of_its_own(gateway: Gateway, telling: TellingPlatform) -> None:
    gateway.set_bot(bursts="join")
    await offer(gateway, "a", "m1")
    await offer(gateway, "is that so?", "m2", quotes="om_7")
    await offer(gateway, "really?", "m3")
    gateway.clock.now += 4
    await gateway.work()
    mark = "(Quoted message that this replies to)"
    assert await asked_of(gateway) == ["a", f"{mark}\n> what Bob wrote\n\nis that so?\nreally?"]


async def test_people_of_a_group_are_not_joined(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    for text, user in (("a", "ann"), ("b", "bob"), ("c", "ann")):
        await offer(gateway, text, text, user=user, group=True)
    gateway.clock.now += 2
    await gateway.work()
    assert sorted(await asked_of(gateway)) == ["a\nc", "b"]


async def test_burst_survives_the_worker_that_joined_it(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    await offer(gateway, "first", "m1")
    await offer(gateway, "second", "m2")
    gateway.clock.now += 2
    gateway.llm.script = [asyncio.Event()]
    leased = await gateway.store.lease("dies", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    dying = asyncio.create_task(gateway.pipeline.process(*leased))
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    gateway.clock.now += 16
    await gateway.work("takes over")
    assert await asked_of(gateway) == ["first\nsecond", "first\nsecond"]
    assert gateway.platform.phone.texts == ["answer to first\nsecond"]


async def test_burst_that_fails_for_a_while_takes_along_what_comes_meanwhile(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    gateway.llm.script = [UpstreamAnswerError("RATE_LIMITED", "slow down", True, 5.0)]
    await offer(gateway, "first", "m1")
    await offer(gateway, "second", "m2")
    gateway.clock.now += 2
    await gateway.work()
    await offer(gateway, "third", "m3")
    gateway.clock.now += 60
    await gateway.work()
    assert await asked_of(gateway) == ["first\nsecond", "first\nsecond\nthird"]
    assert gateway.platform.phone.texts == ["answer to first\nsecond\nthird"]


async def test_burst_that_failed_for_good_is_replayed_whole(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    gateway.llm.script = [UpstreamAnswerError("UPSTREAM_AUTH", "no", retryable=False)]
    await offer(gateway, "first", "m1")
    await offer(gateway, "second", "m2")
    gateway.clock.now += 4
    await gateway.work()
    assert len(gateway.platform.phone.texts) == 1, "one sentence for the whole burst"
    reference = reference_of(question(message_id="m1").delivery_key)
    assert await gateway.store.replay(reference, now=gateway.clock())
    await gateway.work()
    assert gateway.platform.phone.texts[-1] == "answer to first\nsecond"


async def test_kept_answer_of_a_burst_is_found_by_its_last_message(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    gateway.platform.phone.keeps = True
    await offer(gateway, "first", "m1")
    await offer(gateway, "second", "m2")
    gateway.clock.now += 4
    await gateway.work()
    key = question().conversation.key
    kept = await gateway.store.wait_answer(key, "m2", timeout_s=0.1)
    assert kept is not None
    assert kept.parts == ("answer to first\nsecond",)
    assert await gateway.store.wait_answer(key, "m1", timeout_s=0) is None


async def test_burst_stays_answered_when_the_bot_no_longer_joins(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    await offer(gateway, "first", "m1")
    await offer(gateway, "second", "m2")
    gateway.clock.now += 4
    leased = await gateway.store.lease("worker", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    following = await gateway.pipeline.process(*leased)
    assert following is not None
    gateway.set_bot(bursts="separate")
    assert await gateway.pipeline.process(leased[0], following) is None
    assert gateway.platform.phone.texts == ["answer to first\nsecond"]


async def test_burst_is_bounded(gateway: Gateway) -> None:
    gateway.set_bot(bursts="join")
    for n in range(3):
        await offer(gateway, str(n) * 9_000, f"m{n}")
    gateway.clock.now += 4
    await gateway.work()
    assert [len(text) for text in await asked_of(gateway)] == [18_001, 9_000]


# Quotes


async def test_quoted_text_is_told_to_the_model_marked_and_bounded(gateway: Gateway, telling: TellingPlatform) -> None:
    telling.quoted = "line one\nline two"
    await gateway.accept(replace(question("is that so?"), quotes="om_7"))
    await gateway.work()
    text = "(Quoted message that this replies to)\n> line one\n> line two\n\nis that so?"
    assert await asked_of(gateway) == [text]
    assert (await turns(gateway))[0][0] == text
    telling.quoted = "x" * 5_000
    await gateway.accept(replace(question("and?", message_id="m2"), quotes="om_8"))
    await gateway.work()
    assert len((await asked_of(gateway))[1]) < 2_100
    assert telling.read == ["om_7", "om_8"]


@pytest.mark.parametrize(
    "quoted", ["", PermanentDeliveryError("no permission", "230027"), TransientDeliveryError("down")]
)
async def test_question_is_answered_without_a_quote_that_can_not_be_had(
    gateway: Gateway, telling: TellingPlatform, quoted: str | DeliveryError
) -> None:
    telling.quoted = quoted
    await gateway.accept(replace(question("is that so?"), quotes="om_7"))
    await gateway.work()
    assert await asked_of(gateway) == ["is that so?"]


async def test_thread_quotes_its_first_message_once(gateway: Gateway, telling: TellingPlatform) -> None:
    conversation = replace(question().conversation, thread="t1")
    for n in (1, 2):
        one = replace(question(f"q{n}", message_id=f"m{n}"), conversation=conversation, quotes="om_root")
        await gateway.accept(one)
        await gateway.work()
    assert telling.read == ["om_root"]
    assert "what Bob wrote" in (await asked_of(gateway))[0]
    assert (await asked_of(gateway))[1] == "q2"


async def test_threads_of_a_chat_have_histories_of_their_own(gateway: Gateway) -> None:
    for n, thread in enumerate(("t1", "t2", "", "t1")):
        conversation = replace(question().conversation, thread=thread)
        await gateway.accept(replace(question(f"q{n}", message_id=f"m{n}"), conversation=conversation))
        await gateway.work()
    assert [len(call) for call in gateway.llm.calls] == [1, 1, 1, 3]
    assert gateway.llm.calls[3][0].content == "q0"


# Recalls


async def recall(gateway: Gateway, message_id: str) -> None:
    await gateway.admission.recall(question().conversation, message_id)


async def test_recalled_question_that_waits_is_dropped(gateway: Gateway, telling: TellingPlatform) -> None:
    await gateway.accept(question("one"))
    await gateway.accept(question("two", message_id="m2"))
    await recall(gateway, "m1")
    await gateway.work()
    assert await asked_of(gateway) == ["two"]
    assert gateway.metric("parley_gateway_replies_total", platform="fake", outcome="recalled") == 1


async def test_recall_that_comes_before_its_message_holds(gateway: Gateway, telling: TellingPlatform) -> None:
    await recall(gateway, "m1")
    await gateway.accept(question("one"))
    await gateway.work()
    assert gateway.llm.calls == []


async def test_recalled_question_that_is_being_answered_is_cancelled(
    gateway: Gateway, telling: TellingPlatform
) -> None:
    gateway.llm.script = [asyncio.Event()]
    await gateway.accept(question("one"))
    task = await running(gateway)
    await recall(gateway, "m1")
    async with asyncio.timeout(10):
        await task
    assert gateway.llm.cancelled == 1
    assert telling.phone.texts == []
    assert await turns(gateway) == []


async def test_recalled_turn_leaves_the_history_alone(gateway: Gateway, telling: TellingPlatform) -> None:
    for n in (1, 2):
        await gateway.accept(question(f"q{n}", message_id=f"m{n}"))
        await gateway.work()
    await recall(gateway, "m1")
    assert await turns(gateway) == [("q2", "answer to q2")]


async def test_recall_takes_back_what_was_asked_again(gateway: Gateway, telling: TellingPlatform) -> None:
    again = f"m1{ASKED_AGAIN}1"
    await gateway.accept(question("one"))
    await gateway.accept(replace(question("one", message_id=again), replaces="m1"))
    await gateway.work()
    assert len(await turns(gateway)) == 1
    await recall(gateway, "m1")
    assert await turns(gateway) == []
    await gateway.accept(replace(question("one", message_id=f"m1{ASKED_AGAIN}2"), replaces=again))
    await gateway.work()
    assert len(gateway.llm.calls) == 2


async def test_question_recalled_while_its_answer_is_sent_is_not_remembered(
    gateway: Gateway, telling: TellingPlatform
) -> None:
    telling.phone.hold = asyncio.Event()
    await gateway.accept(question("one"))
    task = asyncio.create_task(gateway.work())
    await telling.phone.accepted.wait()
    await recall(gateway, "m1")
    telling.phone.hold.set()
    await task
    assert telling.phone.texts == ["answer to one"]
    assert await turns(gateway) == []


async def test_recalled_part_of_a_burst_is_left_out(gateway: Gateway, telling: TellingPlatform) -> None:
    gateway.set_bot(bursts="join")
    for text, message_id in (("a", "m1"), ("b", "m2"), ("c", "m3")):
        await offer(gateway, text, message_id)
    await recall(gateway, "m1")
    await recall(gateway, "m3")
    gateway.clock.now += 4
    await gateway.work()
    assert await asked_of(gateway) == ["b"]
    assert await turns(gateway) == [("b", "answer to b")]


async def test_part_of_a_burst_recalled_meanwhile_starts_the_answer_again(
    gateway: Gateway, telling: TellingPlatform
) -> None:
    gateway.set_bot(bursts="join")
    await offer(gateway, "a", "m1")
    await offer(gateway, "b", "m2")
    gateway.clock.now += 4
    gateway.llm.script = [asyncio.Event()]
    task = await running(gateway)
    await recall(gateway, "m2")
    async with asyncio.timeout(10):
        await task
    assert await asked_of(gateway) == ["a\nb", "a"]
    assert telling.phone.texts == ["answer to a"]


# Tokens


async def test_tokens_of_a_day_end_with_one_sentence_and_begin_anew_the_next_day(gateway: Gateway) -> None:
    gateway.set_bot(limits={"tokens_per_user_day": 100})
    gateway.llm.script = [[AnswerDelta("long"), AnswerUsage(99), AnswerFinish("stop")]]
    for n in range(4):
        await offer(gateway, "question number one", f"m{n}")
    await offer(gateway, "other", "b1", user="bob", group=True)
    await gateway.work()
    texts = gateway.platform.phone.texts
    assert texts[0] == "long"
    assert texts[1] == "answer to question number one", "the limit is looked at before an answer, not within it"
    assert sum("used up" in text for text in texts) == 1
    assert texts[-1] == "answer to other"
    assert len(gateway.llm.calls) == 3
    assert gateway.metric("parley_gateway_replies_total", platform="fake", outcome="limited") == 1
    assert len(await turns(gateway)) == 3
    gateway.clock.now = (NOW // 86_400 + 1) * 86_400
    await offer(gateway, "next day", "m9")
    await gateway.work()
    assert gateway.platform.phone.texts[-1] == "answer to next day"


async def test_tokens_are_estimated_where_the_upstream_does_not_count(gateway: Gateway) -> None:
    gateway.set_bot(limits={"tokens_per_user_day": 1000})
    await offer(gateway, "问" * 300, "m1")
    await gateway.work()
    key = await gateway.questions.limits.tokens_used(question())
    assert key == estimated_tokens("问" * 300, "answer to " + "问" * 300)
    assert 600 <= key <= 610


async def test_tokens_of_admins_are_free_and_commands_always_work(gateway: Gateway) -> None:
    gateway.set_bot(limits={"tokens_per_user_day": 1}, admins=["root"])
    for n in range(2):
        await offer(gateway, "hello", f"r{n}", user="root", group=True)
    for n in range(2):
        await offer(gateway, "hello", f"a{n}", user="ann", group=True)
    await gateway.work()
    await offer(gateway, "/help", "a9", user="ann", group=True)
    await gateway.work()
    assert len(gateway.llm.calls) == 3
    assert gateway.platform.phone.texts[-1].startswith("Just write to me")


# History


async def test_history_ends_with_its_time_and_is_cut_by_the_formatter_to_the_bots_budget(gateway: Gateway) -> None:
    gateway.set_bot(history_tokens=1234)
    await gateway.accept(question("one"))
    await gateway.work()
    gateway.clock.now += 8 * 86_400
    await gateway.accept(question("two", message_id="m2", sent_at=gateway.clock()))
    await gateway.work()
    assert [len(call) for call in gateway.llm.calls] == [1, 1]
    assert gateway.formatter.budgets == [1234, 1234]


async def test_used_up_tokens_are_told_where_answers_are_kept_too(gateway: Gateway) -> None:
    gateway.set_bot(limits={"tokens_per_user_day": 1})
    gateway.platform.phone.keeps = True
    await offer(gateway, "one", "m1")
    await offer(gateway, "two", "m2")
    await gateway.work()
    kept = await gateway.store.wait_answer(question().conversation.key, "m2", timeout_s=0.1)
    assert kept is not None
    assert "used up" in kept.parts[0]
