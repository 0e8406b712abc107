"""One message's way through the pipeline, with everything that can go wrong on it."""

import asyncio

import pytest
from parley_gateway.errors import (
    FormatterError,
    KeepForLaterError,
    LeaseLostError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
    UpstreamAnswerError,
)
from parley_gateway.messages import MessageKind, OutboundPart
from parley_gateway.ports import AnswerDelta, AnswerFinish, AnswerReset, FormattedReply
from parley_gateway.store.records import reference_of

from tests.fakes.gateway_parts import NOW, question
from tests.gateway.conftest import Gateway


async def history(gateway: Gateway, chat: str = "c1") -> list[tuple[str, str]]:
    turns = await gateway.store.history(question(chat=chat).conversation.key, now=gateway.clock())
    return [(turn.question, turn.answer) for turn in turns]


async def test_question_is_answered_sent_and_remembered(gateway: Gateway) -> None:
    await gateway.accept(question("one"))
    assert await gateway.work() == 1
    assert gateway.platform.phone.texts == ["answer to one"]
    assert await history(gateway) == [("one", "answer to one")]
    await gateway.accept(question("two", message_id="m2"))
    await gateway.work()
    assert [message.content for message in gateway.llm.calls[1]] == ["one", "answer to one", "two"]
    assert gateway.metric("parley_gateway_replies_total", platform="fake", outcome="delivered") == 2


async def test_redelivered_message_is_answered_once(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.accept(question("one"))
    assert await gateway.work() == 1
    assert len(gateway.llm.calls) == 1


async def test_reset_event_takes_back_what_was_streamed(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("wrong"), AnswerReset(), AnswerDelta("right"), AnswerFinish("stop")]]
    await gateway.accept(question())
    await gateway.work()
    assert gateway.platform.phone.texts == ["right"]


async def test_takeover_between_two_parts_goes_on_without_asking_again(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("part 1|part 2|part 3"), AnswerFinish("stop")]]
    phone = gateway.platform.phone
    await gateway.accept(question())
    leased = await gateway.store.lease("dies", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    phone.hold = asyncio.Event()
    dying = asyncio.create_task(gateway.pipeline.process(*leased))
    await phone.accepted.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert phone.texts == ["part 1"]

    phone.hold = None
    gateway.clock.now += 16
    await gateway.work("takes over")
    # The first part was accepted but not recorded: it is sent again under its key, which the platform knows.
    assert phone.texts == ["part 1", "part 2", "part 3"]
    assert phone.keys[0] == phone.keys[1]
    assert len(set(phone.keys)) == 3
    assert len(gateway.llm.calls) == 1


async def test_worker_that_lost_its_lease_sends_nothing(gateway: Gateway) -> None:
    release = asyncio.Event()
    gateway.llm.script = [release]
    await gateway.accept(question())
    leased = await gateway.store.lease("slow", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    slow = asyncio.create_task(gateway.pipeline.process(*leased))
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    gateway.clock.now += 16
    assert await gateway.work("fast") == 1
    release.set()
    with pytest.raises(LeaseLostError):
        await slow
    assert gateway.platform.phone.texts == ["answer to hello"]
    assert len(await history(gateway)) == 1


async def test_failure_that_may_pass_keeps_the_place_and_asks_once_more(gateway: Gateway) -> None:
    gateway.llm.script = [UpstreamAnswerError("RATE_LIMITED", "slow down", True, 7.0)]
    await gateway.accept(question("one"))
    await gateway.accept(question("two", message_id="m2"))
    assert await gateway.work() == 1
    assert gateway.platform.phone.texts == []
    gateway.clock.now += 6.9
    assert await gateway.work() == 0
    gateway.clock.now += 0.2
    assert await gateway.work() == 2
    assert gateway.platform.phone.texts == ["answer to one", "answer to two"]
    assert gateway.llm.max_attempts == [None, 1, None]


@pytest.mark.parametrize(
    ("reason", "begins"),
    [("CONTENT_FILTERED", "Sorry, I can't answer that"), ("CONTEXT_LENGTH_EXCEEDED", "Sorry, that is too long"),
     ("UPSTREAM_AUTH", "Sorry, I could not answer")],
)  # fmt: skip
async def test_failure_for_good_is_told_with_an_id_and_filed(gateway: Gateway, reason: str, begins: str) -> None:
    gateway.llm.script = [UpstreamAnswerError(reason, "no", retryable=False)]
    message = question()
    await gateway.accept(message)
    await gateway.work()
    reference = reference_of(message.delivery_key)
    (text,) = gateway.platform.phone.texts
    assert text.startswith(begins)
    assert reference in text
    (dead,) = await gateway.store.dead_letters()
    assert (dead.reference, dead.reason) == (reference, "llm")
    assert await history(gateway) == []


async def test_answer_that_a_filter_cut_is_not_shown_or_remembered(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("half of"), AnswerFinish("content_filter")]]
    await gateway.accept(question())
    await gateway.work()
    assert gateway.platform.phone.texts[0].startswith("Sorry, I can't answer that")
    assert await history(gateway) == []


async def test_answer_cut_by_length_says_so(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("long"), AnswerFinish("length")]]
    await gateway.accept(question())
    await gateway.work()
    assert gateway.platform.phone.texts == ["long\n\n(The answer was cut: it reached the model's length limit.)"]


async def test_formatter_that_is_down_costs_no_second_answer(gateway: Gateway) -> None:
    gateway.formatter.errors = [
        FormatterError("UNAVAILABLE", "down", True),
        FormatterError("UNAVAILABLE", "down", True),
    ]
    await gateway.accept(question())
    await gateway.work()
    gateway.clock.now += 60
    await gateway.work()
    assert gateway.platform.phone.texts == []
    gateway.clock.now += 60
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]
    assert len(gateway.llm.calls) == 1


async def test_refused_rendering_is_sent_as_its_plain_form_under_the_same_key(gateway: Gateway) -> None:
    async def card(*_args: object, **_keywords: object) -> FormattedReply:
        return FormattedReply((OutboundPart(payload='{"card":1}', fallback_text="plain"),), truncated=False)

    gateway.formatter.format_reply = card  # type: ignore[method-assign]
    gateway.platform.phone.failures = [RefusedContentError("too many tables", "11310")]
    await gateway.accept(question())
    await gateway.work()
    assert gateway.platform.phone.texts == ["plain"]


async def test_unknown_outcome_is_repeated_under_the_same_key(gateway: Gateway) -> None:
    gateway.platform.phone.failures = [TransientDeliveryError("time-out")]
    await gateway.accept(question())
    await gateway.work()
    gateway.clock.now += 60
    await gateway.work()
    assert gateway.platform.phone.texts == ["answer to hello"]
    assert len(gateway.llm.calls) == 1


async def test_failure_between_two_parts_repeats_only_what_is_not_sent(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("part 1|part 2"), AnswerFinish("stop")]]
    phone = gateway.platform.phone
    phone.idempotent = False
    await gateway.accept(question())

    async def fail_second() -> None:
        await phone.accepted.wait()
        phone.failures.append(TransientDeliveryError("busy", "-1"))

    await asyncio.gather(gateway.work(), fail_second())
    gateway.clock.now += 60
    await gateway.work()
    assert phone.texts == ["part 1", "part 2"]


async def test_refusal_for_good_files_a_dead_letter(gateway: Gateway) -> None:
    gateway.platform.phone.failures = [PermanentDeliveryError("blocked", "43019")]
    await gateway.accept(question())
    await gateway.work()
    (dead,) = await gateway.store.dead_letters()
    assert dead.reason == "delivery"
    assert gateway.metric("parley_gateway_replies_total", platform="fake", outcome="failed") == 1


async def test_answer_that_can_not_be_pushed_is_kept_from_where_it_stopped(gateway: Gateway) -> None:
    gateway.llm.script = [[AnswerDelta("sent|kept 1|kept 2"), AnswerFinish("stop")]]
    phone = gateway.platform.phone
    await gateway.accept(question("ask"))
    phone.accepted.clear()
    real_send = phone.failures

    async def fail_second() -> None:
        await phone.accepted.wait()
        real_send.append(KeepForLaterError("quota", "45047"))

    await asyncio.gather(gateway.work(), fail_second())
    assert phone.texts == ["sent"]
    conversation = question().conversation.key
    part = await gateway.store.claim_part(conversation, request_key="r1", answer_id=None, now=gateway.clock())
    assert part is not None
    assert (part.text, part.total, part.question) == ("kept 1", 2, "ask")
    assert await history(gateway) == [("ask", "sent|kept 1|kept 2")]


async def test_session_that_keeps_answers_sends_nothing(gateway: Gateway) -> None:
    gateway.platform.phone.keeps = True
    message = question()
    await gateway.accept(message)
    await gateway.work()
    assert gateway.platform.phone.texts == []
    kept = await gateway.store.wait_answer(message.conversation.key, "m1", timeout_s=0.1)
    assert kept is not None
    assert kept.parts == ("answer to hello",)


async def test_help_passes_a_running_question_by(gateway: Gateway) -> None:
    release = asyncio.Event()
    gateway.llm.script = [release]
    await gateway.accept(question())
    running = asyncio.create_task(gateway.work())
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    await gateway.accept(question("/help", message_id="m2", kind=MessageKind.COMMAND))
    await gateway.work("other")
    assert gateway.platform.phone.texts[0].startswith("Just write to me")
    release.set()
    await running
    assert len(gateway.platform.phone.texts) == 2


async def test_stop_ends_the_answer_in_progress_and_what_waits_behind_it(gateway: Gateway) -> None:
    gateway.llm.script = [asyncio.Event()]
    await gateway.accept(question("one"))
    await gateway.accept(question("two", message_id="m2"))
    running = asyncio.create_task(gateway.work())
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    gateway.clock.now += 1
    await gateway.accept(question("/stop", message_id="m3", kind=MessageKind.COMMAND))
    await gateway.work("other")
    await running
    assert gateway.platform.phone.texts == ["Stopped.", "answer to\n\n(stopped)"]
    assert gateway.llm.cancelled == 1
    gateway.clock.now += 1
    await gateway.accept(question("three", message_id="m4"))
    await gateway.work()
    assert gateway.platform.phone.texts[-1] == "answer to three"


async def test_reset_forgets_the_answer_still_on_its_way_too(gateway: Gateway) -> None:
    release = asyncio.Event()
    await gateway.accept(question("zero", message_id="m0"))
    await gateway.work()
    gateway.llm.script = [release]
    await gateway.accept(question("one"))
    running = asyncio.create_task(gateway.work())
    while len(gateway.llm.calls) < 2:
        await asyncio.sleep(0.01)
    gateway.clock.now += 1
    await gateway.accept(question("/reset", message_id="m2", kind=MessageKind.COMMAND))
    await gateway.work("other")
    release.set()
    await running
    assert "answer to one" in gateway.platform.phone.texts
    assert await history(gateway) == []


async def test_message_that_kills_its_workers_is_told_and_filed(gateway: Gateway) -> None:
    await gateway.accept(question())
    for worker in range(3):
        gateway.llm.script = [asyncio.Event()]
        leased = await gateway.store.lease(f"worker-{worker}", now=gateway.clock(), ttl_s=15)
        assert leased is not None
        dying = asyncio.create_task(gateway.pipeline.process(*leased))
        while len(gateway.llm.calls) <= worker:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        gateway.clock.now += 16
    await gateway.work()
    assert len(gateway.llm.calls) == 3
    assert gateway.platform.phone.texts[0].startswith("Sorry, I could not answer that")
    (dead,) = await gateway.store.dead_letters()
    assert dead.reason == "poison"


async def test_question_that_waited_too_long_is_told_even_while_the_lane_is_busy(gateway: Gateway) -> None:
    release = asyncio.Event()
    gateway.llm.script = [release]
    await gateway.accept(question("one", sent_at=NOW + 10))
    await gateway.accept(question("two", message_id="m2"))
    running = asyncio.create_task(gateway.work(lease_s=10_000))
    while not gateway.llm.calls:
        await asyncio.sleep(0.01)
    gateway.clock.now += 1805
    assert await gateway.store.expire(now=gateway.clock()) == 1
    await gateway.work("other")
    assert "could not answer your message in time" in gateway.platform.phone.texts[0]
    assert reference_of(question(message_id="m2").delivery_key) in gateway.platform.phone.texts[0]
    release.set()
    await running


async def test_message_of_a_bot_that_is_gone_is_filed(gateway: Gateway) -> None:
    await gateway.accept(question(bot="removed"))
    await gateway.work()
    (dead,) = await gateway.store.dead_letters()
    assert dead.reason == "unknown_bot"


async def test_one_trace_spans_webhook_queue_and_work(gateway: Gateway) -> None:
    with gateway.tracer.start_as_current_span("webhook") as span:
        trace_id = span.get_span_context().trace_id
        from opentelemetry.propagate import inject
        from parley_gateway.store.records import QueuedMessage

        carrier: dict[str, str] = {}
        inject(carrier)
    item = QueuedMessage(question(), NOW, traceparent=carrier["traceparent"])
    await gateway.store.accept(item, now=NOW, dedupe_ttl_s=60)
    await gateway.work()
    spans = {span.name: span for span in gateway.spans.get_finished_spans()}
    process = spans["process inbound"]
    assert process.context.trace_id == trace_id
    assert [link.context.trace_id for link in process.links] == [trace_id]
    assert spans["deliver fake"].parent is not None
    assert spans["deliver fake"].parent.span_id == process.context.span_id
